"""UnrolledTraining: the training of a model as one differentiable function."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_extras._core.backend import require_tensorflow_or_jax
from keras_extras._core.checks import check_choice, check_flag, check_integer
from keras_extras._core.data import paired_targets
from keras_extras._core.differentiation import value_and_gradients
from keras_extras._core.precision import widest_float
from keras_extras.autodiff.second_derivatives import check_model
from keras_extras.unrolled import backend, exact_reversal
from keras_extras.unrolled.batches import Batches, batches_of, constant, validation_tensors
from keras_extras.unrolled.checkpoints import CheckpointedPath
from keras_extras.unrolled.compiled_training import CompiledTraining
from keras_extras.unrolled.differentiability import (
    check_data_gradient,
    check_gradients_exist,
    updated_statistics,
)
from keras_extras.unrolled.exact_reversal_in_one_loop import ReversiblePathInOneLoop
from keras_extras.unrolled.hyperparameters import read_hyperparameters
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
        self._losses = WeightedLosses(loss, model)
        self._hyperparameters = read_hyperparameters(
            hyperparameters,
            list(self._rule.settings),
            model.trainable_variables,
            self._losses.names,
            self.steps,
        )
        if memory == "reversal":
            self._rule = exact_reversal.reversible(self._rule)
            rates = [h.name for h in self._hyperparameters if h.sets_rate]
            if rates:
                raise ValueError(
                    '`memory="reversal"` undoes steps of one learning rate for all weights; take '
                    f'memory="checkpoints". Received: the hyperparameters {rates}'
                )
        self._values = {h.name: h.start for h in self._hyperparameters}
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
        data = self._data(x, y)
        validation = None if validation_data is None else self._validation(validation_data)
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
            unknown = set(values) - set(self._values)
            if unknown:
                raise ValueError(
                    f"Values must be of the hyperparameters {list(self._values)}. "
                    f"Received: {sorted(unknown)}"
                )
            return evaluate({**self._values, **values})[:2]

        return loss_and_gradient

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

    def _evaluation(self, x, y, validation_data):
        """A function from hyperparameters to validation loss, gradient, and losses of the steps."""
        data, validation = self._data(x, y), self._validation(validation_data)
        compiled = self._compile(data)

        def evaluate(values):
            values = {h.name: h.check(values[h.name]) for h in self._hyperparameters}
            loss, gradients, losses = compiled.differentiate(
                values, self._weights, self._statistics, data, validation
            )
            self._check_finite(losses)
            gradients = {name: np.asarray(g, "float64") for name, g in gradients.items()}
            faults = [name for name, g in gradients.items() if not np.isfinite(g).all()]
            if faults or not np.isfinite(loss):
                raise ValueError(
                    "The hypergradient must be finite; where training is and this is not, it grew "
                    "beyond all numbers on the way back: lower the learning rates or take fewer "
                    f"steps. Received: a validation loss of {float(loss):g}, and NaN or infinity "
                    f"in the gradient of {faults}"
                )
            return float(loss), gradients, ops.convert_to_numpy(losses)

        return evaluate

    def _validation(self, validation_data):
        x, y, *weights = validation_tensors(validation_data, self.model)
        return x, self._paired(x, y, *weights), *weights

    def _paired(self, x, y, sample_weight=None):
        outputs = self.model(keras.tree.map_structure(lambda t: t[:1], x))
        return paired_targets(y, outputs, self._losses.given, self._losses.names, sample_weight)

    def _data(self, x, y):
        x, y = self._learned("x", x), self._learned("y", y)
        data = batches_of(x, y, self.steps, self.batch_size, self.seed, self.model)
        paired = self._paired(data.x, data.y)
        shapes = [tuple(t.shape) for t in keras.tree.flatten(paired)]
        if "y" in self._values and shapes != [self._values["y"].shape]:
            raise ValueError(
                "The hyperparameter 'y' must have the shape of the one output. Received: shape "
                f"{self._values['y'].shape} for targets of shapes {shapes}"
            )
        data = data._replace(y=paired)
        for h in self._hyperparameters:
            if h.varies_over == "rows" and len(h.start) != data.rows:
                raise ValueError(
                    f"The hyperparameter {h.name!r} must have one value for each row of `x`. "
                    f"Received: {len(h.start)} values for {data.rows} rows"
                )
        return data

    def _learned(self, name, given):
        """The training data of a name: those given, or the hyperparameter."""
        if name not in self._values:
            if given is None:
                raise ValueError(
                    f"`{name}` must be given, unless it is a hyperparameter. Received: {name}=None"
                )
            return given
        if given is not None:
            raise ValueError(
                f"`{name}` must be None where it is a hyperparameter, whose value is trained on. "
                f"Received: {name} of type {type(given).__name__}"
            )
        return self._values[name].astype(self.model.trainable_variables[0].dtype)

    def _compile(self, data):
        """The compiled functions, made when the first data are seen, and checked on two rows."""
        if self._compiled is not None:
            return self._compiled
        rows = keras.tree.map_structure(lambda t: t[:2], (data.x, data.y))
        self._updated = updated_statistics(self.model, rows[0])
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
        values = {h.name: ops.convert_to_tensor(h.start, step.dtype) for h in self._hyperparameters}
        first = Batches(*rows, data.order[:1] * 0)
        at = step.values_at(values, 0, first.order[0])
        _, gradients, _ = backend.tried(
            lambda: step.gradients(0, self._weights, self._statistics, at, first)
        )
        check_gradients_exist(self.model, self.model.trainable_variables, gradients, rows[0])
        for name in {"x", "y"} & set(at):
            check_data_gradient(
                name,
                backend.tried(
                    lambda name=name: value_and_gradients(
                        lambda rows: step.gradients(
                            0, self._weights, self._statistics, {**at, name: rows[0]}, first
                        )[0],
                        [at[name]],
                    )[1][0]
                ),
            )
        check_model(
            self.model,
            lambda weights: step.gradients(0, weights, self._statistics, at, first)[1],
            self._weights,
            rows[0],
            training=True,
        )
        if self.memory == "reversal":
            if backend.BLOCKS_ROUND_ALIKE:
                path = exact_reversal.ReversiblePath(step, self.steps, self.jit_compile)
            else:
                path = ReversiblePathInOneLoop(step, self.steps, self.jit_compile)
        else:
            path = CheckpointedPath(step, self.steps, self.memory == "all", self.jit_compile)
        self._compiled = CompiledTraining(step, path, self.jit_compile)
        return self._compiled

    def _check_finite(self, losses):
        faults = np.flatnonzero(~np.isfinite(losses))
        if len(faults):
            raise ValueError(
                "Training must stay finite; lower the learning rates or initial scales. Received: "
                f"a loss that is NaN or infinite at step {faults[0]} of {self.steps}"
            )
