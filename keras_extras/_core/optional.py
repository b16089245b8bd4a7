"""Imports of libraries that not every user needs."""

import importlib
from types import ModuleType


def import_optional(module: str, extra: str, purpose: str) -> ModuleType:
    """Imports `module`, or says which command installs it.

    Args:
        module: Name of the module, e.g. `"matplotlib.pyplot"`.
        extra: The extra of keras-extras that brings it, e.g. `"plots"`.
        purpose: What needs it, the start of the error's sentence.

    Returns:
        The imported module.

    Raises:
        ImportError: If the module's library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != library:
            raise
        raise ImportError(
            f"{purpose} needs {library}, which is not installed. "
            f'Run: pip install "keras-extras[{extra}]"'
        ) from error
