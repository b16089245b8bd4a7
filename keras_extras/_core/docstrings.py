"""Texts that the docstrings of several classes or functions share."""

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any


def fill_docstring(**texts: str) -> Callable[[Any], Any]:
    """Returns a decorator that puts texts in the place of lines such as `{arguments}`.

    Args:
        **texts: The text for each name, of any number of lines.
    """

    def fill(documented):
        if documented.__doc__:  # Python leaves docstrings out with -OO.
            documented.__doc__ = fill_text(documented.__doc__, **texts)
        return documented

    return fill


def fill_text(text: str, **texts: str) -> str:
    """Returns a text with others in the place of lines such as `{arguments}`."""
    for name, content in texts.items():
        lines = inspect.cleandoc(content)
        text = re.sub(
            rf"^( *)\{{{name}\}}$",
            lambda place, lines=lines: textwrap.indent(lines, place[1]),
            text,
            flags=re.MULTILINE,
        )
    return text
