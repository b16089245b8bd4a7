"""UnrolledTraining: the training of a model as one differentiable function."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_extras._core.backend import require_tensorflow_or_jax
from keras_extras._core.checks import check_choice, check_flag, check_integer
from keras_extras._core.precision import widest_float
from keras_extras.unrolled import exact_reversal
from keras_extras.unrolled.batches import constant
from keras_extras.unrolled.compilation import check_step, compiled_training
from keras_extras.unrolled.diagnosis import (
    HypergradientDiagnosis,
    diagnosis_of,
    warn_of_growth,
)
from keras_extras.unrolled.differentiability import updated_statistics
from keras_extras.unrolled.hyperparameters import OF_THE_START, read_hyperparameters
from keras_extras.unrolled.training_data import TrainingData
from keras_extras.unrolled.training_step import TrainingStep
from keras_extras.unrolled.update_rules import update_rule
from keras_extras.unrolled.weighted_losses import WeightedLosses

# Beyond, the table of the rows of each step does not fit into memory.
_MOST_STEPS = 10**7


class TrainingRun(NamedTuple):
    """Result of `UnrolledTraining.run`.

    Args:
        weights: List of arrays, of the model's trainable variables after the last step.
        losses: Array of the loss on each step's batch, penalties included, before its update.
        validation_loss: Float, or `None` without validation data.
        statistics: List of arrays, moving averages and the like that training updates.
    """

    weights: list
    losses: np.ndarray
    validation_loss: float | None
    statistics: list


class UnrolledTraining:
    """Training as a function of its hyperparameters, which has a gradient.

    With w_0 the initial weights and U the update of the optimizer, training is

    ```
    s_(t+1) = U(s_t, grad L_t(w_t; h), h),  t = 0 ... steps - 1,    s = (w, what U keeps)
    ```

    and the hypergradient is d L_validation(w_steps) / dh, by reverse mode through all steps
    (Maclaurin, Duvenaud and Adams, "Gradient-based Hyperparameter Optimization through Reversible
    Learning", 2015, arXiv:1502.03492). `fit` descends it.

    Hyperparameters and their names:

    | name | value |
    |---|---|
    | `"learning_rate"` | number, or one for each step |
    | `"learning_rate/<pattern>"` | of these weights alone: number, or an array broadcast to them |
    | `"momentum"` (SGD, RMSprop), `"rho"`, `"beta_1"`, `"beta_2"` | number, or one for each step |
    | `"weight_decay"`, `"ema_momentum"` (`use_ema=True`) | likewise |
    | `"l2/<pattern>"` | penalty `l2 * w ** 2`: number, or an array broadcast to the weights |
    | `"initial_weights/<pattern>"` | initial weights: an array, or `None` for the model's own |
    | `"initial_scale/<pattern>"` | factor on the initial weights, likewise |
    | `"loss_weight/<output>"` | number, factor on the loss of one of several outputs |
    | `"loss/<argument>"` | argument of a loss that is a function: number or array |
    | `"sample_weight"` | one number for each row of the training data |
    | `"x"`, `"y"` | the training data themselves, an array; methods get `None` in their place |

    `PerStep(0.1)` and `PerWeight(1e-3)` fill in one value for each step or entry of the weights.
    Patterns are matched with paths of variables or their ends; of several the first counts.

    Every run starts from the weights that the model had at construction and sees the same batches.
    Random layers such as dropout draw from a seed that is fixed for each step. Moving statistics of
    batch normalization are part of what training updates, and differentiated too.

    Args:
        model: Built Keras model.
        optimizer: `keras.optimizers.SGD` (with momentum and Nesterov's too), `RMSprop`, `Adam` or
            `AdamW`, or a name. Its configuration gives the settings that are not hyperparameters: a
            schedule of the learning rate, weight decay, clipping, and the moving average of the
            weights (`use_ema`), which training ends with.
        loss: Keras loss, its name, or a function of `y_true` and `y_pred`; for several outputs a
            list or dict of them.
        steps: Integer, the number of updates.
        hyperparameters: Dict from names to the values where they start.
        batch_size: Integer, or `None` for all rows in each step. Batches follow each other through
            shuffled epochs; one may hold the last rows of one epoch and the first of the next.
            Defaults to `32`.
        memory: How a step's weights come back on the way backwards. `"all"` keeps those of every
            step; `"checkpoints"` keeps every `sqrt(steps)`-th and trains again from there;
            `"reversal"`, for SGD with momentum, undoes the steps exactly, in integers, and keeps
            the bits that rounding drops. Defaults to `"all"`.
        seed: Integer, of the order of the rows and of random layers. Defaults to `0`.
        jit_compile: Boolean, whether to compile with XLA, as JAX does in any case. Defaults to
            `True`.
        validation_loss: The loss on validation data, as `loss`, whose arguments are not learned;
            required where those of `loss` are. Defaults to `None`, `loss`.
        truncate: Integer, how many of the last steps the way back has (truncated backpropagation);
            the other steps count as constant, and their hyperparameters get gradients of 0.
            Defaults to `None`, all.

    Raises:
        TypeError, ValueError: If a name matches nothing, a schedule has the wrong length, weights
            have constraints, or the memory mode and the optimizer do not fit together.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import unrolled

    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    y = x @ np.array([[1.0], [-1.0], [0.5]], "float32")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="dense")])
    training = unrolled.UnrolledTraining(
        model,
        optimizer=keras.optimizers.SGD(0.01, momentum=0.5),
        loss="mse",
        steps=10,
        batch_size=16,
        hyperparameters={
            "learning_rate": unrolled.PerStep(0.01),
            "momentum": 0.5,
            "l2/dense/kernel": 1e-3,
        },
    )
    data = {"x": x[:48], "y": y[:48], "validation_data": (x[48:], y[48:])}
    loss, gradients = training.hypergradient(**data)
    gradients["learning_rate"]  # one number for each step
    history = training.fit(
        **data, meta_optimizer=keras.optimizers.Adam(0.1), meta_steps=5, verbose=0
    )
    history.history["val_loss"]  # falls
    training.hyperparameters["learning_rate"]  # the schedule learned
    ```
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: Any,
        loss: Any,
        steps: int,
        hyperparameters: Mapping[str, Any],
        batch_size: int | None = 32,
        memory: str = "all",
        seed: int = 0,
        jit_compile: bool = True,
        validation_loss: Any = None,
        truncate: int | None = None,
    ):
        require_tensorflow_or_jax("UnrolledTraining")
        if not isinstance(model, keras.Model) or not model.built or not model.trainable_variables:
            raise ValueError(
                "`model` must be a built Keras model with trainable weights; give it an "
                f"`Input` or call it on data first. Received: model={model!r}"
            )
        constrained = [v.path for v in model.trainable_variables if v.constraint is not None]
        if constrained:
            raise ValueError(
                "`model` must have no constraints of its weights, which training as a function "
                "does not keep; compute such a weight from a free one, as in "
                f"`keras.ops.softplus(w)`. Received: constraints of {constrained}"
            )
        self.steps = check_integer("steps", steps)
        if self.steps > _MOST_STEPS:
            raise ValueError(f"`steps` must be at most {_MOST_STEPS:,}. Received: steps={steps}")
        self.batch_size = None if batch_size is None else check_integer("batch_size", batch_size)
        self.memory = check_choice("memory", memory, ("all", "checkpoints", "reversal"))
        self.seed = check_integer("seed", seed, minimum=0)
        self.model = model
        self.jit_compile = check_flag("jit_compile", jit_compile)
        self._rule = update_rule(
            optimizer, self.steps, tuple(hyperparameters), model.trainable_variables
        )
        self._losses = WeightedLosses(loss, model, validation_loss)
        self._hyperparameters = read_hyperparameters(
            hyperparameters,
            list(self._rule.settings),
            model.trainable_variables,
            self._losses.names,
            self.steps,
        )
        self._losses.learn([h.targets[0] for h in self._hyperparameters if h.kind == "loss"])
        self._data = TrainingData(
            model, self._losses, self._hyperparameters, self.steps, self.batch_size, self.seed
        )
        self.truncate = None if truncate is None else check_integer("truncate", truncate)
        self._check_truncation()
        if memory == "reversal":
            self._rule = exact_reversal.reversible(self._rule)
            rates = [h.name for h in self._hyperparameters if h.sets_rate]
            if rates:
                raise ValueError(
                    '`memory="reversal"` undoes steps of one learning rate for all weights; take '
                    f'memory="checkpoints". Received: the hyperparameters {rates}'
                )
        self._values = {h.name: h.start for h in self._hyperparameters}
        self._warns = True
        self._weights = list(map(constant, model.trainable_variables))
        self._compiled = None

    @property
    def hyperparameters(self) -> dict[str, np.ndarray]:
        """Names and current values of the hyperparameters, copies."""
        return {name: value.copy() for name, value in self._values.items()}

    def run(self, x: Any, y: Any, validation_data: tuple | None = None) -> TrainingRun:
        """Trains with the current hyperparameters; the model's own weights stay as they are.

        Args:
            x: Inputs, an array or a structure of arrays.
            y: Targets, likewise.
            validation_data: Tuple `(x, y)` or `(x, y, sample_weight)`. Defaults to `None`.

        Returns:
            A `TrainingRun` with the fields `weights`, `losses`, `validation_loss` and
            `statistics`.

        Raises:
            ValueError: If the data do not fit, or the loss is NaN or infinite.
        """
        data = self._data.training(x, y, self._values)
        validation = None if validation_data is None else self._data.validation(validation_data)
        compiled = self._compile(data)
        state, losses = compiled.train(self._values, self._weights, self._statistics, data)
        self._check_finite(losses)
        loss = None if validation is None else float(compiled.validate(state, validation))
        weights, statistics = (
            [ops.convert_to_numpy(t) for t in part]
            for part in (compiled.trained(state), state.statistics)
        )
        return TrainingRun(weights, ops.convert_to_numpy(losses), loss, statistics)

    def assign(self, run: TrainingRun) -> None:
        """Gives the model the weights of a run.

        Args:
            run: The result of `run`.
        """
        variables = [*self.model.trainable_variables, *self._updated]
        for variable, value in zip(variables, [*run.weights, *run.statistics]):
            variable.assign(value)

    def hypergradient(
        self, x: Any, y: Any, validation_data: tuple
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Returns the validation loss after training, and its gradient.

        Args:
            x: Inputs, an array or a structure of arrays.
            y: Targets, likewise.
            validation_data: Tuple `(x, y)` or `(x, y, sample_weight)`.

        Returns:
            The loss, without any penalty or learned weight of losses or rows, and a dict from the
            names of the hyperparameters to arrays.

        Raises:
            ValueError: If the data do not fit, or something is NaN or infinite.
        """
        return self.objective(x, y, validation_data)({})

    def objective(
        self, x: Any, y: Any, validation_data: tuple
    ) -> Callable[[Mapping[str, Any]], tuple[float, dict[str, np.ndarray]]]:
        """Returns a plain function for other optimizers: from hyperparameters to loss and gradient.

        Args:
            x: Inputs, an array or a structure of arrays.
            y: Targets, likewise.
            validation_data: Tuple `(x, y)` or `(x, y, sample_weight)`.

        Returns:
            A function from a dict of named values, where those left out keep their current ones, to
            the validation loss and a dict of its gradients.
        """
        evaluate = self._evaluation(x, y, validation_data)

        def loss_and_gradient(values):
            return evaluate(self._all_values(values))[:2]

        return loss_and_gradient

    def diagnose(self, x: Any, y: Any, validation_data: tuple) -> HypergradientDiagnosis:
        """Returns how derivatives grow in the backward pass, and if a hypergradient is reliable.

        Args:
            x: Inputs, an array or a structure of arrays.
            y: Targets, likewise.
            validation_data: Tuple `(x, y)` or `(x, y, sample_weight)`.

        Returns:
            A `HypergradientDiagnosis` of the current hyperparameters, with the fields
            `adjoint_norms`, `spectral_radius`, `growth` and `truncate`, and the property
            `is_trustworthy`.

        Raises:
            ValueError: If the data do not fit, or training does not stay finite.
        """
        return self._differentiation(x, y, validation_data)(self._values)[3]

    def stateless_run(
        self, hyperparameters: Mapping[str, Any], x: Any, y: Any
    ) -> tuple[list, list]:
        """Returns the variables of the trained model as tensors, for outer derivatives.

        Args:
            hyperparameters: Dict from names to tensors; those left out keep their current values.
            x: Inputs, an array or a structure of arrays.
            y: Targets, likewise.

        Returns:
            Lists of trainable and of non-trainable variables, in the order of the model's, for
            `model.stateless_call(trainable, non_trainable, x)`. They have first derivatives with
            respect to `hyperparameters`, by `tf.GradientTape` or `jax.grad`, outside of compiled
            functions. They are NaN or infinite if training diverges.

        Raises:
            ValueError: If the data do not fit, a name is unknown, a value has another shape, or
                `memory` is `"reversal"`.

        Example:

        ```python
        import keras
        import numpy as np
        from keras_extras import unrolled

        x = np.linspace(-1.0, 1.0, 20)[:, None]
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        training = unrolled.UnrolledTraining(
            model, "sgd", "mse", steps=5, hyperparameters={"learning_rate": 0.1}, batch_size=None
        )
        trainable, non_trainable = training.stateless_run({"learning_rate": 0.2}, x, 2.0 * x)
        outputs, _ = model.stateless_call(trainable, non_trainable, x)
        ```
        """
        values = self._all_values(hyperparameters)
        if self.memory == "reversal":
            raise ValueError(
                '`memory` must be "all" or "checkpoints" for `stateless_run`. '
                'Received: memory="reversal"'
            )
        data = self._data.training(x, y, self._values)
        compiled = self._compile(data)
        for h in self._hyperparameters:
            if tuple(ops.shape(values[h.name])) != h.start.shape:
                raise ValueError(
                    f"The hyperparameter {h.name!r} must have shape {h.start.shape}. "
                    f"Received: shape {tuple(ops.shape(values[h.name]))}"
                )
        weights, statistics = compiled.differentiable(values, self._weights, self._statistics, data)
        updated = {id(v): t for v, t in zip(self._updated, statistics)}
        others = self.model.non_trainable_variables
        return weights, [updated.get(id(v), ops.convert_to_tensor(v)) for v in others]

    def fit(
        self,
        x: Any,
        y: Any,
        validation_data: tuple,
        meta_optimizer: Any = "adam",
        meta_steps: int = 30,
        verbose: int = 1,
    ) -> keras.callbacks.History:
        """Learns the hyperparameters, and leaves the model with the weights that they train.

        Positive hyperparameters are descended in their logarithm, momenta and other decay rates in
        their logit, log(m / (1 - m)): they stay in range, and a step is a factor. Initial weights
        and training data are descended as they are.

        Args:
            x: Inputs, an array or a structure of arrays.
            y: Targets, likewise.
            validation_data: Tuple `(x, y)` or `(x, y, sample_weight)`.
            meta_optimizer: Keras optimizer of the hyperparameters, or its name. Defaults to
                `"adam"`.
            meta_steps: Integer, the number of its updates. Defaults to `30`.
            verbose: 0 for silence, 1 for a progress bar. Defaults to `1`.

        Returns:
            A Keras `History`: `loss`, the mean over the steps of a run, and `val_loss`, after it;
            at the start and after each update.

        Raises:
            ValueError: If the data do not fit, a hyperparameter starts at 0, or something becomes
                NaN or infinite.
        """
        meta_steps = check_integer("meta_steps", meta_steps)
        check_choice("verbose", verbose, (0, 1, 2))
        meta_optimizer = keras.optimizers.get(meta_optimizer)
        learned = self._hyperparameters
        free = [
            keras.Variable(
                h.to_unconstrained(self._values[h.name]), dtype=widest_float(), name="free"
            )
            for h in learned
        ]
        meta_optimizer.build(free)
        evaluate = self._evaluation(x, y, validation_data)
        progress = keras.utils.Progbar(
            meta_steps, stateful_metrics=["loss", "val_loss"], verbose=verbose
        )
        history = keras.callbacks.History()
        history.set_model(self.model)
        history.on_train_begin()
        for meta_step in range(meta_steps):
            loss, gradients, losses = evaluate(self._values)
            logs = {"loss": float(np.mean(losses)), "val_loss": loss}
            history.on_epoch_end(meta_step, logs)
            progress.update(meta_step + 1, list(logs.items()), finalize=False)
            steps = [
                h.unconstrained_gradient(self._values[h.name], gradients[h.name]) for h in learned
            ]
            meta_optimizer.apply(list(map(ops.convert_to_tensor, steps)), free)
            self._values = {
                h.name: h.from_unconstrained(np.asarray(v)) for h, v in zip(learned, free)
            }
        run = self.run(x, y, validation_data)
        logs = {"loss": float(np.mean(run.losses)), "val_loss": run.validation_loss}
        history.on_epoch_end(meta_steps, logs)
        progress.update(meta_steps, list(logs.items()), finalize=True)
        self.assign(run)
        return history

    def _all_values(self, values):
        """The hyperparameters, with the values that are given."""
        if not isinstance(values, Mapping):
            raise TypeError(
                "Values must be a dict from names of hyperparameters, such as "
                f'{{"learning_rate": 0.1}}. Received: {values!r}'
            )
        unknown = set(values) - set(self._values)
        if unknown:
            raise ValueError(
                f"Values must be of the hyperparameters {list(self._values)}. "
                f"Received: {sorted(unknown)}"
            )
        return {**self._values, **values}

    def _differentiation(self, x, y, validation_data):
        """From hyperparameters to validation loss, gradient, losses of the steps, and diagnosis."""
        data = self._data.training(x, y, self._values)
        validation = self._data.validation(validation_data)
        compiled = self._compile(data)

        def differentiate(values):
            values = {h.name: h.check(values[h.name]) for h in self._hyperparameters}
            loss, gradients, losses, norms = compiled.differentiate(
                values, self._weights, self._statistics, data, validation
            )
            self._check_finite(losses)
            gradients = {name: np.asarray(g, "float64") for name, g in gradients.items()}
            norms = ops.convert_to_numpy(norms)[-(self.truncate or self.steps) :]
            return float(loss), gradients, ops.convert_to_numpy(losses), diagnosis_of(norms)

        return differentiate

    def _evaluation(self, x, y, validation_data):
        """The same, checked, without the diagnosis."""
        differentiate = self._differentiation(x, y, validation_data)

        def evaluate(values):
            loss, gradients, losses, diagnosis = differentiate(values)
            faults = [name for name, g in gradients.items() if not np.isfinite(g).all()]
            if faults or not np.isfinite(loss):
                raise ValueError(
                    "The hypergradient must be finite; where training is and this is not, it grew "
                    "beyond all numbers on the way back: lower the learning rates, take fewer "
                    f"steps, or pass truncate={diagnosis.truncate or self.steps // 2}. Received: "
                    f"a validation loss of {loss:g}, and NaN or infinity in the gradient of "
                    f"{faults}"
                )
            if self._warns:
                warn_of_growth(diagnosis)
            self._warns &= diagnosis.is_trustworthy
            return loss, gradients, losses

        return evaluate

    def _check_truncation(self):
        if self.truncate is None:
            return
        if self.truncate > self.steps or self.memory == "reversal":
            raise ValueError(
                '`truncate` must be at most `steps`, and `memory` not "reversal". Received: '
                f"truncate={self.truncate}, steps={self.steps}, memory={self.memory!r}"
            )
        starts = [h.name for h in self._hyperparameters if h.kind in OF_THE_START]
        if starts and self.truncate < self.steps:
            raise ValueError(
                "`truncate` leaves the first steps out of the way back, so that initial weights "
                f"have no gradient. Received: truncate={self.truncate} and the hyperparameters "
                f"{starts}"
            )

    def _compile(self, data):
        """The compiled functions, made when the first data are seen, and checked on two rows."""
        if self._compiled is not None:
            return self._compiled
        self._updated = updated_statistics(self.model, keras.tree.map_structure(_two, data.x))
        if self._updated and self.memory == "reversal":
            raise ValueError(
                '`memory="reversal"` cannot undo the moving statistics that training updates; '
                'take memory="checkpoints". Received: a model with '
                f"{', '.join(repr(v.path) for v in self._updated)}"
            )
        self._statistics = list(map(constant, self._updated))
        step = TrainingStep(
            self.model,
            self._losses,
            self._rule,
            self._hyperparameters,
            self._updated,
            self.seed,
        )
        check_step(step, self.model, self._updated, data)
        self._compiled = compiled_training(
            step, self.steps, self.memory, self.truncate, self.jit_compile
        )
        return self._compiled

    def _check_finite(self, losses):
        faults = np.flatnonzero(~np.isfinite(losses))
        if len(faults):
            raise ValueError(
                "Training must stay finite; lower the learning rates or initial scales. Received: "
                f"a loss that is NaN or infinite at step {faults[0]} of {self.steps}"
            )


def _two(rows):
    return rows[:2]
