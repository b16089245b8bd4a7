"""The substrate of TensorFlow Probability for JAX, imported with a JAX that it was not made for.

When it is imported, the substrate of TensorFlow Probability 0.25 enters the class of its variables
in tables of JAX, under public names that JAX drops one after the other: the first with version 0.7,
`jax.core.pytype_aval_mappings`, which is deprecated in 0.10, after it. Put back are those that are
missing; a JAX that has a name keeps its own. Ignored are the warnings that code of TensorFlow
Probability causes, and no other: those about 64-bit numbers, which JAX disables by default, and
those about its use of JAX. Known to hold since JAX 0.10. A release of TensorFlow Probability made
for newer versions of JAX makes it unnecessary.
"""

import contextlib
import functools
import importlib
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np

# Public module and name, and where JAX has the table.
_AVALS = "jax._src.core", "pytype_aval_mappings"
_HANDLERS = "jax._src.dtypes", "canonicalize_value_handlers"
_TABLES = (
    ("jax.core", "pytype_aval_mappings", *_AVALS),
    ("jax.interpreters.xla", "pytype_aval_mappings", *_AVALS),
    ("jax.interpreters.xla", "canonicalize_dtype_handlers", *_HANDLERS),
)
_RAISED_BY_TFP = (
    ("Explicitly requested dtype u?(int|float)64", UserWarning),
    ("shape requires ndarray or scalar arguments", DeprecationWarning),
)


@functools.cache
def jax_substrate() -> ModuleType:
    """Returns `tensorflow_probability.substrates.jax`.

    Raises:
        ImportError: If TensorFlow Probability is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for module_name, name, home, private in _TABLES:
            module = importlib.import_module(module_name)
            if not hasattr(module, name):
                # Without the table nothing is lost but variables of TFP as arguments of JAX.
                own = importlib.import_module(home)
                setattr(module, name, getattr(own, private, {np.ndarray: None}))
        substrate = importlib.import_module("tensorflow_probability.substrates.jax")
    for message, category in _RAISED_BY_TFP:
        warnings.filterwarnings("ignore", message, category, module=r"tensorflow_probability\.")
    return substrate


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within it, TFP on JAX may ask arrays for numbers of 64 bits without a warning.

    The warning is that of a method of arrays, which would be anybody's elsewhere.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Explicitly requested dtype .*64 requested in astype")
        yield


def quietly(function: Callable) -> Callable:
    """Returns a function that is called in `quiet`."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        with quiet():
            return function(*args, **kwargs)

    return wrapped
