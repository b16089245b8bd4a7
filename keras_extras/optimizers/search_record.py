"""SearchRecord: what the compiled step notes of a generation, for who watches the search."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.stateless import choose
from keras_extras.optimizers.parameter import Parameter
from keras_extras.optimizers.replicas import mean_over_replicas, searching_strategy

_NAMES = ("center_loss", "best_loss", "better_share", "step")


class SearchRecord:
    """Numbers of the last generation of a batch, of which the compiled step keeps track.

    It evaluates the loss once more in each batch, but only while it is watched.

    Args:
        optimizer: Its variables hold the numbers.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer):
        self._watched = optimizer.add_variable((), dtype="bool", name="watched")
        self._better = optimizer.add_variable((), dtype="int32", name="better_candidates")
        self._counted = optimizer.add_variable((), dtype="int32", name="counted_candidates")
        self._numbers = {
            name: optimizer.add_variable((), dtype="float32", name=name) for name in _NAMES
        }

    def watch(self, watched: bool) -> None:
        """Starts to keep track, or stops."""
        self._watched.assign(watched)
        for number in self._numbers.values():
            number.assign(math.nan if watched else 0.0)

    def numbers(self) -> dict[str, float]:
        """Returns the numbers of the last generation that was watched, NaN before there is one."""
        if not bool(self._watched.numpy()):
            return dict.fromkeys(_NAMES, math.nan)
        values = {name: float(number.numpy()) for name, number in self._numbers.items()}
        return {name: v if math.isfinite(v) else math.nan for name, v in values.items()}

    def begin(self, loss_at: Callable, parameters: Sequence[Parameter]) -> list[Any]:
        """Notes the loss where the generation starts from; returns the coordinates there."""
        here = [ops.cast(p.coordinates, "float32") for p in parameters]
        if searching_strategy() is None:
            loss = self._if_watched(lambda: loss_at(here))
        else:  # What one process waits for all must do, watched or not.
            loss = mean_over_replicas(loss_at, here)
        self._numbers["center_loss"].assign(loss)
        self._better.assign(0)
        self._counted.assign(0)
        return here

    def count(self, losses: Any, where: Any) -> None:
        """Counts candidates, and those that are better than where the generation started."""
        better = losses < ops.copy(self._numbers["center_loss"])
        for counter, which in ((self._better, better), (self._counted, ops.ones_like(better))):
            counter.assign_add(ops.sum(ops.cast(ops.logical_and(which, where), "int32")))

    def end(
        self, here: Sequence[Any] | None, best_loss: Any, parameters: Sequence[Parameter]
    ) -> None:
        """Notes what came of the generation that started from `here`, if that is still known."""

        def step():
            moves = [
                ops.reshape((ops.cast(p.coordinates, "float32") - u) / p.scale, (-1,))
                for p, u in zip(parameters, here)
            ]
            return ops.sqrt(ops.mean(ops.square(ops.concatenate(moves))))

        share = ops.cast(self._better, "float32") / ops.cast(self._counted, "float32")
        if here is not None:
            self._numbers["step"].assign(self._if_watched(step))
        self._numbers["best_loss"].assign(best_loss)
        self._numbers["better_share"].assign(share)

    def _if_watched(self, number):
        return choose(
            ops.copy(self._watched), number, lambda: ops.convert_to_tensor(0.0, "float32")
        )
