"""Choices for variables by patterns of their paths."""

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import keras


def matches(pattern: str, path: str) -> bool:
    """Returns whether a pattern matches a path, or its end from some `/` on."""
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"*/{pattern}")


def match_patterns(
    name: str, patterns: Mapping[str, Any], variables: Sequence[keras.Variable]
) -> list[Any]:
    """For each variable the entry of the first pattern that matches its path, else `None`.

    A pattern is matched as in `fnmatch` with the path or with its end: `"head/*"` matches
    `"sequential/head/kernel"`.

    Raises:
        ValueError: If a pattern matches no variable.
    """
    for pattern in patterns:
        if not any(matches(pattern, variable.path) for variable in variables):
            paths = ", ".join(repr(variable.path) for variable in variables)
            raise ValueError(
                f"Each pattern in `{name}` must match the path of a trainable variable. "
                f"Received: {pattern!r}, which matches none of {paths}"
            )
    return [
        next(
            (entry for pattern, entry in patterns.items() if matches(pattern, variable.path)), None
        )
        for variable in variables
    ]


def by_pattern(name: str, choice: Any, variables: Sequence[keras.Variable]) -> list[Any]:
    """Returns what is chosen for each variable.

    Args:
        name: String, the argument's name.
        choice: The choice for all variables, or a dict from patterns of `variable.path` to choices.
        variables: The variables.
    """
    if not isinstance(choice, Mapping):
        return [choice] * len(variables)
    choices = match_patterns(name, choice, variables)
    missing = [v.path for v, found in zip(variables, choices) if found is None]
    if missing:
        raise ValueError(
            f"`{name}` must have a pattern for each weight; `'*'` at the end matches all others. "
            f"Received: none for {missing}"
        )
    return choices


def check_patterns(name: str, patterns: Any, kind: Any, expected: str) -> dict[str, Any]:
    """Returns a dict from patterns to entries of a kind; None is an empty one.

    Raises:
        TypeError: If it is no dict, or an entry is of another kind, with `expected` as the kind's
            name.
    """
    patterns = {} if patterns is None else patterns
    if not isinstance(patterns, Mapping):
        raise TypeError(
            f"`{name}` must be a dict from patterns of variable paths. "
            f"Received: {name}={patterns!r}"
        )
    for pattern, entry in patterns.items():
        if not isinstance(entry, kind) or isinstance(entry, type):
            raise TypeError(
                f"`{name}` must hold {expected}, for each pattern. "
                f"Received: {entry!r} for {pattern!r}"
            )
    return dict(patterns)
