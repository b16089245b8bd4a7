"""Values of hyperparameters, of whatever type, as text and as places on an axis."""

import math
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from numbers import Rational, Real
from typing import Any

import numpy as np

# Positive numbers that differ by more get a logarithmic axis.
_WIDE = 30
# More labels on one axis cover each other.
_LABELS = 20
_NAME_LENGTH, _LABEL_LENGTH = 40, 24


def plain(value: Any) -> str:
    """Returns text on one line that any file can hold: control characters are escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(value)
    )


def shown(value: Any) -> str:
    """Returns a value as text, floating-point numbers with four digits."""
    if isinstance(value, Real) and not isinstance(value, Rational | bool):
        return f"{value:.4g}"
    return plain(value)


def label(text: Any, length: int = _NAME_LENGTH) -> str:
    """Returns text for a figure, shortened, and with nothing that matplotlib takes for formulas."""
    text = plain(text)
    text = text if len(text) <= length else f"{text[: length - 1]}\N{HORIZONTAL ELLIPSIS}"
    return text.replace("$", r"\$")


def place(values: Sequence[Any]) -> tuple[np.ndarray, dict[float, str]]:
    """Returns heights from 0 to 1, -1 for `None`, and labels of some heights.

    Finite numbers are on a scale, which is logarithmic if they are positive over a wide range.
    Values of which some are of another type are as many choices.
    """
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    given = [value for value in values if value is not None]
    if not given:
        return np.full(len(values), -1.0), {}
    if all(_is_finite(value) for value in given):
        return _on_scale(values, min(given), max(given))
    names = _choices(given)
    choices = sorted(set(names.values()))
    steps = max(len(choices) - 1, 1)
    heights = {choice: position / steps for position, choice in enumerate(choices)}
    labels = {
        heights[choice]: label(choice, _LABEL_LENGTH)
        for choice in choices[:: math.ceil(len(choices) / _LABELS)]
    }
    return np.array([-1.0 if v is None else heights[names[repr(v)]] for v in values]), labels


def _is_finite(value):
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return isinstance(value, Rational) or math.isfinite(value)


def _choices(values):
    """From representations to names, which differ where values do: `1` is not `"1"`."""
    names = {repr(value): str(value) for value in values}
    return names if len(set(names.values())) == len(names) else {name: name for name in names}


def _on_scale(values, low, high):
    labels = {0.0: _of_axis(low)} | ({1.0: _of_axis(high)} if high > low else {})
    # Integers beyond the range of floats have logarithms and quotients within it.
    is_wide = low > 0 and high > _WIDE * low
    scale: Any = math.log if is_wide else Fraction
    start = scale(low)
    width = scale(high) - start or 1
    heights = [-1.0 if v is None else float((scale(v) - start) / width) for v in values]
    return np.array(heights), labels


def _of_axis(value):
    if isinstance(value, int) and abs(value) > 10**300:
        return f"{Decimal(value):.3g}"
    return f"{float(value):.3g}"
