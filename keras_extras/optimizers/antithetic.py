"""Losses on both sides of the weights, for a population of candidates."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keras import ops

from keras_extras._core.stateless import while_loop
from keras_extras._seams.low_rank_kernels import LowRankKernel, RankOne, low_rank_kernels
from keras_extras.optimizers.candidate_map import CandidateMap
from keras_extras.optimizers.directions import dense, mirrored, scaled, weighted_sum
from keras_extras.optimizers.parameter import Parameter
from keras_extras.optimizers.population import best_of, evaluate_population


class Pairs(NamedTuple):
    """What pairs of candidates told.

    Attributes:
        sums: For each parameter the sum of directions, each times the difference of its losses.
        usable: How many pairs had two finite losses.
        best: The best candidate, a tensor for each parameter; empty where it is not wanted.
        best_loss: The loss of the best, infinite if none is finite.
    """

    sums: list[Any]
    usable: Any
    best: list[Any]
    best_loss: Any


def evaluate_pairs(
    loss_at: Callable[[Sequence[Any]], Any],
    parameters: Sequence[Parameter],
    draw: Callable[[Any, int], list[Any]],
    pairs: int,
    chunk: int,
    width: Any,
    count: Callable[[Any, Any], None],
    place: Callable[[Any], Any] | None = None,
    wants_best: bool = True,
    candidate_map: CandidateMap | None = None,
) -> Pairs:
    """Evaluates candidates at `width` on either side of the coordinates, chunk by chunk.

    Args:
        loss_at: Function from coordinates to the scalar loss of the batch.
        parameters: What is searched.
        draw: Function that returns the directions from a number on, `(start, count)`.
        pairs: Integer, how many directions there are.
        chunk: Integer, how many of them to evaluate at once.
        width: The distance, in units of each parameter's scale.
        count: Function that is told losses, and which of them are of candidates.
        place: Function that brings candidates to the devices that are to evaluate them, or
            `None`.
        wants_best: Boolean, whether to pick out the best candidate.
        candidate_map: Maps the loss over candidates; `None` for a vectorized map.
    """
    centers = [ops.cast(p.coordinates, "float32") for p in parameters]

    def evaluate(start, told):
        directions = draw(start, chunk)
        steps = [mirrored(scaled(e, width * p.scale)) for p, e in zip(parameters, directions)]
        steps = steps if place is None else place(steps)
        losses = evaluate_population(
            lambda step: loss_beside(loss_at, parameters, step), steps, None, candidate_map
        )
        is_candidate = ops.tile(start + ops.arange(chunk, dtype="int32") < pairs, [2])
        count(losses, is_candidate)
        losses = ops.where(is_candidate, losses, float("nan"))
        plus, minus = ops.split(losses, 2)
        usable = ops.isfinite(plus - minus)
        differences = ops.where(usable, plus - minus, 0.0)
        step, loss = best_of(steps if wants_best else [], losses)
        here = [center + dense(e) for center, e in zip(centers, step)]
        return start + chunk, Pairs(
            [total + weighted_sum(differences, e) for total, e in zip(told.sums, directions)],
            told.usable + ops.sum(ops.cast(usable, "float32")),
            [ops.where(loss < told.best_loss, *pair) for pair in zip(here, told.best)],
            ops.minimum(loss, told.best_loss),
        )

    start = ops.convert_to_tensor(0)
    told = Pairs(
        [ops.zeros_like(center) for center in centers],
        ops.convert_to_tensor(0.0),
        centers if wants_best else [],
        ops.convert_to_tensor(float("inf")),
    )
    if chunk >= pairs:
        return evaluate(start, told)[1]
    return while_loop(lambda start, told: start < pairs, evaluate, (start, told))[1]


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
