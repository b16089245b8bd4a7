"""Parameter: a variable of the model and the coordinates in which an optimizer searches it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras.optimizers.priors import Prior

_NARROW = 0.01


@dataclass(frozen=True)
class Parameter:
    """A model variable together with the coordinates in which it is searched.

    Attributes:
        variable: The model's variable w.
        coordinates: The variable u that the search moves, which may be `variable` itself.
        kept: The variable that holds the coordinates of w; where the search is, `coordinates`.
        transform: Function from u to w, or `None`.
        prior: The sampling distribution of w, or `None`.
        sigma: The width of the search, in units of `scale`.
    """

    variable: keras.Variable
    coordinates: keras.Variable
    kept: keras.Variable
    transform: Callable[[Any], Any] | None
    prior: Prior | None
    sigma: float = 1.0

    @property
    def scale(self) -> float:
        """The unit in which the search moves.

        It is 1, or the standard deviation of a prior for values of another order of magnitude. A
        prior of ordinary width says where to start, and would only slow the search. Where values
        change in steps, candidates reach the next one.
        """
        grid = getattr(self.transform, "grid", None)
        if grid is not None:
            return max(1.0, grid / self.sigma)
        stddev = 1.0 if self.prior is None else self.prior.stddev
        return stddev if stddev > 1.0 or stddev < _NARROW else 1.0

    @property
    def is_free(self) -> bool:
        """Whether coordinates are values as they are."""
        return self.transform is None and self.variable.constraint is None

    def to_values(self, coordinates: Any) -> Any:
        """Values that the model may see, by the transform and the variable's constraint."""
        values = coordinates if self.transform is None else self.transform(coordinates)
        constraint = self.variable.constraint
        return values if constraint is None else constraint(values)

    def to_coordinates(self, values: Any) -> Any:
        """Coordinates of given values."""
        inverse = getattr(self.transform, "inverse", None)
        return values if inverse is None else inverse(values)

    def ends(self, coordinates: Any, distance: Any) -> tuple[Any, Any]:
        """Lower and upper ends of the values of coordinates that are known up to a distance."""
        lower, upper = coordinates - distance, coordinates + distance
        ends_of = getattr(self.transform, "ends", None)
        if ends_of is not None:
            lower, upper = ends_of(coordinates, distance)
        elif self.transform is not None:
            one, other = self.transform(lower), self.transform(upper)
            lower, upper = ops.minimum(one, other), ops.maximum(one, other)
        constraint = self.variable.constraint
        if constraint is None:
            return lower, upper
        # Entries that a constraint couples, as a unit norm does, have no ends of their own.
        one, other = constraint(lower), constraint(upper)
        some = np.random.default_rng(0).random(lower.shape) < 0.5
        mixed = constraint(ops.where(some, lower, upper))
        if np.allclose(mixed, ops.where(some, one, other)):
            return one, other
        return ops.full_like(lower, -np.inf), ops.full_like(upper, np.inf)

    def pull(self) -> None:
        """Follows weights that were set from outside since the last step."""
        if self.kept is self.variable:
            return
        values = ops.copy(self.variable)
        here = ops.copy(self.kept)
        known = self.to_values(here)
        same = ops.all(
            ops.cast(known, values.dtype) == values
            if self.is_free
            else ops.isclose(known, values, rtol=1e-5, atol=1e-6)
        )
        coordinates = self.to_coordinates(values)
        if self.coordinates is not self.kept:
            self.coordinates.assign(ops.where(same, ops.copy(self.coordinates), coordinates))
        self.kept.assign(ops.where(same, here, coordinates))

    @property
    def projection(self) -> Callable[[Any], Any] | None:
        """The function that brings coordinates back to where the variable's constraint allows."""
        return self.variable.constraint if self.transform is None else None

    @property
    def is_projected_as_a_whole(self) -> bool:
        """Whether that function may couple the entries, as a constraint on norms does."""
        return self.projection is not None and not isinstance(
            self.projection, keras.constraints.NonNeg
        )

    def project(self) -> None:
        """Brings the search back to where the variable's constraint allows it to be."""
        if self.projection is not None:
            self.coordinates.assign(self.projection(ops.copy(self.coordinates)))

    def push(self) -> None:
        """Gives the model the values at the coordinates that are kept."""
        if self.kept is not self.variable:
            self.variable.assign(self.to_values(ops.copy(self.kept)))


def check_transform(transform: Callable[[Any], Any], variable: keras.Variable) -> None:
    """Raises a ValueError if `transform` does not return what `variable` can hold."""
    shape = tuple(transform(ops.copy(variable)).shape)
    if shape != tuple(variable.shape):
        raise ValueError(
            f"A transform must keep the shape of its variable. Received: {transform!r} for "
            f"{variable.path!r}, which turns shape {tuple(variable.shape)} into {shape}"
        )
