"""Which weights a search keeps: an average over where it was, or the best candidate so far."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from keras_extras.optimizers.parameter import Parameter
from keras_extras.optimizers.replicas import mean_over_replicas

_AVERAGING_POWER = 8.0


def polynomial_decay_share(updates: Any) -> Any:
    """Returns the share of the newest weights in the average of Shamir and Zhang (2013)."""
    updates = ops.cast(updates, "float32")
    return ops.minimum(1.0, (_AVERAGING_POWER + 1) / (updates + _AVERAGING_POWER))


def keep_average(parameters: Sequence[Parameter], share: Any) -> None:
    """Moves the kept weights by a share of the way to where the search is."""
    for p in parameters:
        kept, here = (ops.cast(v, "float32") for v in (p.kept, p.coordinates))
        p.kept.assign(ops.cast(kept + share * (here - kept), p.kept.dtype))


def keep_best(
    parameters: Sequence[Parameter], loss_at: Callable, best: Sequence[Any], best_loss: Any
) -> None:
    """Keeps the best candidate if it is better on this batch than the kept weights."""
    kept = [ops.cast(p.kept, "float32") for p in parameters]
    loss = mean_over_replicas(loss_at, kept)
    is_better = best_loss < ops.where(ops.isfinite(loss), loss, float("inf"))
    for p, here, there in zip(parameters, kept, best):
        p.kept.assign(ops.cast(ops.where(is_better, there, here), p.kept.dtype))
