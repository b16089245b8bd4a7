"""LBFGS: the quasi-Newton method of limited memory."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_integer
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.optimizers.flat_weights_optimizer import LEARNING_RATE, RAISES, STEPS
from keras_extras.optimizers.line_search_optimizer import LineSearchOptimizer, careful_step


@serializable
@fill_docstring(learning_rate=LEARNING_RATE, steps=STEPS, raises=RAISES)
class LBFGS(LineSearchOptimizer):
    """Trains by L-BFGS, with a line search for the strong Wolfe conditions.

    The direction of a step is that of Newton's method with an estimate of the inverse Hessian,
    made from the last `history_size` steps s and changes of the gradient y. Each step goes along
    it to where `f(t) <= f(0) + 1e-4 t f'(0)` and `|f'(t)| <= 0.9 |f'(0)|`, which mostly takes one
    evaluation of loss and gradient. It is made for losses without noise: give it all rows as one
    batch, `fit(x, y, batch_size=len(x))`, and each epoch takes `iterations_per_batch` steps. On
    smaller batches, of which `fit` warns, both ends of a y are on the same batch, but each batch
    starts where the last one's minimum was sought: use batches large enough to agree, and a
    `learning_rate` below 1.

    A pair with `s . y <= epsilon |s| |y|`, epsilon being the precision of the weights, is left
    out; the line search makes that rare. If no lower loss is found along a direction, the pairs
    are forgotten and the next step goes down the gradient. A loss that is not finite makes the
    line search step back; if loss or gradient are not finite at the weights that a batch starts
    from, training stops with a `ValueError` and the weights stay as they were.

    Constraints that are boxes, `keras.constraints.NonNeg` and `keras_extras.constraints.Box`, are
    bounds of the minimization: entries that the gradient holds on a bound stay there, and the
    others take the step of their pairs alone, as far as the box lets them (projected steps of two
    metrics). Other constraints are an error.

    `evaluations` counts evaluations of loss and gradient, and `converged` is whether the
    last batch left nothing to do; such a batch costs one evaluation, and
    `callbacks.StopWhenConverged` ends `fit` there. Logs show `evaluations` and `gradient_norm`,
    the largest entry of the gradient where the batch ended. A penalty on the weights belongs in
    the loss, as a regularizer; `weight_decay` moves the weights between batches.

    References:
        Liu and Nocedal (1989), "On the limited memory BFGS method for large scale optimization".
        Nocedal and Wright (2006), "Numerical optimization", 2nd edition, algorithms 3.5 and 7.4.
        Bertsekas (1982), "Projected Newton methods for optimization problems with simple
        constraints".

    Args:
        {learning_rate}
        history_size: Integer, how many pairs to keep. Each takes the memory of two copies of the
            weights. Defaults to `10`.
        {steps}
        name: String, name of the optimizer. Defaults to `"lbfgs"`.
        **kwargs: Of `keras.optimizers.Optimizer`, such as `use_ema`.

    {raises}

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras

    x = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")
    y = (x @ np.array([1.0, -2.0, 0.5]) > 0.0).astype("float32")
    model = keras.Sequential([
        keras.Input((3,)),
        keras.layers.Dense(1, kernel_regularizer=keras.regularizers.L2(0.01)),
    ])
    optimizer = keras_extras.optimizers.LBFGS()
    model.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True))
    converged = keras_extras.callbacks.StopWhenConverged()
    model.fit(x, y, batch_size=200, epochs=20, callbacks=[converged], verbose=0)
    print(optimizer.evaluations, optimizer.converged)
    ```
    """

    takes_bounds = True

    def __init__(
        self,
        learning_rate: Any = 1.0,
        history_size: int = 10,
        iterations_per_batch: int = 10,
        tolerance: float = 1e-6,
        name: str = "lbfgs",
        **kwargs: Any,
    ):
        super().__init__(learning_rate, iterations_per_batch, tolerance, name=name, **kwargs)
        self.history_size = check_integer("history_size", history_size)

    def build_memory(self, size: int, dtype: str) -> list[keras.Variable]:
        return [
            self.add_variable((self.history_size, size), dtype=dtype, name=name)
            for name in ("steps", "changes")
        ]

    def direction(
        self, gradient_of: Callable[[Any], Any], point: Any, gradient: Any, memory: Sequence[Any]
    ) -> tuple[Any, Any, Sequence[Any]]:
        """The two-loop recursion (Nocedal and Wright, algorithm 7.4); the newest pair is last."""
        steps, changes = memory
        curvatures = ops.sum(steps * changes, axis=1)
        # A pair of zeros, where there is none yet, changes nothing; on a face of bounds a pair may
        # have no curvature.
        sizes = ops.sqrt(ops.sum(steps**2, axis=1) * ops.sum(changes**2, axis=1))
        weights = ops.where(curvatures > self._epsilon * sizes, 1.0 / curvatures, 0.0)
        direction = -gradient
        shares: list[Any] = []
        for i in reversed(range(self.history_size)):
            share = weights[i] * ops.sum(steps[i] * direction)
            direction = direction - share * changes[i]
            shares.insert(0, share)
        is_empty = ops.equal(weights[-1], 0.0)
        scale = curvatures[-1] / ops.sum(changes[-1] ** 2)
        direction = ops.where(is_empty, direction, scale * direction)
        for i, share in enumerate(shares):
            back = weights[i] * ops.sum(changes[i] * direction)
            direction = direction + (share - back) * steps[i]
        first_step = ops.where(is_empty, careful_step(gradient), 1.0)
        return direction, first_step, memory

    def on_face(self, memory: Sequence[Any], is_free: Any) -> Sequence[Any]:
        return [is_free * kept for kept in memory]

    def remember(self, step: Any, change: Any, memory: Sequence[Any]) -> Sequence[Any]:
        curvature = ops.sum(step * change)
        is_positive = curvature > self._epsilon * ops.norm(step) * ops.norm(change)
        return [
            ops.where(is_positive, ops.concatenate([kept[1:], new[None]]), kept)
            for kept, new in zip(memory, (step, change))
        ]

    def forget(self, memory: Sequence[Any]) -> Sequence[Any]:
        return [ops.zeros_like(kept) for kept in memory]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "history_size": self.history_size}
