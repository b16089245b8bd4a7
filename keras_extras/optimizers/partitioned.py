"""PartitionedOptimizer: some variables by sampling, the rest by gradients, in one `fit`."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from keras_extras._core.differentiation import value_and_gradients
from keras_extras._core.registration import serializable
from keras_extras._core.stateless import cond, is_stateless
from keras_extras._seams.fit_hook.tensorflow import gradients_of_all
from keras_extras._seams.optimizer_variables import trained_variables
from keras_extras.optimizers.loss_evaluating import LossEvaluatingOptimizer
from keras_extras.optimizers.optimizer_map import (
    check_optimizer_map,
    deserialize_optimizer_map,
    optimizers_of,
    owners_of,
    serialize_optimizer_map,
)
from keras_extras.optimizers.replicas import mean_over_replicas, searching_strategy

_NO_LEARNING_RATE = (
    "A PartitionedOptimizer has no learning rate itself: each of its `optimizers` has one. "
    "Get or set `optimizer.optimizers[0].learning_rate`, or give that optimizer a schedule."
)


@serializable
class PartitionedOptimizer(LossEvaluatingOptimizer):
    """Trains each variable by an optimizer chosen for it, by gradients or by sampling.

    Use it where a few weights have no gradient, sit behind a rounding or are bound by a transform,
    and the many others have one: those few are searched by `MonteCarloOptimizer` or `CMAES`, and
    Adam trains the rest. There may be any number of optimizers of either kind.

    On each batch all of them start from the same weights. The gradient of the loss is taken there,
    once for all variables that gradients train, and each search varies its own variables while
    all others stay where they are. Then all move together, so the order of the optimizers does
    not matter. A search sees the loss with the network around it as it is, so its variables follow
    as the network learns.

    When a search finds no candidate with a finite loss, training stops with a `ValueError` and all
    variables stay as they were before that batch. A gradient that is not finite does what it does
    in Keras, and under `mixed_float16` the loss is scaled for its gradient as in Keras.

    It takes the place of `keras.optimizers.MultiOptimizer`, which has gradients only, and has its
    shape: `optimizers` lists the parts, each with its own learning rate. Keras 3.15 and newer
    set these by `LearningRateScheduler` and `ReduceLROnPlateau`; the whole has none. A step takes
    one more pass through the model than in Keras, for the loss in the logs is that of the weights
    after it.

    Args:
        optimizer_map: Dict from patterns to optimizers, their names such as `"adam"`, their
            classes or their configurations. A pattern is matched as in `fnmatch` with
            `variable.path` or with its end, and the first that matches counts:
            `{"*/alpha": CMAES(), "*": "adam"}`. A `keras.optimizers.OptimizerMap` of regular
            expressions is taken as well.
        name: String. Defaults to `"partitioned"`.

    Raises:
        TypeError: If `optimizer_map` is no mapping.
        ValueError: If an entry is no optimizer, is given twice, or scales the loss; when training
            starts, if a trainable variable matches no pattern or a pattern gets no variable.

    Example:

    ```python
    import keras
    import keras_extras
    import numpy as np

    x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
    y = np.round(3.0 * np.tanh(x[:, :1]))


    class Rounded(keras.layers.Layer):
        def build(self, input_shape):
            self.scale = self.add_weight(name="scale", initializer="ones")

        def call(self, x):
            return x + keras.ops.round(self.scale * x)


    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1), Rounded()])
    sampled = keras_extras.optimizers.MonteCarloOptimizer(0.02, population_size=16, sigma=0.2)
    model.compile(
        keras_extras.optimizers.PartitionedOptimizer({"*/scale": sampled, "*": "adam"}), "mse"
    )
    model.fit(x, y, batch_size=64, epochs=2, verbose=0)
    ```
    """

    def __init__(self, optimizer_map: Mapping[str, Any], name: str = "partitioned"):
        super().__init__(learning_rate=0.0, name=name)
        self.optimizer_map = check_optimizer_map(optimizer_map)
        self._parts: list[_Part] = []

    @property
    def optimizers(self) -> list[keras.optimizers.Optimizer]:
        """The optimizers, in the order of their patterns."""
        return optimizers_of(self.optimizer_map)

    @property
    def learning_rate(self) -> Any:
        raise AttributeError(_NO_LEARNING_RATE)

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        raise AttributeError(_NO_LEARNING_RATE)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        # For none it is built by Keras' loader of `.h5`, before the weights are known.
        if self.built or not variables:
            return
        variables = list(variables)
        owners = owners_of(self.optimizer_map, variables)
        for optimizer in self.optimizers:
            part = [v for v, owner in zip(variables, owners) if owner is optimizer]
            if part:
                optimizer.build(part)
                self._parts.append(_Part(optimizer, part))
        super().build(variables)

    @property
    def variables(self) -> list[keras.Variable]:
        return [*super().variables, *(v for o in self.optimizers for v in o.variables)]

    def set_weights(self, weights: Sequence[Any]) -> None:
        if not self.built:
            super().set_weights(weights)  # Raises.
        for variable, weight in zip(self.variables, weights, strict=True):
            variable.assign(weight)

    def search(self, loss_of: Callable, variables: Sequence[keras.Variable]) -> None:
        self._check_variables(variables)
        before = {id(v): ops.copy(v) for v in variables}

        def loss_of_some(moved, values):
            values = {**before, **dict(zip(map(id, moved), values))}
            return loss_of([values[id(v)] for v in variables])

        scaler = self._scaler()

        def gradients_at(values):
            return value_and_gradients(
                lambda values: scaler.scale_loss(loss_of_some(self._descended, values)), values
            )[1]

        gradients = mean_over_replicas(gradients_at, [before[id(v)] for v in self._descended])
        self._check_gradients(gradients)
        descend = functools.partial(self._descend, scaler, gradients)
        searches = [part for part in self._parts if part.searches]
        if searches:
            self._search_parts(searches, loss_of_some, before)
            cond(self.failed, lambda: None, descend)
        else:
            descend()
        self.iterations.assign_add(1)

    def _check_variables(self, variables):
        known = {id(v) for part in self._parts for v in part.variables}
        if {id(v) for v in variables} != known:
            raise ValueError(
                f"{self.name} was built for other variables; make a new one, of new optimizers, "
                f"for these. Received: {', '.join(repr(v.path) for v in variables)}"
            )

    def _search_parts(self, searches, loss_of_some, before):
        """Lets each search vary its variables; if one fails, none has moved."""
        for part in searches:
            loss_of = functools.partial(loss_of_some, part.variables)
            part.optimizer.search(loss_of, part.variables)
        failed = functools.reduce(ops.logical_or, [part.optimizer.failed for part in searches])
        self._failed.assign(failed)
        for v in (v for part in searches for v in part.variables):
            v.assign(ops.where(failed, before[id(v)], ops.copy(v)))

    def _descend(self, scaler, gradients):
        if not self._descended:
            return
        if searching_strategy() is not None:
            with gradients_of_all(p.optimizer for p in self._parts if not p.searches):
                searching_strategy().run(lambda: scaler.apply(gradients, self._descended))
            return
        if scaler is self or not is_stateless():
            scaler.apply(gradients, self._descended)
            return
        # Keras' wrapper branches, and in a stateless scope has another method for it.
        variables, states = trained_variables(self), scaler.variables
        moved = scaler.stateless_apply(
            [v.value for v in states], gradients, [v.value for v in variables]
        )
        for variable, value in zip([*variables, *states], [*moved[0], *moved[1]]):
            variable.assign(value)

    @property
    def _descended(self):
        """The variables that gradients train."""
        return [v for part in self._parts if not part.searches for v in part.variables]

    def _scaler(self):
        """The optimizer that scales the loss: Keras' wrapper under `mixed_float16`, or this one."""
        model = self._model and self._model()
        wrapper = getattr(model, "optimizer", None)
        return wrapper if getattr(wrapper, "inner_optimizer", None) is self else self

    def _check_gradients(self, gradients):
        """Raises for a part without any gradient; Keras warns of single variables."""
        given = {id(v) for v, g in zip(self._descended, gradients) if g is not None}
        for part in self._parts:
            if not part.searches and not any(id(v) in given for v in part.variables):
                raise ValueError(
                    f"The loss has no gradient for the variables of {part.optimizer.name!r}: it "
                    "does not depend on them, or only through what has no derivative, such as "
                    "rounding. Give them to an optimizer that samples, such as "
                    "MonteCarloOptimizer. Received: "
                    f"{', '.join(repr(v.path) for v in part.variables)}"
                )

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Applies gradients for the variables that gradients train, and no others."""
        variables = list(self._descended if trainable_variables is None else trainable_variables)
        gradients = dict(zip(map(id, variables), grads))
        if not gradients or {id(v) for v in self._descended} != set(gradients):
            super().apply(grads, trainable_variables)
        for part in self._parts:
            if not part.searches:
                part.optimizer.apply([gradients[id(v)] for v in part.variables], part.variables)

    def begin_training(self, model: keras.Model) -> None:
        super().begin_training(model)
        for optimizer in self._samplers:
            optimizer.begin_training(model)

    def extra_logs(self) -> dict[str, int]:
        name = "nonfinite_candidates"
        counts = [logs[name] for o in self._samplers if name in (logs := o.extra_logs())]
        return {name: sum(counts)} if counts else {}

    @property
    def _samplers(self):
        return [o for o in self.optimizers if isinstance(o, LossEvaluatingOptimizer)]

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        super().finalize_variable_values(var_list)
        for part in self._parts:
            part.optimizer.finalize_variable_values(part.variables)

    def get_config(self) -> dict[str, Any]:
        return {"optimizer_map": serialize_optimizer_map(self.optimizer_map), "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None) -> "PartitionedOptimizer":
        optimizer_map = deserialize_optimizer_map(config["optimizer_map"], custom_objects)
        return cls(**{**config, "optimizer_map": optimizer_map})


@dataclass(frozen=True)
class _Part:
    """An optimizer and the variables that are its own."""

    optimizer: keras.optimizers.Optimizer
    variables: list[keras.Variable]

    @property
    def searches(self) -> bool:
        return isinstance(self.optimizer, LossEvaluatingOptimizer)
