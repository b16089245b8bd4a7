"""Search with one pair of candidates, in little more memory than inference takes."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.stateless import substituted
from keras_extras.optimizers.antithetic import loss_beside
from keras_extras.optimizers.directions import dense, scaled
from keras_extras.optimizers.parameter import Parameter
from keras_extras.optimizers.replicas import mean_over_replicas


class ReplayedDraw:
    """Draws the same random numbers whenever it is called, in place of keeping them.

    Args:
        draw: Function without arguments that draws with `seed_generator`.
        seed_generator: A `keras.random.SeedGenerator`; it advances once.
    """

    def __init__(self, draw: Callable[[], Any], seed_generator: keras.random.SeedGenerator):
        self._draw = draw
        self._variable = seed_generator.state
        self._state = None

    def __call__(self, after: Any = None) -> Any:
        """Returns the numbers, drawn when the number `after` is known and not before.

        Draws that do not wait for each other would be made at once, or once for all.
        """
        if self._state is None:
            self._state = ops.copy(self._variable)
            return self._draw()
        nothing = 0.0 * ops.where(ops.isfinite(after), after, 0.0)
        state = self._state + ops.cast(nothing, self._state.dtype)
        with substituted([(self._variable, state)]):
            return self._draw()


def evaluate_pair(
    loss_at: Callable[[Sequence[Any]], Any],
    parameters: Sequence[Parameter],
    draw: ReplayedDraw,
    width: Any,
) -> tuple[Any, Any]:
    """Returns the losses at `width` on either side of the coordinates, one after the other."""

    def evaluate(side, direction):
        steps = [scaled(e, side * width * p.scale) for p, e in zip(parameters, direction)]
        return mean_over_replicas(
            lambda steps: loss_beside(loss_at, parameters, steps), list(steps)
        )

    plus = evaluate(1.0, draw())
    return plus, evaluate(-1.0, draw(after=plus))


def better_candidate(
    parameters: Sequence[Parameter], draw: ReplayedDraw, width: Any, plus: Any, minus: Any
) -> tuple[list[Any], Any]:
    """Returns the better one of a pair, and its loss, infinite if neither is finite."""
    plus, minus = (ops.where(ops.isfinite(loss), loss, float("inf")) for loss in (plus, minus))
    side = ops.where(minus < plus, -width, width)
    best = [
        ops.cast(p.coordinates, "float32") + side * p.scale * dense(e)
        for p, e in zip(parameters, draw(after=minus))
    ]
    return best, ops.minimum(plus, minus)
