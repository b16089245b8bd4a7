"""HypergradientOptimizer: the base of optimizers that adapt their learning rate by its gradient."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_choice, check_learning_rate, check_number
from keras_extras._core.differentiation import dense
from keras_extras._seams.optimizer_variables import index_of
from keras_extras.optimizers.between_batches import BetweenBatches, install_between_batches

# Of the docstrings of its children.
RAISES = """
    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, if `learning_rate` is a schedule, with
            `gradient_accumulation_steps`, or in training with several replicas.
    """


class HypergradientOptimizer(BetweenBatches, keras.optimizers.Optimizer):
    """Base class of optimizers whose learning rate descends the gradient of the loss.

    A subclass overrides `direction`. The weights move by `-learning_rate * direction`, so that the
    derivative of the loss with respect to the learning rate of the last step is minus the gradient
    times the last direction, summed over all weights.
    """

    def __init__(
        self, learning_rate: float, hypergradient_learning_rate: float, rule: str, **kwargs: Any
    ):
        if kwargs.get("gradient_accumulation_steps") is not None:
            raise ValueError(
                f"`gradient_accumulation_steps` does not apply to {type(self).__name__}, which "
                "compares the gradients of successive updates; take larger batches. Received: "
                f"gradient_accumulation_steps={kwargs['gradient_accumulation_steps']!r}"
            )
        _check_is_no_schedule(self, learning_rate)
        install_between_batches()
        super().__init__(learning_rate=check_learning_rate(learning_rate), **kwargs)
        self.hypergradient_learning_rate = check_number(
            "hypergradient_learning_rate", hypergradient_learning_rate, at_least=0.0
        )
        self.rule = check_choice("rule", rule, ("additive", "multiplicative"))

    def direction(self, gradient: Any, variable: keras.Variable) -> Any:
        """Returns along what, times minus the learning rate, `variable` moves; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must override `direction`.")

    @property
    def learning_rate(self) -> Any:
        """The learning rate as it is now, which may be set to another number."""
        return super().learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        _check_is_no_schedule(self, value)
        keras.optimizers.Optimizer.learning_rate.fset(self, value)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        # For none it is built by Keras' loader of `.h5`, before the weights are known.
        if self.built or not variables:
            return
        variables = list(variables)
        super().build(variables)
        self._directions = self.add_state(variables, "direction")

    def add_state(self, variables: Sequence[keras.Variable], name: str) -> list[keras.Variable]:
        """Adds a variable of zeros for each of `variables`."""
        return [self.add_variable_from_reference(v, name) for v in variables]

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        _check_one_replica(self)
        grads = dense(grads)
        if self.built and any(g is not None for g in grads):
            self._adapt(grads, trainable_variables)
        super().apply(grads, trainable_variables)

    def _adapt(self, gradients, variables):
        """Moves the learning rate; before the first step all directions are zero."""
        directions = self._directions
        if variables is not None:
            directions = [directions[index_of(self, v)] for v in variables]
        pairs = [
            (ops.cast(g, "float32"), ops.cast(d, "float32"))
            for g, d in zip(gradients, directions)
            if g is not None
        ]
        scale = self.loss_scale_factor or 1.0
        product = sum(ops.sum(g * d) for g, d in pairs) / scale
        rate = ops.cast(self.learning_rate, "float32")
        if self.rule == "additive":
            rate = rate + self.hypergradient_learning_rate * product
        else:
            squares = [sum(ops.sum(part**2) for part in parts) for parts in zip(*pairs)]
            lengths = ops.sqrt(squares[0]) * ops.sqrt(squares[1]) / scale
            cosine = ops.where(lengths > 0.0, product / lengths, 0.0)
            rate = rate * (1.0 + self.hypergradient_learning_rate * cosine)
        self.learning_rate = ops.maximum(rate, 0.0)

    def update_step(self, gradient, variable, learning_rate) -> None:
        direction = self.direction(ops.cast(gradient, variable.dtype), variable)
        self.assign(self._directions[index_of(self, variable)], direction)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * direction)

    def extra_logs(self) -> dict[str, Any]:
        """Returns logs of `fit` beside the metrics: the learning rate."""
        return {"learning_rate": ops.copy(self.learning_rate)}

    def get_config(self) -> dict[str, Any]:
        names = ("hypergradient_learning_rate", "rule")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _check_one_replica(optimizer):
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1:
        raise ValueError(
            f"{type(optimizer).__name__} adapts its learning rate by the gradient of the whole "
            f"batch and works with one replica. Received: a strategy of {replicas} replicas"
        )


def _check_is_no_schedule(optimizer, learning_rate):
    if isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule) or callable(
        learning_rate
    ):
        raise ValueError(
            f"`learning_rate` must be a number, from which on {type(optimizer).__name__} adapts it "
            "itself; a schedule would undo that. Give a schedule to keras.optimizers.SGD or Adam. "
            f"Received: learning_rate={learning_rate!r}"
        )
