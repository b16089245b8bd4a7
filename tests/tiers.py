"""Which members of a large cross run at each change; `--slow` runs the others, too."""

from collections.abc import Iterable
from typing import Any

import pytest
from precision import ON_JAX

# XLA compiles for longer than most trainings of tests last; on JAX nothing runs without it.
UNCOMPILED = {"jit_compile": "auto" if ON_JAX else False}


def quick(values: Iterable[Any], *chosen: Any) -> list:
    """The values of one parameter, all but the chosen ones marked `slow`."""
    return [
        value if value in chosen else pytest.param(value, marks=pytest.mark.slow)
        for value in values
    ]
