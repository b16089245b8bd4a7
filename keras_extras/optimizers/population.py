"""Evaluating many weight vectors on one batch."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.vectorized_map import vectorized_map
from keras_extras.optimizers.candidate_map import CandidateMap
from keras_extras.optimizers.replicas import mean_over_replicas

_CACHE_BYTES = 16 * 2**20


def evaluate_population(
    loss_at: Callable[[Sequence[Any]], Any],
    candidates: Sequence[Any],
    chunk_size: int | None = None,
    candidate_map: CandidateMap | None = None,
) -> Any:
    """Losses of a population, all candidates of a chunk in one call of a map.

    Args:
        loss_at: Function from a list of tensors, or tuples of them, (one candidate) to a scalar
            loss.
        candidates: List of tensors of shape `(population, ...)`, or tuples of them, one for each
            variable.
        chunk_size: How many candidates to evaluate at once; bounds the memory, which grows with
            the activations of a chunk. `None` evaluates all at once.
        candidate_map: Maps the loss over the candidates of a chunk; `None` for
            `vectorized_map`. Defaults to `None`.

    Returns:
        Tensor of shape `(population,)` of float32 losses, NaN where the loss is not finite.
    """

    mapped = candidate_map or vectorized_map

    def losses_at(candidates):
        return mean_over_replicas(lambda part: mapped(loss_at, part), candidates)

    candidates = list(candidates)
    population = keras.tree.flatten(candidates)[0].shape[0]
    is_sequential = candidate_map is not None and candidate_map.is_sequential
    if is_sequential or chunk_size is None or chunk_size >= population:
        losses = losses_at(candidates)
    else:
        whole = population - population % chunk_size
        chunks = [
            ops.reshape(c[:whole], (whole // chunk_size, chunk_size, *c.shape[1:]))
            for c in candidates
        ]
        losses = ops.map(losses_at, chunks)
        losses = ops.reshape(losses, (whole,))
        if whole < population:
            rest = losses_at([c[whole:] for c in candidates])
            losses = ops.concatenate([losses, rest])
    return ops.where(ops.isfinite(losses), losses, float("nan"))


def best_of(candidates: Sequence[Any], losses: Any) -> tuple[list[Any], Any]:
    """Returns the candidate of the lowest loss, and that; the first and infinity if none is."""
    losses = ops.where(ops.isfinite(losses), losses, float("inf"))
    index = ops.argmin(losses)
    best = keras.tree.map_structure(lambda c: ops.take(c, index, axis=0), list(candidates))
    return best, ops.min(losses)


def chunk_bytes() -> int:
    """Returns how much memory a chunk should take: a CPU's cache, a quarter of an accelerator's."""
    if keras.backend.backend() != "jax":
        return _CACHE_BYTES
    import jax

    statistics = jax.devices()[0].memory_stats() or {}
    return max(_CACHE_BYTES, statistics.get("bytes_limit", 0) // 4)


def equal_parts(count: int, parts: float) -> int:
    """Returns the number of equal parts of `count` nearest to `parts`, if one is near it."""
    if parts <= 1:
        return 1
    near = [n for n in range(math.ceil(parts / 1.5), int(1.5 * parts) + 1) if count % n == 0]
    return min(near, key=lambda n: abs(math.log(n / parts)), default=math.ceil(parts))
