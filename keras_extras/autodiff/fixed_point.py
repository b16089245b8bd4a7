"""fixed_point: a point that a function leaves in place, as a differentiable value."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from keras_extras._core.backend import require_tensorflow_or_jax, without_autograph
from keras_extras._core.checks import check_choice, check_integer, check_number
from keras_extras._core.differentiation import value_and_gradients
from keras_extras.autodiff.implicit import constant_function, differentiable_root, require
from keras_extras.autodiff.implicit.linear_solve import epsilon, solve_regular
from keras_extras.autodiff.implicit.newton import newton_root
from keras_extras.autodiff.implicit.structured import StructuredStart
from keras_extras.autodiff.minimum import FixedPoint

_REFINEMENTS = 20
_NOT_FINITE = "`function` must be finite at `start`."
_NOT_CONVERGED = (
    "`fixed_point` has not converged: the largest entry of `point - function(point)` must be at "
    "most `allowed`. Give more `max_iterations`, another `start` or `method`, or a function that "
    "has a fixed point; scale variables to similar sizes, or raise `tolerance`."
)


def fixed_point(
    function: Callable[..., Any],
    start: Any,
    *,
    args: Sequence[Any] = (),
    method: str = "newton",
    gradients: str = "implicit",
    tolerance: float | None = None,
    max_iterations: int = 100,
) -> FixedPoint:
    """Returns a point that a function maps to itself, a differentiable value.

    ```
    x*(t) = f(x*(t), t),  dx*/dt = (I - df/dx)^-1 df/dt
    ```

    An equilibrium of a game is one: there each player's choice is the best answer to those of the
    others. t is everything that the function closes over. Derivatives are as those of `minimize`:
    of any order, eager and compiled, nested in others, and without memory for the iterations. Each
    solves a linear equation, up to 100 variables by singular values, above by conjugate gradients
    on the normal equations. The Jacobian of the function need not be symmetric, and the fixed point
    need not attract.

    References:
        Griewank and Walther (2008), "Evaluating derivatives", 2nd edition, chapter 15.
        Bai, Kolter and Koltun (2019), "Deep equilibrium models".

    Args:
        function: Function of `start`'s structure, and of `args`, to such a structure. It must be
            differentiable, and one that the backend can compile.
        start: Structure of float tensors, arrays or numbers. It has no derivatives with
            `gradients="implicit"`.
        args: Tuple, further arguments of the function. Defaults to `()`.
        method: `"newton"`, Newton's method with halved steps; or `"iteration"`, which calls the
            function again and again and ends with steps of Newton's method. Defaults to `"newton"`.
        gradients: `"implicit"` differentiates the fixed point as described; `"unrolled"`
            differentiates `max_iterations` calls of the function by `method="iteration"`, whether
            or not they have converged. Defaults to `"implicit"`.
        tolerance: Float, the largest entry of `point - function(point)`, in proportion to the
            largest of the point where that is above 1. `None` is 1.5e-8 in float64, and 3.5e-4 in
            float32; steps of Newton's method go on below it as long as they halve the difference.
            Defaults to `None`.
        max_iterations: Integer, the most steps of the method, besides at most 20 of Newton's method
            that end `"iteration"`. Defaults to `100`.

    Returns:
        A `FixedPoint`: `point`, `residual_norm`, `iterations` and `converged`.

    Raises:
        TypeError: If `start` holds no floats.
        ValueError: If the function returns another structure or is not finite at `start`, the
            search has not converged, or, where derivatives are taken, `I - df/dx` is singular.
            Compiled functions raise or return NaN as in `minimize`.

    Example:

    ```python
    import numpy as np
    from keras import ops
    from keras_extras import autodiff

    start = np.zeros((), "float32")

    def orbit(mean_anomaly):  # Kepler's equation
        return autodiff.fixed_point(lambda e: mean_anomaly + 0.3 * ops.sin(e), start).point

    orbit(1.2)
    ```
    """
    require_tensorflow_or_jax("fixed_point")
    check_choice("method", method, ("newton", "iteration"))
    check_choice("gradients", gradients, ("implicit", "unrolled"))
    check_integer("max_iterations", max_iterations)
    if gradients == "unrolled" and method != "iteration":
        raise ValueError(
            "gradients='unrolled' needs method='iteration': Newton's steps end when they have "
            f"converged. Take gradients='implicit' for them. Received: method={method!r}"
        )
    # AutoGraph would go through all that follows, for minutes.
    return without_autograph(_fixed_point)(
        StructuredStart(function, start, args), method, gradients, tolerance, max_iterations
    )


def _fixed_point(point, method, gradients, tolerance, max_iterations):
    tolerance = epsilon(point.vector) ** 0.5 if tolerance is None else tolerance
    tolerance = check_number("tolerance", tolerance, above=0.0)

    def residual(vector):
        return vector - point.same(vector)

    def limit_at(vector):
        return tolerance * ops.maximum(ops.max(ops.abs(vector)), ops.ones_like(vector[0]))

    if gradients == "unrolled":
        found = ops.fori_loop(0, max_iterations, lambda _, x: point.same(x), point.vector)
        norm = ops.stop_gradient(ops.max(ops.abs(residual(found))))
        count = ops.full((), max_iterations, "int32")
        return FixedPoint(point.pack(found), norm, count, norm <= limit_at(found))

    def transposed(vector, dual):
        return _gradient(lambda x: ops.sum(residual(x) * dual), vector)

    def product(vector, direction):
        zeros = ops.zeros_like(direction)
        return _gradient(lambda dual: ops.sum(transposed(vector, dual) * direction), zeros)

    begin = ops.stop_gradient(point.vector)
    constant = constant_function(residual, begin)
    error = constant(begin)
    is_finite = ops.all(ops.isfinite(error))
    begin = require(is_finite, begin, _NOT_FINITE, residual=ops.max(ops.abs(error)))
    found, count = begin, ops.zeros((), "int32")
    if method == "iteration":
        count, found, _ = ops.while_loop(
            lambda count, x, error: ops.logical_and(
                count < max_iterations,
                # False where it is not finite.
                ops.logical_and(
                    ops.max(ops.abs(error)) > limit_at(x), ops.all(ops.isfinite(error))
                ),
            ),
            lambda count, x, error: (count + 1, x - error, constant(x - error)),
            (count, begin, error),
        )
    most = max_iterations if method == "newton" else _REFINEMENTS
    products = (constant_function(f, begin, begin) for f in (product, transposed))
    found, norm, refinements = newton_root(constant, *products, found, tolerance, most)
    limit = limit_at(found)
    converged, count = norm <= limit, count + refinements
    found = require(
        converged, found, _NOT_CONVERGED, residual_norm=norm, allowed=limit, iterations=count
    )
    root = differentiable_root(residual, found, solve_regular)
    return FixedPoint(point.pack(root), norm, count, converged)


def _gradient(function, vector):
    _, (gradient,) = value_and_gradients(lambda values: function(values[0]), [vector])
    return ops.zeros_like(vector) if gradient is None else gradient
