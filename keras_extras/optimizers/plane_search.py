"""PlaneSearch: moves to the best of candidates in planes, where the loss has no noise."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_extras._core.flat_vectors import flat, num_entries, split_entries
from keras_extras._core.stateless import choose
from keras_extras.optimizers.parameter import Parameter

LEAST_POPULATION = 32

# What the loss is: not known yet, a function of the weights, one in steps, or one that differs
# between batches.
MODES = ("unsure", "exact", "tied", "noisy")
_UNSURE, _EXACT, _TIED, _NOISY = range(4)

# Relative differences of losses: those that count as equal, and as better.
_EQUAL, _BETTER = 1e-5, 1e-6
_DOUBT = 10  # updates within which two different losses make the loss noisy
_TINY = 1e-30

_START = 0.1
_WIDTHS = (1e-3, 1.0)
_UNITS = (1e-6, 1e4)
_SIGN_STEP = 0.05
_BETA_2 = 0.99
# Shares of the last step, and powers of 2 of a direction's unit, to combine.
_SHARES, _OCTAVES = (0.0, 0.4, 0.8, 1.0, 1.4), 3.0

_MANY_TIES = 0.1
_STUCK = 20  # updates, about those from the least width to the most
_TIED_WIDTHS, _TIED_RATE = (0.03, 3.0), 0.3
_SUCCESSES, _WIDTH_GAIN = 0.1, 0.3

# Where losses are compared, as a share of the last step, of the step to what is kept if tied.
_TO_COMPARED = np.array([-1.0, 0.0, 1.0, 0.0], "float32")


class Verdict(NamedTuple):
    """The decision on a generation, as boolean scalars.

    Attributes:
        is_exact: Whether to move to the best candidate.
        improves: Whether the best candidate is better than where the search is, or what is kept.
        takes_adam: Whether to take a step of Adam.
        begins_adam: Whether that is the first such step.
    """

    is_exact: Any
    improves: Any
    takes_adam: Any
    begins_adam: Any


class PlaneSearch:
    """Finds step sizes by trying them, while the loss is a function of the weights alone.

    On full batches without random layers, losses can be compared across updates. Then a quarter of
    the population is spent on candidates `w + a q + b p`: p is the last step, and q one of two
    directions of descent, the estimated gradient and the gradient over the root of its second
    moment. The search moves to the best candidate of the generation, if that is better than where
    it is. Along p and the gradient these are locally optimal conjugate gradients (Knyazev, 2001,
    "Toward the optimal preconditioned eigensolver", SIAM Journal on Scientific Computing 23(2)),
    with all candidates of a plane in one call. Each direction has a unit for a, which follows what
    was best along it, and the width of the pairs follows the length of steps; where nothing is
    better it grows, and starts again from the least.

    Each generation says whether this holds, by the loss at a point that the last one evaluated:

    - Equal: the loss is exact, and the search goes on in planes.
    - Different, twice within ten updates or in the second update of all: the loss is noisy, as on
      mini-batches, and Adam takes over for good.
    - Equal, but nothing is better and many candidates have the same loss, as with the 0-1 loss:
      the loss is tied, and Adam takes over, with a width by Rechenberg's rule and a learning rate
      in proportion to it. What is kept is the best candidate so far, and candidates in planes are
      tried beside it.
    - Equal, but nothing was better for 20 updates: likewise, until something is.

    Args:
        optimizer: Its variables hold the state.
        parameters: The parameters.
        last_step: For each parameter a variable with the last step.
        second_moment: For each parameter a variable with that of the gradient.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        parameters: Sequence[Parameter],
        last_step: Sequence[keras.Variable],
        second_moment: Sequence[keras.Variable],
    ):
        self._parameters = parameters
        self._last_step, self._second_moment = last_step, second_moment

        def scalar(name, value, dtype="float32", shape=()):
            initializer = keras.initializers.Constant(value)
            return optimizer.add_variable(shape, initializer, dtype, name=f"plane_{name}")

        self._mode = scalar("mode", _UNSURE, "int32")
        self.width = scalar("width", _START)
        self._units = scalar("units", _START, shape=(2,))
        self._loss = scalar("loss", math.nan)
        self._first_loss = scalar("first_loss", math.nan)
        self._stuck = scalar("stuck", 0, "int32")
        self._has_ties = scalar("has_ties", False, "bool")
        self._doubt = scalar("doubt", _DOUBT, "int32")

    def begin(self, pairs: int, chunk: int) -> None:
        """Lays out a generation, of which the last chunks, at least a quarter, are in planes.

        Args:
            pairs: Integer, the number of pairs.
            chunk: Integer, how many are evaluated at once.
        """
        self._first = (pairs - pairs // 4) // chunk * chunk
        self._pairs = pairs
        # More directions than weights repeat, and the sides of a pair are alike at a minimum.
        size = num_entries([p.coordinates for p in self._parameters])
        self._unlike = min(self._first, max(2, size))
        # One side of each pair lies along each direction; the last are points to compare with.
        ranks = np.arange(pairs - self._first)
        self._is_candidate = ranks < ranks.max()
        exponents = _OCTAVES * (2.0 * ranks / max(1, ranks.max() - 1) - 1.0)
        self._lengths = np.where(self._is_candidate, 2.0**exponents, 0.0).astype("float32")
        shares = np.asarray(_SHARES)[ranks % len(_SHARES)]
        self._shares = np.where(self._is_candidate, shares, 0.0).astype("float32")

    def is_in_plane(self, index: Any) -> Any:
        """Returns whether pairs, given by their numbers, are candidates in planes."""
        return ops.logical_and(~self.is_noisy, index >= self._first)

    @property
    def mode(self) -> str:
        """The kind of the loss, one of `MODES`."""
        return MODES[int(self._mode.numpy())]

    @property
    def is_noisy(self) -> Any:
        """Whether the loss has turned out to differ between batches."""
        return ops.copy(self._mode) == _NOISY

    def width_or(self, width: Any) -> Any:
        """Returns the width of pairs, `width` where the loss is noisy."""
        return ops.where(self.is_noisy, width, ops.copy(self.width))

    def rate_or(self, rate: Any) -> Any:
        """Returns the learning rate of Adam, `rate` unless losses are tied."""
        return ops.where(ops.copy(self._mode) == _TIED, ops.copy(self.width) * _TIED_RATE, rate)

    def average_share(self, share: Any) -> Any:
        """Returns the share of the current weights in what is kept, `share` if noisy."""
        mode = ops.copy(self._mode)
        return ops.where(mode == _NOISY, share, ops.where(mode == _TIED, 0.0, 1.0))

    def replace(self, steps: Sequence[Any], index: Any, gradient: Sequence[Any]) -> list[Any]:
        """Returns the steps of a chunk, in which those in planes have replaced pairs.

        Args:
            steps: For each parameter a tensor of steps to candidates, one side of all pairs of
                the chunk after the other.
            index: Integer tensor, the numbers of the pairs.
            gradient: For each parameter the estimate of the pairs so far.
        """
        steps, has_any = list(steps), ops.any(self.is_in_plane(index))
        return choose(has_any, lambda: self._replaced(steps, index, gradient), lambda: steps)

    def _replaced(self, steps, index, gradient):
        last_rank = len(self._lengths) - 1
        rank = ops.clip(index - self._first, 0, last_rank)
        length = ops.take(ops.convert_to_tensor(self._lengths), rank)
        length = ops.copy(self._units)[:, None] * length
        mode = ops.copy(self._mode)
        to_compared = ops.take(ops.convert_to_tensor(_TO_COMPARED), mode)
        share = ops.take(ops.convert_to_tensor(self._shares), rank)
        share = ops.stack([ops.where(rank == last_rank, to_compared, share), share])
        gradient = _flat(gradient)
        scaled = gradient / ops.sqrt(ops.maximum(self._moment(gradient), _TINY))
        directions = ops.stack([_normalized(gradient), _normalized(scaled)])
        last = ops.where(mode == _TIED, self._to_kept(), _flat(self._last_step))
        there = length[:, :, None] * directions[:, None] + share[:, :, None] * last
        there = self._split(ops.reshape(there, (-1, there.shape[-1])))
        is_in_plane = ops.tile(self.is_in_plane(index), [2])
        return [
            ops.where(ops.reshape(is_in_plane, (-1, *[1] * (len(step.shape) - 1))), here, step)
            for here, step in zip(there, steps)
        ]

    def _moment(self, gradient):
        before = _flat(self._second_moment)
        return before + (ops.square(gradient) - before) * (1 - _BETA_2)

    def _to_kept(self):
        """The step from where the search is to what is kept."""
        return _flat(
            [
                (ops.cast(p.kept, "float32") - ops.cast(p.coordinates, "float32")) / p.scale
                for p in self._parameters
            ]
        )

    def _split(self, vectors):
        """Steps in the coordinates of each parameter, of vectors in units of its scale."""
        parts = split_entries(vectors, [tuple(p.coordinates.shape) for p in self._parameters])
        return [
            part if p.scale == 1 else p.scale * part for p, part in zip(self._parameters, parts)
        ]

    def judge(self, losses: Any, best_loss: Any, failed: Any, has_given_rate: Any) -> Verdict:
        """Decides how the search moves, and whether it stays in planes.

        Args:
            losses: Tensor of shape `(2, pairs)`, infinite or NaN where not finite.
            best_loss: Scalar tensor, the least of them.
            failed: Boolean scalar, whether to leave all as it is.
            has_given_rate: Boolean scalar, whether Adam is to follow a learning rate, as if the
                loss was noisy.
        """
        compared, center = losses[0, self._pairs - 1], losses[1, self._pairs - 1]
        before = ops.copy(self._loss)
        first = ops.copy(self._first_loss)
        first = ops.where(ops.isfinite(first), first, ops.abs(center))
        self._first_loss.assign(first)
        size = ops.maximum(ops.abs(before), ops.abs(compared))
        is_known = ops.isfinite(before)
        is_equal = ops.abs(compared - before) <= _EQUAL * size + _BETTER * first
        mode = ops.copy(self._mode)
        was_tied, was_noisy = mode == _TIED, mode == _NOISY
        here = ops.where(was_tied, compared, center)
        here = ops.where(ops.isfinite(here), here, float("inf"))
        improves = best_loss < here - _BETTER * ops.where(ops.isfinite(here), ops.abs(here), 0.0)

        doubt = ops.copy(self._doubt)
        more = ops.where(is_known, doubt + _DOUBT, doubt)
        doubt = ops.where(is_equal, ops.maximum(doubt - 1, 0), more)
        ties, width = self._share_of_ties(losses), ops.copy(self.width)
        stuck = ops.where(improves, 0, ops.copy(self._stuck) + 1)
        has_ties = ops.copy(self._has_ties)
        has_ties |= ~improves & (ties > _MANY_TIES) & (width >= _START)
        is_tied = has_ties | ops.where(was_tied, ~improves, stuck > _STUCK)
        is_noisy = was_noisy | (doubt > _DOUBT) | has_given_rate
        next_mode = ops.where(is_equal, _EXACT, _UNSURE)
        next_mode = ops.where(is_tied & (is_equal | was_tied), _TIED, next_mode)
        next_mode = ops.where(is_noisy, _NOISY, next_mode)
        loss = ops.where(next_mode == _UNSURE, center, ops.minimum(best_loss, here))
        # The rule of Rechenberg (1973): wider, where more than a share of candidates is no worse.
        successes = ops.mean(ops.cast(losses[:, : self._first] <= center, "float32"))
        factor = ops.exp(_WIDTH_GAIN * (successes - _SUCCESSES))
        width = ops.where(was_tied, ops.clip(factor * width, *_TIED_WIDTHS), width)
        for variable, value in (
            (self._doubt, doubt),
            (self._stuck, stuck),
            (self._has_ties, has_ties),
            (self._loss, loss),
            (self._mode, next_mode),
            (self.width, width),
        ):
            variable.assign(ops.where(failed, ops.copy(variable), value))
        takes_adam = (next_mode == _TIED) | (next_mode == _NOISY)
        begins_adam = takes_adam & ~was_tied & ~was_noisy & ~failed
        return Verdict(next_mode == _EXACT, improves, takes_adam, begins_adam)

    def keep(self, verdict: Verdict, step: Sequence[Any]) -> None:
        """Keeps the best candidate, where losses are tied."""
        is_better = verdict.improves & (ops.copy(self._mode) == _TIED)
        for p, there in zip(self._parameters, step):
            best = ops.cast(p.coordinates, "float32") + there
            best = ops.where(is_better, best, ops.cast(p.kept, "float32"))
            p.kept.assign(ops.cast(best, p.kept.dtype))

    def _share_of_ties(self, losses):
        ranked = ops.sort(losses[0, : self._unlike])
        return ops.mean(ops.cast(ranked[1:] == ranked[:-1], "float32"))

    def move(
        self,
        verdict: Verdict,
        losses: Any,
        gradient: Sequence[Any],
        step: Sequence[Any],
    ) -> None:
        """Moves to the best candidate, if that is better, and adapts units and width.

        Args:
            verdict: Of `judge`.
            losses: As in `judge`.
            gradient: For each parameter the estimate of all pairs.
            step: For each parameter the step to the best candidate.
        """
        improves = verdict.improves
        gradient = _flat(gradient)
        step = _flat([u / p.scale for p, u in zip(self._parameters, step)])
        step = ops.where(improves, step, 0.0)
        step = ops.where(verdict.is_exact, step, -_SIGN_STEP * ops.sign(gradient))
        moments = split_entries(self._moment(gradient), [v.shape for v in self._second_moment])
        for p, last, moment, second_moment, there in zip(
            self._parameters, self._last_step, moments, self._second_moment, self._split(step)
        ):
            second_moment.assign(ops.cast(moment, second_moment.dtype))
            before = ops.cast(p.coordinates, "float32")
            p.coordinates.assign_add(ops.cast(there, p.coordinates.dtype))
            if p.projection is not None:
                p.project()
                there = ops.cast(p.coordinates, "float32") - before
            last.assign(ops.cast(there / p.scale, last.dtype))
        least, most = _WIDTHS
        width = ops.copy(self.width)
        wider = ops.where(1.5 * width > most, least, 1.5 * width)
        nearer = 0.7 * width + 0.3 * ops.sqrt(ops.mean(ops.square(step)))
        width = ops.where(improves, ops.clip(nearer, least, most), wider)
        units = ops.where(improves, ops.clip(self._best_units(losses), *_UNITS), width)
        for variable, value in ((self.width, width), (self._units, units)):
            variable.assign(ops.where(verdict.is_exact, value, ops.copy(variable)))

    def _best_units(self, losses):
        """The lengths along both directions that were best."""
        part = losses[:, self._first : self._pairs]
        is_usable = ops.isfinite(part) & self._is_candidate
        index = ops.argmin(ops.where(is_usable, part, float("inf")), axis=1)
        return ops.take(ops.convert_to_tensor(self._lengths), index) * ops.copy(self._units)


def _flat(tensors):
    return flat([ops.cast(t, "float32") for t in tensors])


def _normalized(gradient):
    """The opposite of a gradient, of a root mean square of 1."""
    return gradient * (-1.0 / ops.maximum(ops.sqrt(ops.mean(ops.square(gradient))), _TINY))
