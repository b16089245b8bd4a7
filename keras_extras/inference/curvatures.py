"""Curvatures of a log-likelihood, each with what a normal posterior needs of it.

The posterior covariance is `(H + p I)^-1`, with `H` the curvature and `p` the precision of a prior
that is the same for all weights. Each class has

- `eigenvalues`, an array of those of `H`, none negative;
- `inverse_root(vectors, precision)`, the product of vectors along the first axis and a matrix `A`
  with `A A^T` the covariance;
- `variances(precision)`, the diagonal of the covariance;
- `is_independent`, a Boolean array of the weights that are independent of all others.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg

# Times the norm of the curvature: the precision of the prior with which a sum is factorized.
_LEAST_PRECISION = 1e-5


class FullCurvature:
    """All entries of the curvature.

    Args:
        matrix: Array of shape `(size, size)`.
    """

    def __init__(self, matrix: np.ndarray):
        self.matrix = 0.5 * (matrix + matrix.T)
        self.is_independent = np.zeros(len(matrix), bool)

    @functools.cached_property
    def eigenvalues(self) -> np.ndarray:
        return np.maximum(scipy.linalg.eigvalsh(self.matrix), 0.0)

    @functools.cached_property
    def _spectrum(self):
        """Eigenvalues, and vectors along the second axis."""
        values, vectors = scipy.linalg.eigh(self.matrix, driver="evd")
        return np.maximum(values, 0.0), vectors

    def inverse_root(self, vectors: np.ndarray, precision: float) -> np.ndarray:
        # With less, rounding of `H` in single precision decides the least eigenvalues of the sum.
        if precision > _LEAST_PRECISION * np.abs(self.matrix).sum(axis=0).max():
            total = self.matrix.copy()
            total.flat[:: len(total) + 1] += precision
            root = scipy.linalg.cholesky(total, lower=True, overwrite_a=True)
            return scipy.linalg.solve_triangular(root, vectors, trans="T", lower=True)
        values, directions = self._spectrum
        return directions @ (vectors / np.sqrt(values + precision)[:, None])

    def variances(self, precision: float) -> np.ndarray:
        root = self.inverse_root(np.eye(len(self.matrix)), precision)
        return np.sum(np.square(root), axis=1)


class DiagonalCurvature:
    """The diagonal of the curvature.

    Args:
        matrix: Array of shape `(size,)`, the diagonal.
    """

    def __init__(self, matrix: np.ndarray):
        self.matrix = self.eigenvalues = np.maximum(matrix, 0.0)
        self.is_independent = np.ones(len(matrix), bool)

    def inverse_root(self, vectors: np.ndarray, precision: float) -> np.ndarray:
        return vectors / np.sqrt(self.matrix + precision)[:, None]

    def variances(self, precision: float) -> np.ndarray:
        return 1.0 / (self.matrix + precision)


class KroneckerBlock(NamedTuple):
    """The Kronecker product of two symmetric factors.

    Attributes:
        places: Integer array of shape `(features, outputs)`, where its weights are among all.
        of_features: Array of shape `(features, features)`.
        of_outputs: Array of shape `(outputs, outputs)`.
    """

    places: np.ndarray
    of_features: np.ndarray
    of_outputs: np.ndarray


class KroneckerCurvature:
    """Blocks that are Kronecker products, and the diagonal of all other weights.

    Of a product only the eigenvectors of its factors are computed: of `A x B` they are the
    products of those of `A` and `B`, and so are the eigenvalues.

    Args:
        blocks: The blocks.
        diagonal: Array of shape `(size,)`, which counts outside of the blocks.
    """

    def __init__(self, blocks: Sequence[KroneckerBlock], diagonal: np.ndarray):
        self.blocks = blocks
        self._diagonal = np.maximum(diagonal, 0.0)
        self.is_independent = np.ones(len(diagonal), bool)
        for block in blocks:
            self.is_independent[block.places] = False

    @property
    def matrix(self) -> np.ndarray:
        """All entries, of which a large network has too many."""
        matrix = np.diag(self._diagonal)
        for places, of_features, of_outputs in self.blocks:
            flat = places.ravel()
            matrix[np.ix_(flat, flat)] = np.kron(of_features, of_outputs)
        return matrix

    @functools.cached_property
    def _spectra(self):
        """The eigenvectors of the factors of each block."""
        return [
            tuple(np.linalg.eigh(factor) for factor in (block.of_features, block.of_outputs))
            for block in self.blocks
        ]

    @functools.cached_property
    def eigenvalues(self) -> np.ndarray:
        values = self._diagonal.copy()
        for block, ((of_features, _), (of_outputs, _)) in zip(self.blocks, self._spectra):
            products = np.outer(np.maximum(of_features, 0.0), np.maximum(of_outputs, 0.0))
            values[block.places] = products
        return values

    def inverse_root(self, vectors: np.ndarray, precision: float) -> np.ndarray:
        results = vectors / np.sqrt(self.eigenvalues + precision)[:, None]
        for block, ((_, of_features), (_, of_outputs)) in zip(self.blocks, self._spectra):
            turned = np.tensordot(of_features, results[block.places], axes=1)
            results[block.places] = np.matmul(of_outputs, turned)
        return results

    def variances(self, precision: float) -> np.ndarray:
        variances = 1.0 / (self.eigenvalues + precision)
        for block, ((_, of_features), (_, of_outputs)) in zip(self.blocks, self._spectra):
            inner = variances[block.places]
            variances[block.places] = of_features**2 @ inner @ (of_outputs**2).T
        return variances
