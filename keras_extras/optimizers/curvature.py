"""The curvature of the loss around the weights that are kept, measured a little at each update."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.flat_vectors import split_entries
from keras_extras.optimizers.candidate_map import CandidateMap
from keras_extras.optimizers.parameter import Parameter
from keras_extras.optimizers.population import evaluate_population

# The least share with which a new measurement enters: batches differ, and weights move.
_CURVATURE_RENEWAL = 0.25
_LOSS_RENEWAL = 0.1
# Less than this share of the greatest curvature is taken for none.
_FLAT = 1e-5


class Curvature:
    """The Hessian of the loss by second differences, `L(w + d) + L(w - d) - 2 L(w)`.

    With one weight moved that is a diagonal entry, with two of them the sum of two such entries
    and twice the one of both. A few are measured at each update, in turn. Units are those of the
    search: each weight is divided by its parameter's scale.

    Args:
        optimizer: Its variables hold what was measured.
        parameters: The parameters.
        full: Boolean, whether to measure pairs of weights, or only the diagonal.
    """

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, parameters: Sequence[Parameter], full: bool
    ):
        self.parameters = parameters
        self.sizes = [int(np.prod(p.variable.shape)) for p in parameters]
        size = sum(self.sizes)
        self.full = full
        self._rows, self._columns = np.triu_indices(size) if full else [np.arange(size)] * 2
        self._values = optimizer.add_variable(
            (len(self._rows),), dtype="float32", name="curvatures"
        )
        self._known = optimizer.add_variable((len(self._rows),), dtype="bool", name="is_known")
        self._loss = optimizer.add_variable((), dtype="float32", name="kept_loss")
        self._measured = optimizer.add_variable((), dtype="int32", name="measured_curvatures")

    def measure(
        self,
        loss_at: Callable[[Sequence[Any]], Any],
        width: Any,
        count: int,
        candidate_map: CandidateMap | None = None,
    ) -> None:
        """Measures the next `count` values in the loss of one batch, at `width` from the weights.

        Args:
            loss_at: Function from coordinates to the scalar loss.
            width: The distance, in units of each parameter's scale.
            count: Integer.
            candidate_map: Maps the loss over candidates; `None` for a vectorized map.
        """
        count = min(count, len(self._rows))
        measured = ops.copy(self._measured)
        index = ops.mod(measured + ops.arange(count, dtype="int32"), len(self._rows))
        moved = ops.maximum(
            *(
                ops.one_hot(ops.take(axis.astype("int32"), index), sum(self.sizes), dtype="float32")
                for axis in (self._rows, self._columns)
            )
        )
        moved = width * ops.concatenate([moved, -moved, ops.zeros_like(moved[:1])])
        steps = split_entries(moved, [tuple(p.kept.shape) for p in self.parameters])
        losses = evaluate_population(
            loss_at,
            [
                ops.cast(p.kept, "float32") + p.scale * step
                for p, step in zip(self.parameters, steps)
            ],
            None,
            candidate_map,
        )
        plus, minus, here = losses[:count], losses[count:-1], losses[-1]
        values = (plus + minus - 2.0 * here) / width**2
        before, is_known = ops.copy(self._values), ops.copy(self._known)
        was_known, is_finite = ops.take(is_known, index), ops.isfinite(values)
        share = _share(measured // len(self._rows), _CURVATURE_RENEWAL)
        values = _renewed(ops.take(before, index), values, ops.where(was_known, share, 1.0))
        self._values.assign(ops.scatter_update(before, index[:, None], values))
        now_known = ops.logical_or(was_known, is_finite)
        self._known.assign(ops.scatter_update(is_known, index[:, None], now_known))
        share = _share(measured // count, _LOSS_RENEWAL)
        self._loss.assign(_renewed(ops.copy(self._loss), here, share))
        self._measured.assign_add(count)

    @property
    def missing(self) -> int:
        """How many values are not yet measured."""
        return int(np.sum(~self._known.numpy()))

    @property
    def loss(self) -> float:
        """The loss of the weights that are kept."""
        return float(self._loss.numpy())

    def inverse_diagonal(self) -> list[np.ndarray]:
        """The diagonal of the inverse Hessian, an array for each parameter, in its own units.

        It is infinite for a weight that the loss does not hold: moved alone or together with
        others, it does not raise the loss.
        """
        values = self._values.numpy().astype("float64")
        inverse = self._inverse_diagonal_of_all(values) if self.full else _inverse(values, np.inf)
        parts = split_entries(inverse, [p.variable.shape for p in self.parameters])
        return [p.scale**2 * part for p, part in zip(self.parameters, parts)]

    def _inverse_diagonal_of_all(self, values):
        size = sum(self.sizes)
        hessian = np.zeros((size, size))
        hessian[self._rows, self._columns] = values
        diagonal = np.diag(hessian).copy()
        hessian = (hessian - diagonal[:, None] - diagonal[None, :]) / 2
        hessian = np.triu(hessian, 1) + np.triu(hessian, 1).T + np.diag(diagonal)
        curvatures, axes = np.linalg.eigh(hessian)
        inverse = axes**2 @ _inverse(curvatures, 0.0)
        inverse[(axes**2)[:, _is_flat(curvatures)].sum(axis=1) > _FLAT] = np.inf
        return inverse


def _is_flat(curvatures):
    return curvatures <= _FLAT * max(curvatures.max(), 0.0)


def _inverse(curvatures, of_flat):
    is_flat = _is_flat(curvatures)
    return np.where(is_flat, of_flat, 1 / np.where(is_flat, 1.0, curvatures))


def _share(rounds, least):
    """The share of a new measurement in the mean of this and all before, but not below `least`."""
    return ops.maximum(1.0 / (1.0 + ops.cast(rounds, "float32")), least)


def _renewed(known, value, share):
    return ops.where(ops.isfinite(value), known + share * (value - known), known)
