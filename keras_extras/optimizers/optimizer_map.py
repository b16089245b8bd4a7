"""Which optimizer trains which variable: patterns of paths, or Keras' `OptimizerMap`."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import keras

from keras_extras._core.path_patterns import match_patterns


def check_optimizer_map(optimizer_map: Any) -> Mapping[str, keras.optimizers.Optimizer]:
    """Returns the map with optimizers in place of names and configurations.

    Raises:
        TypeError: If it is no mapping.
        ValueError: If it is empty, or an entry is no optimizer, is given twice, is made of several
            or scales the loss.
    """
    if not isinstance(optimizer_map, Mapping):
        raise TypeError(
            '`optimizer_map` must be a dict from patterns of variable paths, such as {"*": "adam"}'
            f", or a `keras.optimizers.OptimizerMap`. Received: optimizer_map={optimizer_map!r}"
        )
    if not _is_of_keras(optimizer_map):
        if not optimizer_map:
            raise ValueError("`optimizer_map` must not be empty. Received: optimizer_map={}")
        optimizer_map = {
            pattern: _optimizer(pattern, entry) for pattern, entry in optimizer_map.items()
        }
    optimizers = optimizers_of(optimizer_map)
    for number, optimizer in enumerate(optimizers):
        if any(optimizer is other for other in optimizers[:number]):
            raise ValueError(
                "`optimizer_map` must hold another optimizer for each pattern, because each is "
                f"built and saved by itself. Received: {optimizer.name!r} twice"
            )
        if hasattr(optimizer, "optimizers"):
            raise ValueError(
                "`optimizer_map` must not hold an optimizer that is made of others; put its "
                f"patterns in its place. Received: {optimizer.name!r}"
            )
        is_scaler = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if is_scaler or optimizer.loss_scale_factor is not None:
            raise ValueError(
                "The loss is scaled for all optimizers at once, by Keras under `mixed_float16`; "
                "leave `LossScaleOptimizer` and `loss_scale_factor` out. "
                f"Received: {optimizer.name!r}"
            )
    return optimizer_map


def optimizers_of(
    optimizer_map: Mapping[str, keras.optimizers.Optimizer],
) -> list[keras.optimizers.Optimizer]:
    """Returns the optimizers in the order of their patterns; a default one is the last."""
    default = [optimizer_map.default_optimizer] if _is_of_keras(optimizer_map) else []
    return [*optimizer_map.values(), *default]


def owners_of(
    optimizer_map: Mapping[str, keras.optimizers.Optimizer], variables: Sequence[keras.Variable]
) -> list[keras.optimizers.Optimizer]:
    """Returns the optimizer of each variable.

    Raises:
        ValueError: If a variable has none, or a pattern gets no variable.
    """
    if _is_of_keras(optimizer_map):
        owners = [optimizer_map(variable) for variable in variables]
    else:
        owners = match_patterns("optimizer_map", optimizer_map, variables)
    left_out = [v.path for v, owner in zip(variables, owners) if owner is None]
    if left_out:
        raise ValueError(
            "`optimizer_map` must have an optimizer for each trainable variable; a last pattern "
            f'"*" takes all that are left. Received: patterns {_listed(optimizer_map)}, which '
            f"match none of {_listed(left_out)}"
        )
    used = {id(owner) for owner in owners}
    for pattern, optimizer in optimizer_map.items():
        if id(optimizer) not in used:
            raise ValueError(
                "Each pattern in `optimizer_map` must get a trainable variable, and where several "
                f"match the first counts. Received: {pattern!r}, which gets none of "
                f"{_listed(v.path for v in variables)}"
            )
    return owners


def serialize_optimizer_map(optimizer_map: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the map as a configuration."""
    serialize = keras.saving.serialize_keras_object
    if _is_of_keras(optimizer_map):
        return serialize(optimizer_map)
    return {pattern: serialize(optimizer) for pattern, optimizer in optimizer_map.items()}


def deserialize_optimizer_map(config: dict[str, Any], custom_objects: Any = None) -> Mapping:
    """Returns the map of a configuration."""

    def deserialize(config):
        return keras.saving.deserialize_keras_object(config, custom_objects)

    if "class_name" in config:
        return deserialize(config)
    return {pattern: deserialize(entry) for pattern, entry in config.items()}


def _is_of_keras(optimizer_map: Any) -> TypeGuard[Any]:
    # Not `isinstance`: before Keras 3.15 there is no such class.
    return hasattr(optimizer_map, "default_optimizer")


def _optimizer(pattern, entry):
    # From version 3.16 on Keras takes classes, too, and returns whatever a callable makes.
    is_class = isinstance(entry, type) and issubclass(entry, keras.optimizers.Optimizer)
    try:
        optimizer = entry() if is_class else keras.optimizers.get(entry)
    except (KeyError, TypeError, ValueError):
        optimizer = None
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError(
            '`optimizer_map` must hold optimizers, names such as "adam", classes or '
            "configurations. "
            f"Received: {entry!r} for {pattern!r}"
        )
    return optimizer


def _listed(names):
    return ", ".join(map(repr, names))
