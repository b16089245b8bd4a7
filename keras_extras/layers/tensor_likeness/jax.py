"""Objects that are arrays to Keras on JAX, and trees of arrays to its transformations."""

from typing import Any

import jax
import numpy as np

from keras_extras._core.probability import tfd
from keras_extras._seams.jax_substrate import quietly as quietly
from keras_extras._seams.layer_inputs import give_layers_tensors
from keras_extras.layers.tensor_likeness.distribution_leaves import DistributionStructure

METACLASS = type("Metaclass", (type(tfd.Distribution), type(jax.Array)), {})
_OWN = {"__array__", "__bool__", "__float__", "__hash__", "__iter__", "__len__"}
_COMPARISONS = {"__ge__", "__gt__", "__le__", "__lt__"}  # An object has them, too.
OPERATORS = _COMPARISONS | {
    name
    for name in set(dir(jax.Array)) - set(dir(object)) - _OWN
    if name.startswith("__") and callable(getattr(jax.Array, name))
}
_ATTRIBUTES = [name for name in dir(jax.Array) if not name.startswith("_")]


class TensorLike(jax.Array):
    """An object that stands for the array `_tensor`.

    As a tree its leaves are that array, those of the distribution, which is made of them again
    when it is asked for, and the inputs that it was made from.
    """

    _tensor: Any
    _apart: Any
    _distribution: Any
    __hash__ = object.__hash__

    def __init__(self) -> None:
        pass  # An array has no state but that of the one it stands for.

    def numpy(self) -> np.ndarray:
        return np.asarray(self._tensor)

    def __jax_array__(self) -> jax.Array:
        return self._tensor

    def __array__(
        self, dtype: Any = None, context: None = None, copy: bool | None = None
    ) -> np.ndarray:
        return np.array(self._tensor, dtype=dtype)

    @property
    def tensor_distribution(self) -> Any:
        if "_distribution" not in vars(self):
            structure, leaves = self._apart
            self._distribution = structure.distribution(iter(leaves))
        return self._distribution

    @tensor_distribution.setter
    def tensor_distribution(self, distribution: Any) -> None:
        self._distribution = distribution


def dtype_named(name: str) -> np.dtype:
    """Returns the dtype of a name as arrays of the backend have it."""
    return np.dtype(name)


def register(cls: type) -> None:
    """Lets JAX take objects of a class apart, and gives Keras' own layers the array."""
    for name in _ATTRIBUTES:
        if name not in vars(cls) and not hasattr(tfd.Distribution, name):
            setattr(cls, name, _of_array(name))
    jax.tree_util.register_pytree_node(cls, _flatten, lambda aux, leaves: _made(cls, aux, leaves))
    give_layers_tensors(cls, lambda value: value._tensor)


def _of_array(name):
    return property(lambda self: getattr(self._tensor, name))


def _flatten(value):
    if "_apart" not in vars(value):
        distribution = value.tensor_distribution
        structure = DistributionStructure(distribution)
        value._apart = structure, DistributionStructure.leaves(distribution)
    structure, leaves = value._apart
    layer, inputs = vars(value).get("made_from", (None, None))
    return (value._tensor, leaves, inputs), (structure, layer, value._seed_generator)


def _made(cls, aux, children):
    value = object.__new__(cls)
    structure, layer, value._seed_generator = aux
    value._tensor, leaves, inputs = children
    value._apart = structure, leaves
    if layer is not None:
        value.made_from = (layer, inputs)
    return value
