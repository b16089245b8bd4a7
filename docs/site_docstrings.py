"""Docstrings as they are at run time, with the texts that several of them share."""

import importlib
import inspect
from typing import Any

import griffe


class FilledDocstrings(griffe.Extension):
    """Takes docstrings with `fill_docstring` from the imported classes and functions."""

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        _fill(cls)

    def on_function(self, *, func: griffe.Function, **kwargs: Any) -> None:
        _fill(func)


def _fill(documented):
    if documented.parent.is_module and any(
        decorator.callable_path.endswith("fill_docstring") for decorator in documented.decorators
    ):
        module = importlib.import_module(documented.module.path)
        documented.docstring.value = inspect.getdoc(getattr(module, documented.name))
