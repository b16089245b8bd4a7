"""Distributions as trees of arrays, so that they pass in and out of transformations of JAX.

TFP's own trees of distributions have no hash, which a compiled function needs of its arguments.
"""

from typing import Any

import jax
import numpy as np

from keras_extras._core.distribution_kinds import unwrap
from keras_extras._core.probability import tfd


class DistributionStructure:
    """The class and parameters of a distribution, without its arrays.

    Args:
        distribution: A `tfd.Distribution`.
    """

    def __init__(self, distribution: Any):
        distribution = unwrap(distribution)
        self._class = type(distribution)
        parts, tree = jax.tree_util.tree_flatten(
            distribution.parameters, is_leaf=lambda part: isinstance(part, tfd.Distribution)
        )
        self._tree: Any = tree
        self._parts = tuple(map(_structure_of, parts))

    @staticmethod
    def leaves(distribution: Any) -> list[Any]:
        """Returns the arrays of a distribution, and of those that it holds."""
        parts = jax.tree_util.tree_leaves(
            unwrap(distribution).parameters,
            is_leaf=lambda part: isinstance(part, tfd.Distribution),
        )
        leaves = []
        for part in parts:
            if isinstance(part, tfd.Distribution):
                leaves += DistributionStructure.leaves(part)
            elif isinstance(part, jax.Array):
                leaves.append(part)
        return leaves

    def distribution(self, leaves: Any) -> Any:
        """Returns the distribution with these arrays, an iterator of them."""
        parts = [
            part.distribution(leaves)
            if isinstance(part, DistributionStructure)
            else next(leaves)
            if part is _ARRAY
            else part
            for part in self._parts
        ]
        return self._class(**jax.tree_util.tree_unflatten(self._tree, parts))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, DistributionStructure)
            and self._class is other._class
            and self._tree == other._tree
            and all(map(_are_equal, self._parts, other._parts))
        )

    def __hash__(self) -> int:
        return hash((self._class, len(self._parts)))


class _Array:
    """The place of an array."""


_ARRAY = _Array()


def _structure_of(part):
    if isinstance(part, tfd.Distribution):
        return DistributionStructure(part)
    return _ARRAY if isinstance(part, jax.Array) else part


def _are_equal(one, other):
    return one is other or (type(one) is type(other) and bool(np.all(one == other)))
