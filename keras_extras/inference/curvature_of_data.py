"""The curvature of the log-likelihood of data, summed batch by batch."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras.inference.curvatures import (
    DiagonalCurvature,
    FullCurvature,
    KroneckerBlock,
    KroneckerCurvature,
)
from keras_extras.inference.data_batches import row_weights
from keras_extras.inference.kronecker_network import KroneckerNetwork
from keras_extras.inference.linearized_network import LinearizedNetwork
from keras_extras.inference.observations import observations
from keras_extras.inference.predict_distribution import rows_of
from keras_extras.inference.weight_function import WeightFunction


def curvature_of_data(
    function: WeightFunction,
    weights: Sequence[np.ndarray],
    chosen: Sequence[int],
    batches: Iterable[tuple],
    batch_size: int,
    structure: str,
    scale: np.ndarray,
    temperature: float,
) -> tuple[Any, float]:
    """Returns the curvature in units of the prior, and the log-likelihood; both over temperature.

    Args:
        function: The model.
        weights: Arrays, all of its weights.
        chosen: The positions of those that are uncertain.
        batches: Tuples `(x, y, sample_weight)`.
        batch_size: Integer, rows to compute at once at most.
        structure: One of `"full"`, `"kron"` and `"diag"`.
        scale: Array, the units of the entries of all uncertain weights.
        temperature: Float.

    Raises:
        TypeError, ValueError: If data are not real and finite, or targets or weights of rows do not
            fit.
    """
    sums = _KroneckerSums if structure == "kron" else _Sums
    known: dict[Any, Any] = {}
    total: Any = None
    total_weight = log_likelihood = 0.0
    for x, y, sample_weight in batches:
        num_rows = len(keras.tree.flatten(x)[0])
        each = row_weights(sample_weight, num_rows, weights[0].dtype.name)
        x, y = observations(function, x, y, batch_size, known)
        if total is None:
            total = sums(function, weights, chosen, x, structure == "diag")
        total_weight += float(each.sum())
        for rows in slices(num_rows, min(batch_size, total.most_rows)):
            log_likelihood += total.add(
                rows_of(x, rows), y[rows], ops.convert_to_tensor(each[rows])
            )
    if not total_weight > 0.0:
        raise ValueError("`sample_weight` must have a positive sum. Received: only zeros")
    curvature = total.curvature(scale / np.sqrt(temperature))
    return curvature, log_likelihood / temperature


def slices(num_rows: int, batch_size: int) -> list[slice]:
    """Returns the slices of batches of rows."""
    return [slice(first, first + batch_size) for first in range(0, num_rows, batch_size)]


class _Sums:
    """Sums of the Gauss-Newton matrix or of its diagonal, in double precision."""

    def __init__(self, function, weights, chosen, x, is_diagonal):
        self._network = LinearizedNetwork.of(function, chosen)
        self._weights = weights
        self._is_diagonal = is_diagonal
        self._matrix = 0.0
        self.most_rows = self._network.most_rows(weights, x)

    def add(self, x, y, sample_weight):
        """Adds some rows, and returns their log-likelihood."""
        compute = self._network.diagonal if self._is_diagonal else self._network.curvature
        matrix, log_likelihood = compute(self._weights, x, y, sample_weight)
        self._matrix += ops.convert_to_numpy(matrix).astype("float64")
        return float(log_likelihood)

    def curvature(self, scale):
        """The curvature in other units of the weights."""
        _check_finite(self._matrix)
        if self._is_diagonal:
            return DiagonalCurvature(self._matrix * np.square(scale))
        return FullCurvature(self._matrix * np.outer(scale, scale))


class _KroneckerSums:
    """Sums of the Kronecker factors of layers, and of the diagonal of other weights."""

    def __init__(self, function, weights, chosen, x, _):
        self._network = KroneckerNetwork.of(function, chosen, weights, x)
        self._weights = weights
        self._chosen = chosen
        self._factors = [[0.0, 0.0, 0.0] for _ in self._network.layers]
        others = self._network.others
        self._others = _Sums(function, weights, others, x, True) if others else None
        limits = [part.most_rows for part in (self._network, self._others) if part is not None]
        self.most_rows = min(limits)

    def add(self, x, y, sample_weight):
        """Adds some rows, and returns their log-likelihood."""
        if self._others is not None:
            log_likelihood = self._others.add(x, y, sample_weight)
        if self._network.layers:
            factors, value = self._network.factors(self._weights, x, y, sample_weight)
            log_likelihood = float(value)
            for sums, parts in zip(self._factors, factors):
                sums[:] = [
                    old + ops.convert_to_numpy(new).astype("float64")
                    for old, new in zip(sums, parts)
                ]
        return log_likelihood

    def curvature(self, scale):
        """The curvature in other units of the weights."""
        sizes = [self._weights[place].size for place in self._chosen]
        ends = list(itertools.accumulate(sizes, initial=0))
        places_of = {
            place: np.arange(*ends[number : number + 2])
            for number, place in enumerate(self._chosen)
        }
        blocks = []
        for layer, (of_features, of_outputs, count) in zip(self._network.layers, self._factors):
            places = np.concatenate([places_of[place] for place in layer.positions])
            places = places.reshape(layer.num_features, layer.num_outputs)
            units = scale[places[:, 0]]
            of_features = of_features * np.outer(units, units) / count
            _check_finite(of_features), _check_finite(of_outputs)
            blocks.append(KroneckerBlock(places, of_features, of_outputs))
        diagonal = np.zeros(ends[-1])
        if self._others is not None:
            places = np.concatenate([places_of[place] for place in self._network.others])
            diagonal[places] = self._others.curvature(scale[places]).matrix
        return KroneckerCurvature(blocks, diagonal)


def _check_finite(matrix):
    if not np.isfinite(matrix).all():
        raise ValueError(
            "The curvature of the log-likelihood must be finite. Received: NaN or infinity; "
            "check the weights of the model, `x` and `y`"
        )
