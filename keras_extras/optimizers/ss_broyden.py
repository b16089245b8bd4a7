"""SSBroyden: the self-scaled Broyden method, with a dense inverse Hessian."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.optimizers.flat_weights_optimizer import LEARNING_RATE, RAISES, STEPS
from keras_extras.optimizers.line_search_optimizer import LineSearchOptimizer, careful_step

_MOST_WEIGHTS = 10_000


@serializable
@fill_docstring(learning_rate=LEARNING_RATE, steps=STEPS, raises=RAISES)
class SSBroyden(LineSearchOptimizer):
    """Trains small networks by self-scaled Broyden updates of a dense inverse Hessian.

    The direction is that of Newton's method with an estimate of the inverse Hessian from all steps
    s and changes of the gradient y so far. Each update first divides the estimate by a factor that
    keeps its eigenvalues of the size of the curvature along the step, and mixes the formulas of
    BFGS and DFP by how well the estimate fitted there (Al-Baali and Khalfan). On losses as
    ill-conditioned as those of physics-informed networks that goes on where `LBFGS` stalls, to
    errors some orders of magnitude smaller (Urbán et al.).

    It takes the memory of the square of the weights and is for up to some thousand of them, best in
    double precision, `keras.config.set_floatx("float64")`, on TensorFlow. Each step goes as far as
    in `LBFGS`, and the same advice on batches holds, and the same of losses that are not finite, of
    `evaluations`, `converged` and the logs. If no lower loss is found along a direction, the
    estimate is forgotten. Constraints are an error.

    References:
        Urbán, Stefanou and Pons (2025), "Unveiling the optimization process of physics informed
        neural networks: How accurate and competitive can PINNs be?",
        [arXiv:2405.04230](https://arxiv.org/abs/2405.04230).
        Kiyani et al. (2025), "Optimizing the optimizer for physics-informed neural networks and
        Kolmogorov-Arnold networks", [arXiv:2501.16371](https://arxiv.org/abs/2501.16371).
        Al-Baali and Khalfan (2005), "Wide interval for efficient self-scaling quasi-Newton
        algorithms".

    Args:
        {learning_rate}
        {steps}
        name: String, name of the optimizer. Defaults to `"ss_broyden"`.
        **kwargs: Of `keras.optimizers.Optimizer`, such as `use_ema`.

    {raises}

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras

    x = np.linspace(-1.0, 1.0, 100)[:, None].astype("float32")
    layers = [keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((1,)), *layers])
    model.compile(keras_extras.optimizers.SSBroyden(), "mse")
    model.fit(x, np.sin(3.0 * x), batch_size=100, epochs=3, verbose=0)
    ```
    """

    def __init__(
        self,
        learning_rate: Any = 1.0,
        iterations_per_batch: int = 10,
        tolerance: float = 1e-6,
        name: str = "ss_broyden",
        **kwargs: Any,
    ):
        super().__init__(learning_rate, iterations_per_batch, tolerance, name=name, **kwargs)

    def build_memory(self, size: int, dtype: str) -> list[keras.Variable]:
        if size > _MOST_WEIGHTS:
            raise ValueError(
                f"SSBroyden keeps a matrix of the square of the weights, and takes models of up to "
                f"{_MOST_WEIGHTS:,} of them; take LBFGS. Received: {size:,} weights"
            )
        self._size = size
        return [
            self.add_variable((size, size), dtype=dtype, name="inverse_hessian"),
            self.add_variable((), dtype=dtype, name="expected_curvature"),
        ]

    def direction(
        self, gradient_of: Callable[[Any], Any], point: Any, gradient: Any, memory: Sequence[Any]
    ) -> tuple[Any, Any, Sequence[Any]]:
        inverse, _ = memory
        is_empty = _is_empty(inverse)
        direction = -ops.matmul(inverse, gradient[:, None])[:, 0]
        direction = ops.where(is_empty, -gradient, direction)
        first_step = ops.where(is_empty, careful_step(gradient), 1.0)
        expected = -ops.sum(direction * gradient) / ops.sum(direction**2)
        return direction, first_step, [inverse, expected]

    def remember(self, step: Any, change: Any, memory: Sequence[Any]) -> Sequence[Any]:
        inverse, expected = memory
        is_empty = _is_empty(inverse)
        inverse = ops.where(is_empty, ops.eye(self._size, dtype=self._dtype), inverse)
        new = self._updated(inverse, step, change, expected * ops.sum(step**2), is_empty)
        is_positive = ops.sum(step * change) > self._epsilon * ops.norm(step) * ops.norm(change)
        is_sound = is_positive & ops.isfinite(ops.sum(new))
        return [ops.where(is_sound, new, memory[0]), expected]

    def _updated(self, inverse, s, y, expected, is_first):
        """The inverse Hessian after a step s that it expected to have the curvature `s' B s`.

        In the names of Al-Baali and Khalfan.
        """
        ys = ops.sum(y * s)
        hy = ops.matmul(inverse, y[:, None])[:, 0]
        yhy = ops.sum(y * hy)
        b, h = expected / ys, yhy / ys
        a = ops.maximum(b * h - 1.0, self._epsilon)
        least = ops.minimum(1.0, h * (1.0 - ops.sqrt(a / (1.0 + a))))
        theta = ops.maximum((least - 1.0) / a, ops.minimum(1.0 / least, (1.0 - b) / b))
        sigma = 1.0 + theta * a
        root = sigma ** (-1.0 / max(self._size - 1, 1))
        rho = ops.minimum(1.0, 1.0 / b)
        tau = ops.where(
            theta > 0.0,
            rho * ops.minimum(root, 1.0 / theta),
            ops.minimum(rho * root, sigma),
        )
        tau = ops.where(is_first, h / sigma, tau)
        phi = (1.0 - theta) / sigma
        # (H - Hyy'H / yHy + phi yHy vv') / tau + ss' / ys, with v = s / ys - Hy / yHy.
        mixed = -phi / (ys * tau)
        of_hy = (phi - 1.0) / (yhy * tau) * hy + mixed * s
        of_s = mixed * hy + (phi * yhy / (ys**2 * tau) + 1.0 / ys) * s
        left, right = ops.stack([hy, s], axis=1), ops.stack([of_hy, of_s])
        return inverse / tau + ops.matmul(left, right)

    def forget(self, memory: Sequence[Any]) -> Sequence[Any]:
        return [ops.zeros_like(kept) for kept in memory]


def _is_empty(inverse):
    """Whether it is of zeros, as long as there is no estimate."""
    return ops.equal(inverse[0, 0], 0.0)
