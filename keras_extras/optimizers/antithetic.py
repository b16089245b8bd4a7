"""Losses on both sides of the weights, for a population of candidates."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keras import ops

from keras_extras._core.stateless import while_loop
from keras_extras._seams.low_rank_kernels import LowRankKernel, RankOne, low_rank_kernels
from keras_extras.optimizers.directions import dense, mirrored, scaled, weighted_sum
from keras_extras.optimizers.parameter import Parameter
from keras_extras.optimizers.plane_search import PlaneSearch
from keras_extras.optimizers.population import best_of


class Pairs(NamedTuple):
    """Losses of pairs of candidates, summed up.

    Attributes:
        sums: For each parameter the sum of directions, each times the difference of its losses.
        usable: The number of pairs with two finite losses.
        best: The step to the best candidate, a tensor for each parameter; empty where it is not
            wanted.
        best_loss: The loss of the best, infinite if none is finite.
        losses: Tensor of shape `(2, pairs)` and longer, NaN where not finite.
    """

    sums: list[Any]
    usable: Any
    best: list[Any]
    best_loss: Any
    losses: Any


def evaluate_pairs(
    evaluate: Callable[[list[Any], Any, Any], Any],
    draw: Callable[[Any, int], list[Any]],
    parameters: Sequence[Parameter],
    width: Any,
    pairs: int,
    chunk: int,
    wants_best: bool,
    plane: PlaneSearch | None = None,
) -> Pairs:
    """Evaluates candidates at `width` on either side of the coordinates, chunk by chunk.

    Args:
        evaluate: Function from the steps of a chunk's candidates, whether each is one of the
            candidates, and whether each pair is one, to their losses, NaN for what is none.
        draw: Function that returns the directions from a number on, `(start, count)`.
        parameters: The parameters of the search.
        width: The distance, in units of each parameter's scale.
        pairs: Integer, the number of directions.
        chunk: Integer, how many of them to evaluate at once.
        wants_best: Boolean, whether to pick out the best candidate.
        plane: Puts candidates in planes in the place of the last pairs. Defaults to `None`.
    """

    def add_chunk(start, before):
        directions = draw(start, chunk)
        steps = [mirrored(scaled(e, width * p.scale)) for p, e in zip(parameters, directions)]
        index = start + ops.arange(chunk, dtype="int32")
        is_candidate = ops.tile(index < pairs, [2])
        is_pair = index < pairs
        if plane is not None:
            is_pair = ops.logical_and(is_pair, ~plane.is_in_plane(index))
            spread = 2 * width * ops.maximum(before.usable, 1.0)
            steps = plane.replace(steps, index, [total / spread for total in before.sums])
        losses = evaluate(steps, is_candidate, is_pair)
        plus, minus = ops.split(losses, 2)
        usable = ops.logical_and(ops.isfinite(plus - minus), is_pair)
        differences = ops.where(usable, plus - minus, 0.0)
        step, loss = best_of(steps if wants_best else [], losses)
        return start + chunk, Pairs(
            [total + weighted_sum(differences, e) for total, e in zip(before.sums, directions)],
            before.usable + ops.sum(ops.cast(usable, "float32")),
            [
                ops.where(loss < before.best_loss, dense(here), there)
                for here, there in zip(step, before.best)
            ],
            ops.minimum(loss, before.best_loss),
            ops.slice_update(before.losses, [0, start], ops.reshape(losses, (2, chunk))),
        )

    start = ops.convert_to_tensor(0)
    zeros = [ops.zeros(p.coordinates.shape, "float32") for p in parameters]
    nothing = Pairs(
        zeros,
        ops.convert_to_tensor(0.0),
        zeros if wants_best else [],
        ops.convert_to_tensor(float("inf")),
        ops.full((2, -(-pairs // chunk) * chunk), float("nan"), "float32"),
    )
    if chunk >= pairs:
        return add_chunk(start, nothing)[1]
    return while_loop(lambda start, found: start < pairs, add_chunk, (start, nothing))[1]


def loss_beside(
    loss_at: Callable[[Sequence[Any]], Any], parameters: Sequence[Parameter], steps: Sequence[Any]
) -> Any:
    """Returns the loss at a step away from the coordinates of parameters."""
    centers = [ops.cast(p.coordinates, "float32") for p in parameters]
    kernels = {
        id(p.variable): LowRankKernel(center, step)
        for p, center, step in zip(parameters, centers, steps)
        if isinstance(step, RankOne) and p.is_free
    }
    with low_rank_kernels(kernels) if kernels else contextlib.nullcontext():
        return loss_at([center + dense(step) for center, step in zip(centers, steps)])
