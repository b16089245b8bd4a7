"""CandidateMap: the losses of many candidates, all at once or one after another."""

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.backend import backend_module
from keras_extras._core.vectorized_map import vectorized_map

_LOGGER = logging.getLogger("keras_extras")

Loss = Callable[[Sequence[Any]], Any]


class MissingValuesError(TypeError):
    """A loss asks for the values of a tensor that has none, because it is traced."""


class CandidateMap:
    """Maps a loss over candidates.

    A vectorized map takes the fewest operations, but not every loss has one: selecting rows by
    predictions leaves tensors of other shapes for each candidate, and calls of Python may keep
    states that belong to one candidate. Those are evaluated one candidate after another.

    Args:
        owner: String, the name of the optimizer.
        vectorize: Boolean, or `"auto"` to look at the loss.
    """

    def __init__(self, owner: str, vectorize: bool | str):
        self._owner, self._vectorize = owner, vectorize
        self.forget()

    def forget(self) -> None:
        """Looks at the next loss again."""
        self._values: int | None = None
        self.is_sequential = self._vectorize is False

    @property
    def values(self) -> int:
        """About how many numbers the loss of a candidate is computed by, 0 if that is unknown."""
        return 0 if self.is_sequential else self._values or 0

    def candidate_bytes(self, loss_at: Loss, shapes: Sequence[tuple[int, ...]]) -> int:
        """Returns about how much memory one candidate takes: all that its loss is computed by.

        Args:
            loss_at: Function from a list of tensors (one candidate) to a scalar loss.
            shapes: The shapes of these tensors.
        """
        self._examine(loss_at, [keras.KerasTensor(shape, "float32") for shape in shapes])
        return 4 * (self.values + sum(math.prod(shape) for shape in shapes))

    def __call__(self, loss_at: Loss, candidates: Sequence[Any]) -> Any:
        """Returns the loss of each candidate.

        Args:
            loss_at: Function from a list of tensors, or tuples of them, to a scalar loss.
            candidates: List of tensors of shape `(population, ...)`, or tuples of them.
        """
        first = keras.tree.map_structure(
            lambda c: keras.KerasTensor(c.shape[1:], keras.backend.standardize_dtype(c.dtype)),
            candidates,
        )
        self._examine(loss_at, first)
        if self.is_sequential:
            return self._one_by_one(loss_at, candidates)
        try:
            return vectorized_map(loss_at, candidates)
        except Exception as error:
            if self._vectorize is True:
                raise _not_vectorized(self._owner, error) from error
            losses = self._one_by_one(loss_at, candidates)
            self._turn_sequential(error)
            return losses

    def _one_by_one(self, loss_at, candidates):
        def loss_in_float32(candidate):
            with self.naming_the_way_out():
                return ops.cast(loss_at(candidate), "float32")

        return _backend().one_by_one(loss_in_float32, candidates)

    @contextlib.contextmanager
    def naming_the_way_out(self) -> Iterator[None]:
        """Within it, a loss that asks a traced tensor for values raises `MissingValuesError`."""
        try:
            yield
        except Exception as error:
            if isinstance(error, MissingValuesError) or not _backend().lacks_values(error):
                raise
            raise MissingValuesError(
                f"The loss asks for values of tensors, which a compiled step of {self._owner} does "
                "not have. Compile the model with `run_eagerly=True`, or put what needs the values "
                f"into `{_backend().HOST_FUNCTION}`; either way `vectorize=False` evaluates one "
                f"candidate after another. Received: a loss that fails with: {error}"
            ) from error

    def _examine(self, loss_at, candidate):
        if self._values is not None:
            return
        self._values = 0
        if self.is_sequential:
            return
        try:
            self._values, obstacle = _backend().examine(loss_at, candidate)
        except Exception as error:
            # A mistake in the loss raises where candidates are evaluated.
            lacks_values = isinstance(error, MissingValuesError) or _backend().lacks_values(error)
            obstacle = "it asks for values of tensors" if lacks_values else None
        if obstacle is None:
            return
        if self._vectorize is True:
            raise _not_vectorized(self._owner, obstacle)
        self._turn_sequential(obstacle)

    def _turn_sequential(self, obstacle):
        self.is_sequential = True
        reason = str(obstacle).strip().split("\n")[0]
        _LOGGER.warning(
            "%s evaluates candidates one after another, as with `vectorize=False`, because the "
            "loss cannot be vectorized: %s",
            self._owner,
            reason,
        )


def _not_vectorized(owner, obstacle):
    return ValueError(
        f"{owner} cannot evaluate this loss for many candidates at once. Give `vectorize=False`, "
        "or leave it at 'auto', to evaluate one after another. Received: vectorize=True, "
        f"and a loss that cannot be vectorized: {obstacle}"
    )


def _backend():
    return backend_module(__name__, "A search of candidates")
