"""NewtonCG: Newton's method on products with the Hessian, or on the Hessian."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_choice
from keras_extras._core.differentiation import check_second_derivatives, value_and_gradients
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.optimizers.flat_weights_optimizer import LEARNING_RATE, RAISES, STEPS
from keras_extras.optimizers.line_search_optimizer import LineSearchOptimizer
from keras_extras.optimizers.replicas import mean_over_replicas

_MOST_FULL_WEIGHTS = 100
_MAX_PRODUCTS = 200


@serializable
@fill_docstring(learning_rate=LEARNING_RATE, steps=STEPS, raises=RAISES)
class NewtonCG(LineSearchOptimizer):
    """Trains by Newton's method, with a line search for the strong Wolfe conditions.

    A step p solves `H p = -g`, for the gradient g and Hessian H of the loss of the batch:

    - `hessian="products"`: by conjugate gradients on products of H and a vector, each at the cost
      of two or three gradients, without H itself. They end at a residual of
      `min(0.5, sqrt(|g|)) |g|`, after 200 products, or where they meet a direction of negative
      curvature, with what they have (and with -g, if they have nothing).
    - `hessian="full"`: by the eigenvalues of H, as `p = -V |D|^-1 V' g`: negative curvatures count
      by their size, so that p leads down and away from saddles, and none counts as smaller than
      the largest times `epsilon ** (2 / 3)`, epsilon being the precision of the weights. On a
      quadratic loss the first step is at the minimum. It takes a product for each weight.

    Each step goes along p as far as in `LBFGS`, the whole of it if that will do (damped Newton).
    Near a minimum it needs the fewest steps of all; take `LBFGS` where products with the Hessian
    are dear. The same advice on batches holds, and the same of losses that are not finite, of
    `evaluations`, `converged` and the logs. `hessian_products` counts the products. Constraints
    are an error, and layers need second derivatives.

    References:
        Nocedal and Wright (2006), "Numerical optimization", 2nd edition, algorithm 7.1 and
        section 3.4.
        Dauphin et al. (2014), "Identifying and attacking the saddle point problem in
        high-dimensional non-convex optimization", for the absolute values.

    Args:
        {learning_rate}
        hessian: String, `"full"`, `"products"`, or `"auto"` for the full Hessian of models with
            at most 100 weights. Defaults to `"auto"`.
        {steps}
        name: String, name of the optimizer. Defaults to `"newton_cg"`.
        **kwargs: Of `keras.optimizers.Optimizer`, such as `use_ema`.

    {raises}

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras

    x = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")
    y = x @ np.array([[1.0], [-2.0], [0.5]], "float32")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    optimizer = keras_extras.optimizers.NewtonCG()
    model.compile(optimizer, "mse")
    model.fit(x, y, batch_size=200, verbose=0)
    print(optimizer.evaluations, optimizer.hessian_products)
    ```
    """

    def __init__(
        self,
        learning_rate: Any = 1.0,
        hessian: str = "auto",
        iterations_per_batch: int = 10,
        tolerance: float = 1e-6,
        name: str = "newton_cg",
        **kwargs: Any,
    ):
        super().__init__(learning_rate, iterations_per_batch, tolerance, name=name, **kwargs)
        self.hessian = check_choice("hessian", hessian, ("auto", "full", "products"))
        self._hessian_products = self.add_variable((), dtype="int32", name="hessian_products")

    @property
    def hessian_products(self) -> int:
        """How many products of the Hessian and a vector were computed so far."""
        return int(self._hessian_products.numpy())

    def build_memory(self, size: int, dtype: str) -> list[keras.Variable]:
        self._size = size
        self._is_checked = False
        self._is_full = self.hessian == "full" or (
            self.hessian == "auto" and size <= _MOST_FULL_WEIGHTS
        )
        return [self._hessian_products]

    def direction(
        self, gradient_of: Callable[[Any], Any], point: Any, gradient: Any, memory: Sequence[Any]
    ) -> tuple[Any, Any, Sequence[Any]]:
        if not self._is_checked:
            mean_over_replicas(
                lambda point: check_second_derivatives(lambda x: gradient_of(x[0]), [point]), point
            )
            self._is_checked = True

        def product_at(point, vector):
            # By reverse mode twice: forward mode has no rule for loops, and so none for LSTM.
            _, (image,) = value_and_gradients(
                lambda x: ops.sum(gradient_of(x[0]) * vector), [point]
            )
            return ops.zeros_like(point) if image is None else image

        product = functools.partial(mean_over_replicas, product_at, point)

        if self._is_full:
            direction, count = self._newton(product, gradient), self._size
        else:
            direction, count = _truncated_newton(product, gradient, self._epsilon)
        return direction, ops.ones((), self._dtype), [memory[0] + count]

    def _newton(self, product, gradient):
        """Newton's step with the absolute values of the curvatures, none of them too small."""
        hessian = ops.map(product, ops.eye(self._size, dtype=self._dtype))
        curvatures, axes = ops.eigh(0.5 * (hessian + ops.transpose(hessian)))
        sizes = ops.abs(curvatures)
        sizes = ops.maximum(sizes, self._epsilon ** (2 / 3) * ops.max(sizes))
        return -ops.matmul(axes, ops.matmul(ops.transpose(axes), gradient) / sizes)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hessian": self.hessian}


def _truncated_newton(product, gradient, epsilon):
    """Solves H z = -g by conjugate gradients (Nocedal and Wright, algorithm 7.1).

    Ends at a residual of min(0.5, sqrt(|g|)) |g|, or before a direction of negative curvature.
    """
    norm = ops.norm(gradient)
    enough = ops.minimum(0.5, ops.sqrt(norm)) * norm

    def goes_on(count, is_done, solution, residual, direction):
        return ~is_done & (count < _MAX_PRODUCTS)

    def improve(count, is_done, solution, residual, direction):
        image = product(direction)
        curvature = ops.sum(direction * image)
        is_convex = curvature > epsilon * ops.norm(direction) * ops.norm(image)
        squared = ops.sum(residual**2)
        step = ops.where(is_convex, squared / curvature, 0.0)
        new_residual = residual + step * image
        new_squared = ops.sum(new_residual**2)
        return (
            count + 1,
            ~is_convex | (ops.sqrt(new_squared) <= enough),
            solution + step * direction,
            new_residual,
            new_squared / squared * direction - new_residual,
        )

    zeros = ops.zeros_like(gradient)
    start = ops.zeros((), "int32"), ops.zeros((), "bool"), zeros, gradient, -gradient
    count, _, solution, _, _ = ops.while_loop(goes_on, improve, start)
    # Down the gradient, if the curvature is negative there.
    return ops.where(ops.any(solution != 0.0), solution, -gradient), count
