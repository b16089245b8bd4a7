"""Texts that the docstrings of several classes or functions share."""

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import TypeVar

Documented = TypeVar("Documented")


def fill_docstring(**texts: str) -> Callable[[Documented], Documented]:
    """Returns a decorator that puts texts in the place of lines such as `{arguments}`.

    Args:
        **texts: The text for each name, of any number of lines.
    """

    def fill(documented: Documented) -> Documented:
        if documented.__doc__:  # Python leaves docstrings out with -OO.
            documented.__doc__ = fill_text(documented.__doc__, **texts)
        return documented

    return fill


def fill_text(text: str, **texts: str) -> str:
    """Returns a text with others in the place of lines such as `{arguments}`."""
    for name, content in texts.items():
        text = _filled(text, rf"^( *)\{{{name}\}}$", inspect.cleandoc(content))
    return text


def _filled(text, place, content):
    return re.sub(place, lambda at: textwrap.indent(content, at[1]), text, flags=re.MULTILINE)
