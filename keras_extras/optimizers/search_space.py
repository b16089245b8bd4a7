"""What a search moves: for each variable its coordinates, transform and sampling distribution."""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from keras_extras.optimizers.priors import Prior


@dataclass(frozen=True)
class Parameter:
    """A model variable together with the coordinates in which it is searched.

    Attributes:
        variable: The model's variable w.
        coordinates: The variable u that the search moves; `variable` itself without a transform.
        transform: Function from u to w, or `None`.
        prior: The sampling distribution of w, or `None`.
    """

    variable: keras.Variable
    coordinates: keras.Variable
    transform: Callable[[Any], Any] | None
    prior: Prior | None

    @property
    def scale(self) -> float:
        """The unit in which the search moves: the prior's standard deviation, 1 without one."""
        return 1.0 if self.prior is None else self.prior.stddev

    def to_values(self, coordinates: Any) -> Any:
        """Values that the model may see, by the transform and the variable's constraint."""
        values = coordinates if self.transform is None else self.transform(coordinates)
        constraint = self.variable.constraint
        return values if constraint is None else constraint(values)

    def to_coordinates(self, values: Any) -> Any:
        """Coordinates of given values."""
        inverse = getattr(self.transform, "inverse", None)
        return values if inverse is None else inverse(values)

    def pull(self) -> None:
        """Follows weights that were set from outside since the last step."""
        if self.transform is not None:
            values = ops.copy(self.variable)
            here = ops.copy(self.coordinates)
            same = ops.all(ops.isclose(self.to_values(here), values, rtol=1e-5, atol=1e-6))
            self.coordinates.assign(ops.where(same, here, self.to_coordinates(values)))

    def push(self) -> None:
        """Gives the model the values at the coordinates."""
        if self.transform is not None:
            self.variable.assign(self.to_values(ops.copy(self.coordinates)))


def match_patterns(
    name: str, patterns: Mapping[str, Any], variables: Sequence[keras.Variable]
) -> list[Any]:
    """For each variable the entry of the first pattern that matches its path, else `None`.

    A pattern is matched as in `fnmatch` with the path or with its end: `"head/*"` matches
    `"sequential/head/kernel"`.

    Raises:
        ValueError: If a pattern matches no variable.
    """

    def matches(pattern, variable):
        path = variable.path
        return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"*/{pattern}")

    for pattern in patterns:
        if not any(matches(pattern, variable) for variable in variables):
            paths = ", ".join(repr(variable.path) for variable in variables)
            raise ValueError(
                f"Each pattern in `{name}` must match the path of a trainable variable. "
                f"Received: {pattern!r}, which matches none of {paths}"
            )
    return [
        next((entry for pattern, entry in patterns.items() if matches(pattern, variable)), None)
        for variable in variables
    ]


def check_transform(transform: Callable[[Any], Any], variable: keras.Variable) -> None:
    """Raises a ValueError if `transform` does not return what `variable` can hold."""
    shape = tuple(transform(ops.copy(variable)).shape)
    if shape != tuple(variable.shape):
        raise ValueError(
            f"A transform must keep the shape of its variable. Received: {transform!r} for "
            f"{variable.path!r}, which turns shape {tuple(variable.shape)} into {shape}"
        )
