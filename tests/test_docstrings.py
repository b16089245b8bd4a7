"""What public docstrings say is true: examples run, arguments and defaults are the signature's."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import keras
import pytest

import keras_extras
from keras_extras._core.docstrings import fill_docstring

KERAS_BASES = (
    keras.Model,
    keras.layers.Layer,
    keras.losses.Loss,
    keras.metrics.Metric,
    keras.optimizers.Optimizer,
    keras.callbacks.Callback,
)
METHOD_KINDS = (property, classmethod, staticmethod)
EXAMPLE = re.compile(r"^( *)```python\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
SECTION = re.compile(r"^Args:\n(.*?)(?=^\S|\Z)", re.DOTALL | re.MULTILINE)
ARGUMENT = re.compile(r"^    (\*{0,2}\w+(?:, \w+)*): (.*?)(?=^    \S|\Z)", re.DOTALL | re.MULTILINE)
DEFAULT = re.compile(r"Defaults to `([^`]+)`")


def public_objects() -> dict[str, Any]:
    """Every public module, class, method and function of ours by its full name."""
    found: dict[str, Any] = {}
    add_module(keras_extras, found)
    return found


def add_module(module: ModuleType, found: dict[str, Any]) -> None:
    found[module.__name__] = module
    for name, value in public_names(module):
        if inspect.ismodule(value):
            add_module(value, found)
        elif inspect.isclass(value) or inspect.isfunction(value):
            found[f"{module.__name__}.{name}"] = value
            if inspect.isclass(value):
                for method, function in own_methods(value):
                    found[f"{module.__name__}.{name}.{method}"] = function


def public_names(module: ModuleType) -> Iterator[tuple[str, Any]]:
    names = getattr(module, "__all__", None)
    if names is None:
        names = [name for name in vars(module) if is_own(vars(module)[name], module)]
    yield from ((name, getattr(module, name)) for name in names if not name.startswith("_"))


def is_own(value: Any, module: ModuleType) -> bool:
    return getattr(value, "__module__", None) == module.__name__


def own_methods(cls: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties whose meaning Keras does not already lay down."""
    inherited = [set(dir(base)) for base in KERAS_BASES if issubclass(cls, base)]
    known = {"get_config", "from_config"}.union(*inherited)
    for name, value in vars(cls).items():
        is_method = inspect.isfunction(value) or isinstance(value, METHOD_KINDS)
        if is_method and not name.startswith("_") and name not in known:
            yield name, value


def plain_function(value: Any) -> Any:
    """The function behind a property, a class method or a static method."""
    value = value.fget if isinstance(value, property) else value
    return getattr(value, "__func__", value)


def examples(docstring: str) -> list[str]:
    return [textwrap.dedent(match[2]) for match in EXAMPLE.finditer(docstring)]


def documented_arguments(docstring: str) -> dict[str, str]:
    """The text of each argument in the section `Args:`, white space in single blanks."""
    section = SECTION.search(docstring)
    return {
        name.lstrip("*"): " ".join(match[2].split())
        for match in ARGUMENT.finditer(section[1] if section else "")
        for name in match[1].split(", ")
    }


def wrong_arguments(function: Any, docstring: str) -> list[str]:
    """What the section `Args:`, if there is one, says otherwise than the signature."""
    documented = documented_arguments(docstring)
    if not documented:
        return []
    # Not of the class itself: Python 3.10 shows the `__new__` of Keras for an inherited `__init__`.
    called = function.__init__ if inspect.isclass(function) else function
    parameters = dict(inspect.signature(called).parameters)
    parameters.pop("self", None)
    wrong = [f"{name} is no argument" for name in documented if name not in parameters]
    wrong += [f"{name} is not documented" for name in parameters if name not in documented]
    for name, text in documented.items():
        said = DEFAULT.search(text)
        if said and name in parameters and not same_default(said[1], parameters[name].default):
            wrong.append(f"{name} defaults to {parameters[name].default!r}, not {said[1]}")
    return wrong


def same_default(said: str, default: Any) -> bool:
    try:
        value = ast.literal_eval(said)
    except (ValueError, SyntaxError):
        return said == getattr(default, "__name__", None)
    return type(value) is type(default) and value == default


