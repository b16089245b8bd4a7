"""The substrate of TensorFlow Probability for JAX, imported with a JAX that it was not made for.

Put back is `jax.interpreters.xla.pytype_aval_mappings`, under which the substrate of TensorFlow
Probability 0.25 looks a table up that JAX has had as `jax.core.pytype_aval_mappings` alone since
version 0.5. A JAX that has the name keeps its own. Known to hold since JAX 0.10. A release of
TensorFlow Probability made for newer versions of JAX makes it unnecessary.
"""

import functools
import importlib
import warnings
from types import ModuleType

_ON_64_BITS = "Explicitly requested dtype .*64"


def jax_substrate() -> ModuleType:
    """Returns `tensorflow_probability.substrates.jax`.

    Raises:
        ImportError: If TensorFlow Probability is not installed.
    """
    import jax
    from jax.interpreters import xla

    with warnings.catch_warnings():
        # JAX on the place of the table, and TFP on integers of 64 bits that JAX does not use.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", _ON_64_BITS, UserWarning)
        if not hasattr(xla, "pytype_aval_mappings"):
            xla.pytype_aval_mappings = jax.core.pytype_aval_mappings  # type: ignore[attr-defined]
        module = importlib.import_module("tensorflow_probability.substrates.jax")
    _filter_once()
    return module


@functools.cache
def _filter_once():
    # Users asked for no 64 bits. The second module is where casts by TFP are reported.
    for module in ("tensorflow_probability", r"jax\._src\.numpy\.array_methods"):
        warnings.filterwarnings("ignore", _ON_64_BITS, UserWarning, module)
