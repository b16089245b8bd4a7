"""Docstrings as they are at run time, with the texts that several of them share."""

import importlib
import inspect
import operator
from typing import Any

import griffe


class FilledDocstrings(griffe.Extension):
    """Takes docstrings with `fill_docstring` from the imported classes, functions and methods."""

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        _fill(cls)

    def on_function(self, *, func: griffe.Function, **kwargs: Any) -> None:
        _fill(func)


def _fill(documented):
    if any(
        decorator.callable_path.endswith("fill_docstring") for decorator in documented.decorators
    ):
        module = importlib.import_module(documented.module.path)
        name = documented.path.removeprefix(f"{module.__name__}.")
        documented.docstring.value = inspect.getdoc(operator.attrgetter(name)(module))
