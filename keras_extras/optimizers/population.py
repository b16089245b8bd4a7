"""Evaluating many weight vectors on one batch."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops


def evaluate_population(
    loss_of: Callable[[Sequence[Any]], Any],
    candidates: Sequence[Any],
    chunk_size: int | None = None,
) -> Any:
    """Losses of a population, all candidates of a chunk in one vectorised call.

    Args:
        loss_of: Function from a list of tensors (one candidate) to a scalar loss.
        candidates: List of tensors of shape `(population, ...)`, one for each variable.
        chunk_size: How many candidates to evaluate at once; bounds the memory, which grows with
            the activations of a chunk. `None` evaluates all at once.

    Returns:
        Tensor of shape `(population,)` of float32 losses, NaN where the loss is not finite.
    """
    candidates = list(candidates)
    population = candidates[0].shape[0]
    if chunk_size is None or chunk_size >= population:
        losses = ops.vectorized_map(loss_of, candidates)
    else:
        whole = population - population % chunk_size
        chunks = [
            ops.reshape(c[:whole], (whole // chunk_size, chunk_size, *c.shape[1:]))
            for c in candidates
        ]
        losses = ops.map(lambda chunk: ops.vectorized_map(loss_of, chunk), chunks)
        losses = ops.reshape(losses, (whole,))
        if whole < population:
            rest = ops.vectorized_map(loss_of, [c[whole:] for c in candidates])
            losses = ops.concatenate([losses, rest])
    return ops.where(ops.isfinite(losses), losses, float("nan"))


def best_of(candidates: Sequence[Any], losses: Any) -> list[Any]:
    """Returns the candidate of the lowest loss; the first if none is finite."""
    index = ops.argmin(ops.where(ops.isfinite(losses), losses, float("inf")))
    return [ops.take(c, index, axis=0) for c in candidates]