PUBLIC = public_objects()
EXAMPLES = [
    pytest.param(example, id=f"{name}-{number}")
    for name, value in PUBLIC.items()
    for number, example in enumerate(examples(inspect.getdoc(value) or ""))
]


def test_every_public_name_has_a_docstring():
    assert [name for name, value in PUBLIC.items() if not inspect.getdoc(value)] == []


# It starts processes, which import the module of its example; the guide to tuning has one.
WITHOUT_EXAMPLE = {"keras_extras.tuners.run_workers"}


def test_every_public_class_and_function_has_an_example():
    without = {
        f"{module}.{name}"
        for module, value in PUBLIC.items()
        if inspect.ismodule(value)
        for name, member in public_names(value)
        if inspect.isclass(member) or inspect.isfunction(member)
        if not examples(inspect.getdoc(member) or "")
    }
    assert without == WITHOUT_EXAMPLE


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_run(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "<docstring example>", "exec"), {"__name__": "__main__"})


def test_documented_arguments_and_defaults_are_those_of_the_signature():
    wrong = {
        name: wrong_arguments(value, inspect.getdoc(value) or "")
        for name, value in PUBLIC.items()
        if inspect.isclass(value) or inspect.isfunction(value)
    }
    assert {name: faults for name, faults in wrong.items() if faults} == {}


def test_shared_texts_are_filled_in():
    @fill_docstring(
        arguments="""
        x: A number
            of any kind.
        y: Another.
        """
    )
    def documented(x, y):
        """Adds.

        Args:
            {arguments}
        """

    expected = "Adds.\n\nArgs:\n    x: A number\n        of any kind.\n    y: Another."
    assert inspect.getdoc(documented) == expected
    left = {
        name: re.findall(r"^ *\{\w+\}$", inspect.getdoc(value) or "", re.MULTILINE)
        for name, value in PUBLIC.items()
    }
    assert {name: lines for name, lines in left.items() if lines} == {}


def unannotated(function: Any) -> list[str]:
    """What of a function's signature has no type."""
    signature = inspect.signature(function)
    untyped = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.annotation is parameter.empty and name not in ("self", "cls")
    ]
    is_typed = signature.return_annotation is not signature.empty or function.__name__ == "__init__"
    return untyped if is_typed else [*untyped, "return"]


def test_public_signatures_have_types():
    """For those who check theirs: the package ships `py.typed`."""
    functions = {
        name: value.__init__ if inspect.isclass(value) else plain_function(value)
        for name, value in PUBLIC.items()
    }
    wrong = {
        name: unannotated(function)
        for name, function in functions.items()
        if inspect.isfunction(function) and function.__module__.startswith("keras_extras.")
    }
    assert len(wrong) > 300
    assert {name: faults for name, faults in wrong.items() if faults} == {}


SAMPLE = """Does a thing.

Args:
    rate, share: Two floats. Defaults to
        `0.5`.
    mode: One of `"a"`. Defaults to `"a"`.
    *rest: More.

Example:

```python
print("one")
```
"""


def test_the_docstring_reader_itself():
    assert documented_arguments(SAMPLE) == {
        "rate": "Two floats. Defaults to `0.5`.",
        "share": "Two floats. Defaults to `0.5`.",
        "mode": 'One of `"a"`. Defaults to `"a"`.',
        "rest": "More.",
    }
    assert examples(SAMPLE) == ['print("one")\n']

    def agrees(rate=0.5, share=0.5, mode="a", *rest): ...

    def differs(rate=0.25, mode="a", other=None, *rest): ...

    assert wrong_arguments(agrees, SAMPLE) == []
    assert wrong_arguments(differs, SAMPLE) == [
        "share is no argument",
        "other is not documented",
        "rate defaults to 0.25, not 0.5",
    ]


def test_public_names_are_found():
    assert {"keras_extras.layers", "keras_extras.layers.MissingValueImputer.adapt"} <= set(PUBLIC)
    assert "keras_extras.layers.MissingValueImputer.build" not in PUBLIC
    assert len(EXAMPLES) >= 3
