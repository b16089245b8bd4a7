"""Evaluating many weight vectors on one batch."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras.optimizers.replicas import mean_over_replicas

_CACHE_BYTES = 16 * 2**20
# In place of a batch size that is not known when the step is compiled.
_ROWS = 256


def evaluate_population(
    loss_of: Callable[[Sequence[Any]], Any],
    candidates: Sequence[Any],
    chunk_size: int | None = None,
) -> Any:
    """Losses of a population, all candidates of a chunk in one vectorised call.

    Args:
        loss_of: Function from a list of tensors, or tuples of them, (one candidate) to a scalar
            loss.
        candidates: List of tensors of shape `(population, ...)`, or tuples of them, one for each
            variable.
        chunk_size: How many candidates to evaluate at once; bounds the memory, which grows with
            the activations of a chunk. `None` evaluates all at once.

    Returns:
        Tensor of shape `(population,)` of float32 losses, NaN where the loss is not finite.
    """
    candidates = list(candidates)
    population = keras.tree.flatten(candidates)[0].shape[0]
    if chunk_size is None or chunk_size >= population:
        losses = _losses(loss_of, candidates)
    else:
        whole = population - population % chunk_size
        chunks = [
            ops.reshape(c[:whole], (whole // chunk_size, chunk_size, *c.shape[1:]))
            for c in candidates
        ]
        losses = ops.map(lambda chunk: _losses(loss_of, chunk), chunks)
        losses = ops.reshape(losses, (whole,))
        if whole < population:
            rest = _losses(loss_of, [c[whole:] for c in candidates])
            losses = ops.concatenate([losses, rest])
    return ops.where(ops.isfinite(losses), losses, float("nan"))


def _losses(loss_of, candidates):
    return mean_over_replicas(
        lambda candidates: ops.vectorized_map(loss_of, candidates), candidates
    )


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


def candidate_bytes(
    loss_of: Callable[[Sequence[Any]], Any], shapes: Sequence[tuple[int, ...]]
) -> int:
    """Returns about how much memory one candidate takes: all that its loss is computed by.

    Args:
        loss_of: Function from a list of tensors (one candidate) to a scalar loss.
        shapes: The shapes of these tensors.
    """
    sizes = _sizes_on_jax if keras.backend.backend() == "jax" else _sizes_on_tensorflow
    return 4 * (sum(sizes(loss_of, shapes)) + sum(math.prod(shape) for shape in shapes))


def _sizes_on_jax(loss_of, shapes):
    import jax

    candidate = [jax.ShapeDtypeStruct(shape, "float32") for shape in shapes]
    equations = jax.make_jaxpr(loss_of)(candidate).eqns
    return [output.aval.size for equation in equations for output in equation.outvars]


def _sizes_on_tensorflow(loss_of, shapes):
    import tensorflow as tf

    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    graph = tf.function(loss_of, autograph=False).get_concrete_function(specs).graph
    outputs = [tensor.shape for operation in graph.get_operations() for tensor in operation.outputs]
    return [
        math.prod(_ROWS if length is None else length for length in shape)
        for shape in outputs
        if shape.rank is not None
    ]
