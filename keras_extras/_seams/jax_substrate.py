"""The substrate of TensorFlow Probability for JAX, imported with a JAX that it was not made for.

Put back is `jax.interpreters.xla.pytype_aval_mappings`, under which the substrate of TensorFlow
Probability 0.25 looks a table up that JAX has had as `jax.core.pytype_aval_mappings` alone since
version 0.5. A JAX that has the name keeps its own. Ignored are the warnings that code of TensorFlow
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
    import jax
    from jax.interpreters import xla

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if not hasattr(xla, "pytype_aval_mappings"):
            setattr(xla, "pytype_aval_mappings", jax.core.pytype_aval_mappings)  # noqa: B010
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
