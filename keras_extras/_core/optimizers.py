"""optimizer_of: the optimizer that a model was compiled with."""

from typing import Any


def optimizer_of(model: Any) -> Any:
    """Returns the optimizer of a model without a `LossScaleOptimizer` around it, or `None`."""
    optimizer = getattr(model, "optimizer", None)
    return getattr(optimizer, "inner_optimizer", optimizer)
