"""Texts that the docstrings of several classes or functions share."""

import inspect
import textwrap
from collections.abc import Callable
from typing import Any


def fill_docstring(**texts: str) -> Callable[[Any], Any]:
    """Returns a decorator that puts texts in the place of lines such as `{arguments}`.

    Args:
        **texts: The text for each name, of any number of lines.
    """
    texts = {f"{{{name}}}": inspect.cleandoc(text) for name, text in texts.items()}

    def fill(documented):
        if documented.__doc__:  # Python leaves docstrings out with -OO.
            lines = documented.__doc__.split("\n")
            documented.__doc__ = "\n".join(_filled(line, texts) for line in lines)
        return documented

    return fill


def _filled(line, texts):
    stripped = line.lstrip()
    if stripped not in texts:
        return line
    return textwrap.indent(texts[stripped], line[: len(line) - len(stripped)])
