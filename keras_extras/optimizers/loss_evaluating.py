"""LossEvaluatingOptimizer: the base of optimizers that evaluate the loss themselves."""

import contextlib
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.backend import host_value, without_autograph
from keras_extras._core.checks import check_learning_rate
from keras_extras._core.stateless import assign_eagerly, substituted
from keras_extras._seams.fit_hook import install_fit_hook
from keras_extras._seams.fit_hook.tensorflow import UpdatesOutsideReplicas
from keras_extras.optimizers.between_batches import BetweenBatches, install_between_batches
from keras_extras.optimizers.replicas import (
    check_compilation,
    check_strategy,
    is_shared_out,
    search_over_replicas,
    searching_strategy,
)
from keras_extras.optimizers.step_compilation import StepCompilation, learn_planned_updates


class LossEvaluatingOptimizer(BetweenBatches, UpdatesOutsideReplicas, keras.optimizers.Optimizer):
    """Base class of optimizers that evaluate the loss instead of receiving gradients.

    Used in `model.compile(optimizer=...)`, such an optimizer takes the training steps of stock
    `fit` and `train_on_batch`: for each batch it gets a function from weights to loss, evaluates
    it as often as it likes, and moves the weights. In a custom training loop call
    `optimizer.minimize(loss_fn, variables)`.

    The loss of a batch goes by three names. `loss_fn()` has no arguments and reads the variables,
    as in Keras; `minimize` takes it. `loss_of(values)` is the pure function of the values of the
    variables, with which `search` is called. `loss_at(coordinates)` is that of the coordinates of a
    search that are not the values themselves, such as the logarithms of positive weights.

    A subclass overrides `search`, and `build` for its state. What `search` finds goes through
    `descend`, which brings everything Keras does around an update: learning rate schedules,
    clipping, weight decay, moving averages and the count of iterations.

    The first such optimizer to be constructed connects the class with Keras' trainer.

    Example:

    ```python
    import keras
    from keras import ops
    from keras_extras import optimizers

    class RandomSlope(optimizers.LossEvaluatingOptimizer):
        def __init__(self, learning_rate=0.1, **kwargs):
            super().__init__(learning_rate, **kwargs)
            self.seeds = keras.random.SeedGenerator(1)

        def search(self, loss_of, variables):
            here = [ops.copy(variable) for variable in variables]
            ways = [keras.random.normal(w.shape, seed=self.seeds) for w in here]
            ahead = loss_of([w + 0.01 * way for w, way in zip(here, ways)])
            slope = (ahead - loss_of(here)) / 0.01
            self.descend([slope * way for way in ways], variables)

        def update_step(self, gradient, variable, learning_rate):
            self.assign_sub(variable, learning_rate * gradient)

    w = keras.Variable([3.0, -2.0])
    RandomSlope(0.1).minimize(lambda: ops.sum(w**2), [w])
    ```
    """

    # How many updates a batch brings.
    generations_per_batch = 1
    # How many updates the `fit` that runs is to make, 0 if that is unknown.
    planned_updates = 0
    # Method that returns how much an update saves when compiled by XLA, in numbers computed, and 0
    # if that is unknown. With `None` steps are compiled if `compile` says so, and never else.
    work_per_update: Callable[[], float] | None = None

    def __init__(self, learning_rate: Any, **kwargs: Any):
        for name in ("gradient_accumulation_steps", "loss_scale_factor"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"`{name}` does not apply to {type(self).__name__}, which evaluates the loss "
                    f"and computes no gradients; leave it out. Received: {name}={kwargs[name]!r}"
                )
        check_strategy(type(self).__name__)
        install_fit_hook(LossEvaluatingOptimizer)
        install_between_batches()
        learn_planned_updates()
        super().__init__(check_learning_rate(learning_rate), **kwargs)
        # What compiled steps write and the host reads between executions of them.
        self._failed = self.add_variable((), dtype="bool", name="failed")
        self._has_failed = self.add_variable((), dtype="bool", name="has_failed")
        self._nonfinite = self.add_variable((), dtype="int32", name="nonfinite_candidates")
        self._model: weakref.ref[keras.Model] | None = None
        self._compilation: StepCompilation | None = None

    def search(
        self, loss_of: Callable[[Sequence[Any]], Any], variables: Sequence[keras.Variable]
    ) -> None:
        """Moves `variables` towards a lower loss; to be overridden.

        Args:
            loss_of: A pure function from a list of tensors, one for each variable and of its
                shape, to the scalar loss of the current batch, in float64 if the model's loss is,
                else in float32. It may be mapped with `keras.ops.vectorized_map` and called any
                number of times; random layers see the same random numbers in every call.
            variables: The trainable variables.
        """
        raise NotImplementedError(f"{type(self).__name__} must override `search`.")

    @without_autograph
    def minimize(
        self,
        loss_fn: Callable[[], Any],
        variables: Sequence[keras.Variable],
        batch_size: Any = 1,
    ) -> None:
        """Takes one step towards a lower `loss_fn()`.

        Within `strategy.run` of a `tf.distribute` strategy, towards a lower mean of the losses of
        all replicas: each evaluates the same weights on its share of the batch, and only losses
        are exchanged.

        Args:
            loss_fn: A function without arguments that returns a scalar loss and reads
                `variables`, as in `lambda: keras.ops.mean((model(x) - y) ** 2)`. It is evaluated
                with other values in the variables' place; what it assigns to other variables is
                forgotten. Compile the surrounding step, which is many times faster: on TensorFlow
                by `tf.function`, whose AutoGraph leaves `loss_fn` as it is; on JAX by `jax.jit`,
                with a `keras.StatelessScope` of all variables around the call.
            variables: List of `keras.Variable`s to change.
            batch_size: Integer or scalar tensor, the rows that the loss is a mean of, by which it
                is weighed against those of other replicas. Defaults to `1`.

        Example:

        ```python
        import keras
        import keras_extras

        w = keras.Variable([3.0, -2.0])
        optimizer = keras_extras.optimizers.MonteCarloOptimizer(0.5, seed=1)
        optimizer.minimize(lambda: keras.ops.sum(w**2), [w])
        ```
        """
        if not callable(loss_fn):
            raise TypeError(
                "`loss_fn` must be a function without arguments that returns the loss, as in "
                f"`lambda: loss(y, model(x))`. Received: loss_fn={loss_fn!r}"
            )
        if not isinstance(variables, (list, tuple)) or not all(
            isinstance(variable, keras.Variable) for variable in variables
        ):
            raise TypeError(
                "`variables` must be a list of `keras.Variable`s, such as "
                f"`model.trainable_variables`. Received: variables={variables!r}"
            )
        check_strategy(type(self).__name__)
        variables = list(variables) or self._variables_after_a_call(loss_fn)
        if not variables:
            raise ValueError(
                f"{type(self).__name__} found no trainable variables to change. Check that the "
                "model has layers with weights, that not all of them have `trainable=False`, and "
                "that it is built: call it on a batch before `minimize`. Integers of quantized "
                "layers, which Keras marks as not trainable, are for QuantizedSearch."
            )
        if not self.built:
            self.build(variables)
        if is_shared_out():
            search_over_replicas(lambda fn: self._search(fn, variables), loss_fn, batch_size)
        else:
            changed = [*variables, *self.variables]
            assign_eagerly(lambda: self._search(loss_fn, variables), changed)

    def _variables_after_a_call(self, loss_fn):
        """Those of the model in training, whose first call makes them."""
        model = self._model and self._model()
        if model is None or model.built:
            return []
        loss_fn()
        return list(model.trainable_variables)

    def _search(self, loss_fn, variables):
        self.search(
            lambda values: evaluated_at(values, variables, lambda: (loss_fn(), None))[0], variables
        )
        self.note_failure()

    def note_failure(self) -> None:
        """Keeps in mind, until it is raised between two batches, whether this step failed."""
        self._has_failed.assign(ops.logical_or(self._has_failed, self._failed))

    def take_step(
        self,
        loss_fn: Callable[[], tuple[Any, Any]],
        variables: Sequence[keras.Variable],
        batch_size: Any,
    ) -> tuple[Any, Any]:
        """Takes one step of `fit`, and returns loss and outputs for the logs.

        Args:
            loss_fn: As in `minimize`, but it returns the loss and outputs, any structure of
                tensors.
            variables: List of `keras.Variable`s to change.
            batch_size: Integer or scalar tensor, the rows that the loss is a mean of.

        Returns:
            Its loss and outputs with the weights just found.
        """
        self.minimize(lambda: loss_fn()[0], variables, batch_size)
        return loss_fn()

    def descend(
        self, gradients: Sequence[Any], variables: Sequence[keras.Variable] | None = None
    ) -> None:
        """Applies estimated gradients as Keras applies exact ones; calls `update_step`."""
        super().apply(gradients, variables)

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Always raises: gradients are not what this optimizer works with."""
        raise ValueError(
            f"{type(self).__name__} evaluates the loss itself and takes no gradients, but "
            f"`apply` was called with {len(grads)} of them. If the model overrides `train_step`, "
            "or in a custom training loop, call `optimizer.minimize(loss_fn, variables)` there, "
            "where `loss_fn()` returns the loss of the batch; with `model.fit` and a stock "
            "`train_step` there is nothing to do. In place of an optimizer that holds several, "
            "take PartitionedOptimizer."
        )

    def placed_batch(self, data: Any) -> Any:
        """Returns a batch of `fit` where the search wants it, on JAX."""
        return data

    def traced(self, step: Callable[[Any], Any], data: Any) -> Any:
        """Returns `step(data)` for a batch of `fit`, whose graph is being traced on TensorFlow."""
        return step(data) if self._compilation is None else self._compilation.traced(step, data)

    def explained_errors(self) -> contextlib.AbstractContextManager:
        """Within it, errors of a loss that cannot be compiled name the way out."""
        return contextlib.nullcontext()

    def searching_strategy(self) -> Any:
        """Returns the strategy over whose replicas a search is running, else `None`."""
        return searching_strategy()

    @property
    def failed(self) -> Any:
        """Whether the last step found no candidate with a finite loss and left all as it was."""
        return ops.copy(self._failed)

    def begin_training(self, model: keras.Model) -> None:
        """Forgets what an earlier training run with `model` found wrong."""
        check_strategy(type(self).__name__, getattr(model, "distribute_strategy", None))
        check_compilation(model)
        self._model = weakref.ref(model)
        self._failed.assign(False)
        self._has_failed.assign(False)
        self._nonfinite.assign(0)
        self._compilation = StepCompilation(model, self)

    def before_fit(self) -> None:
        if self._compilation is not None:
            self._compilation.before_fit()

    def before_execution(self) -> None:
        """Raises a ValueError if one of the last steps failed."""
        self.raise_if_failed()
        if self._compilation is not None:
            self._compilation.before_execution()

    @property
    def has_failed(self) -> Any:
        """Whether one of the last steps failed."""
        return ops.copy(self._has_failed)

    def raise_if_failed(self) -> None:
        """Raises a ValueError if one of the last steps failed."""
        if host_value(self._has_failed):
            self._has_failed.assign(False)
            raise ValueError(self.failure())

    def failure(self) -> str:
        """Returns the error message of a failed step."""
        return (
            f"Training stopped: on a batch just before, every candidate of {self.name} had a loss "
            "that is NaN or infinite. That batch left the weights as they were. "
            "Look for NaN in the inputs or targets and for a loss that overflows, or make "
            "the search narrower (a smaller `sigma` or `learning_rate`)."
        )

    def extra_logs(self) -> dict[str, int]:
        """Returns logs of `fit` beside the metrics: candidates with a non-finite loss, if any."""
        count = int(host_value(self._nonfinite))
        return {"nonfinite_candidates": count} if count else {}

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        """Raises if the last batch failed; called by `fit` at its end."""
        super().finalize_variable_values(var_list)
        model = None if self._model is None else self._model()
        if model is not None and not model.stop_training:
            self.raise_if_failed()
        self._failed.assign(False)
        self._has_failed.assign(False)

    def __repr__(self) -> str:
        state = "" if self._compilation is None else self._compilation.state
        return f"<{type(self).__name__} {self.name!r}{state and f', steps {state}'}>"


def evaluated_at(
    values: Sequence[Any],
    variables: Sequence[keras.Variable],
    loss_fn: Callable[[], tuple[Any, Any]],
) -> tuple[Any, Any]:
    """Returns `loss_fn()`, a loss and outputs, with other values in the place of the variables."""
    with substituted(zip(variables, values)):
        loss, outputs = loss_fn()
        loss = ops.convert_to_tensor(loss)
    if getattr(loss.shape, "rank", 0) is None:  # Of `tf.numpy_function`.
        loss = ops.reshape(loss, ())
    if len(loss.shape):
        raise ValueError(
            "`loss_fn` must return a scalar, such as the mean over the batch. "
            f"Received: a loss of shape {tuple(loss.shape)}"
        )
    is_double = keras.backend.standardize_dtype(loss.dtype) == "float64"
    return loss if is_double else ops.cast(loss, "float32"), outputs
