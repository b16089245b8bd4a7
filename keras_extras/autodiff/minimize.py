"""minimize: the minimum of a function as a differentiable value."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from keras_extras._core.backend import require_tensorflow_or_jax, without_autograph
from keras_extras._core.checks import check_choice, check_integer, check_number
from keras_extras._core.differentiation import value_and_gradients
from keras_extras._core.probability import tfp
from keras_extras.autodiff.implicit import constant_function, differentiable_root, require
from keras_extras.autodiff.implicit.linear_solve import (
    MOST_DENSE,
    dense_matrix,
    eigenvalues_of,
    epsilon,
    solve_definite,
)
from keras_extras.autodiff.implicit.newton import newton_minimum
from keras_extras.autodiff.implicit.structured import StructuredStart
from keras_extras.autodiff.minimum import Minimum

METHODS = ("newton", "lbfgs", "gradient_descent")
_REFINEMENTS = 50
_NOT_FINITE = "`function` must be finite, with a finite gradient, at `start`."
_NOT_CONVERGED = (
    "`minimize` has not converged: the largest entry of the gradient must be at most `allowed`. "
    "Give more `max_iterations`, another `start` or `method`, or a function that has a minimum; "
    "scale variables to similar sizes, or raise `tolerance`."
)
_NO_MINIMUM = (
    "`minimize` has ended at a saddle or maximum, where the Hessian has a negative eigenvalue, or "
    "where a second derivative is NaN. Give another `start`, or a function that is twice "
    "differentiable there."
)


def minimize(
    function: Callable[..., Any],
    start: Any,
    *,
    args: Sequence[Any] = (),
    method: str = "newton",
    gradients: str = "implicit",
    tolerance: float | None = None,
    max_iterations: int = 500,
    learning_rate: Any = None,
) -> Minimum:
    """Returns the minimum of a function, a differentiable value.

    ```
    x*(t) = argmin_x f(x, t),  dx*/dt = -(d2f/dx2)^-1 d2f/dxdt
    ```

    t is everything that the function closes over: tensors, variables, other minima. Derivatives
    with respect to it are of any order, in eager code and in `tf.function` and `jax.jit`, and they
    nest: a function to minimize may call `minimize`. It is then differentiated a third time, where
    `x ** 2` is NaN at 0 on TensorFlow; write `keras.ops.square(x)`. Derivatives take no memory for
    the iterations. Each solves a linear equation of the Hessian: up to 100 variables by its
    eigenvalues, above by conjugate gradients on products of Hessian and vector.

    Every search ends with steps of Newton's method, as long as they halve the gradient, because the
    derivatives are as precise as the minimum: to about 1e-8 in float64, and 1e-3 in float32.

    References:
        Griewank and Walther (2008), "Evaluating derivatives", 2nd edition, chapter 15.
        Blondel et al. (2022), "Efficient and modular implicit differentiation".

    Args:
        function: Function of `start`'s structure, and of `args`, to a scalar tensor. It must be
            twice differentiable, and one that the backend can compile.
        start: Structure of float tensors, arrays or numbers. It has no derivatives with
            `gradients="implicit"`. Or a built Keras model, whose trainable weights are varied: the
            function is then called with the model, which computes with them. The model keeps its
            weights.
        args: Tuple, further arguments of the function. Defaults to `()`.
        method: `"newton"`, Newton's method with a line search; `"lbfgs"`, that of TensorFlow
            Probability, which takes several times longer to compile; or `"gradient_descent"`,
            steps of `learning_rate`. Defaults to `"newton"`.
        gradients: `"implicit"` differentiates the minimum as described; `"unrolled"` differentiates
            all `max_iterations` steps of gradient descent, whether or not they have converged.
            Defaults to `"implicit"`.
        tolerance: Float, the largest entry of the gradient of a minimum, in proportion to the
            largest at `start` where that is above 1. `None` is 1.5e-8 in float64, and 3.5e-4 in
            float32. Defaults to `None`.
        max_iterations: Integer, the most steps of the method, besides at most 50 of Newton's
            method. Defaults to `500`.
        learning_rate: Float or scalar tensor, for `"gradient_descent"`. Defaults to `None`.

    Returns:
        A `Minimum`: `minimizer`, `value`, `gradient_norm`, `iterations` and `converged`.

    Raises:
        TypeError: If `start` holds no floats.
        ValueError: If the function is not a differentiable scalar or not finite at `start`, the
            search has not converged or ended at a saddle, or, where derivatives are taken, the
            Hessian is not positive definite. Functions compiled by TensorFlow raise
            `tf.errors.InvalidArgumentError` when they run. Functions compiled by JAX or XLA, and
            derivatives on JAX, are NaN instead.

    Example:

    ```python
    import numpy as np
    from keras import ops
    from keras_extras import autodiff

    x, y = np.eye(3, dtype="float32"), np.array([1.0, 2.0, 3.0], "float32")

    def weights(penalty):  # of a ridge regression, which have a derivative along the penalty
        def loss(w):
            return ops.sum((ops.matmul(x, w) - y) ** 2) + penalty * ops.sum(w**2)

        return autodiff.minimize(loss, np.zeros(3, "float32")).minimizer

    weights(1.0)  # y / 2
    ```
    """
    require_tensorflow_or_jax("minimize")
    check_choice("method", method, METHODS)
    check_choice("gradients", gradients, ("implicit", "unrolled"))
    check_integer("max_iterations", max_iterations)
    if (method == "gradient_descent") != (learning_rate is not None):
        raise ValueError(
            "`learning_rate` must be given for method='gradient_descent', and for no other. "
            f"Received: method={method!r}, learning_rate={learning_rate!r}"
        )
    if gradients == "unrolled" and method != "gradient_descent":
        raise ValueError(
            "gradients='unrolled' needs method='gradient_descent': steps of other methods end when "
            "they have converged, and have line searches without derivatives. Take "
            f"gradients='implicit' for them. Received: method={method!r}"
        )
    # AutoGraph would go through all that follows, for minutes.
    return without_autograph(_minimize)(
        StructuredStart(function, start, args),
        method,
        gradients,
        tolerance,
        max_iterations,
        learning_rate,
    )


def _minimize(point, method, gradients, tolerance, max_iterations, learning_rate):
    tolerance = epsilon(point.vector) ** 0.5 if tolerance is None else tolerance
    tolerance = check_number("tolerance", tolerance, above=0.0)

    def value_and_gradient(vector):
        value, (gradient,) = value_and_gradients(lambda values: point.scalar(values[0]), [vector])
        if gradient is None:
            raise ValueError(
                "`function` must be differentiable. Received: a function whose value does not "
                "depend on `start`, or only through functions without a gradient, such as `round` "
                "and `argmax`"
            )
        return value, gradient

    def gradient_of(vector):
        return value_and_gradient(vector)[1]

    def product(vector, direction):
        # By reverse mode twice: on TensorFlow forward mode cannot follow loops.
        _, (image,) = value_and_gradients(
            lambda values: ops.sum(gradient_of(values[0]) * direction), [vector]
        )
        return ops.zeros_like(direction) if image is None else image

    if gradients == "unrolled":
        return _unrolled(point, value_and_gradient, tolerance, max_iterations, learning_rate)

    begin = ops.stop_gradient(point.vector)
    constant = constant_function(value_and_gradient, begin)
    curvature = constant_function(product, begin, begin)
    value, gradient = constant(begin)
    is_finite = ops.logical_and(ops.isfinite(value), ops.all(ops.isfinite(gradient)))
    begin = require(is_finite, begin, _NOT_FINITE, value=value)
    limit = tolerance * ops.maximum(ops.max(ops.abs(gradient)), ops.ones_like(value))
    found, count = _search(method, constant, begin, limit, max_iterations, learning_rate)
    most = max_iterations if method == "newton" else _REFINEMENTS
    found, norm, refinements = newton_minimum(constant, curvature, found, limit, most)
    converged = norm <= limit
    numbers = {"gradient_norm": norm, "allowed": limit, "iterations": count + refinements}
    found = require(converged, found, _NOT_CONVERGED, **numbers)
    if found.shape[0] <= MOST_DENSE:
        matrix = dense_matrix(lambda v: curvature(found, v), found)
        lowest = eigenvalues_of(matrix)[2]
        is_minimum = lowest >= -(epsilon(found) ** 0.5)
        found = require(is_minimum, found, _NO_MINIMUM, smallest_eigenvalue_over_largest=lowest)
        converged = ops.logical_and(converged, is_minimum)

    root = differentiable_root(gradient_of, found, solve_definite)
    # At a minimum the value changes with x only to second order. The difference is zero, and takes
    # from the derivative what the gradient is by rounding.
    rest = ops.sum(constant(found)[1] * (root - ops.stop_gradient(root)))
    value = point.scalar(root) - rest
    return Minimum(point.pack(root), value, norm, count + refinements, converged)


def _search(method, value_and_gradient, point, limit, max_iterations, learning_rate):
    """Returns the last point of a method before Newton's steps, and its number of steps."""
    none = ops.zeros((), "int32")
    if method == "newton":
        return point, none
    if method == "lbfgs":
        found = tfp.optimizer.lbfgs_minimize(
            value_and_gradient, point, tolerance=limit, max_iterations=max_iterations
        )
        is_usable = ops.all(ops.isfinite(found.position))
        return ops.where(is_usable, found.position, point), found.num_iterations
    rate = ops.stop_gradient(ops.convert_to_tensor(learning_rate, point.dtype))

    def step(count, point, gradient):
        point = point - rate * gradient
        return count + 1, point, value_and_gradient(point)[1]

    count, point, _ = ops.while_loop(
        lambda count, point, gradient: ops.logical_and(
            count < max_iterations, ops.max(ops.abs(gradient)) > limit
        ),
        step,
        (none, point, value_and_gradient(point)[1]),
    )
    return point, count


def _unrolled(point, value_and_gradient, tolerance, max_iterations, learning_rate):
    rate = ops.convert_to_tensor(learning_rate, point.vector.dtype)
    first = value_and_gradient(point.vector)[1]

    def step(number, vector):
        return vector - rate * value_and_gradient(vector)[1]

    found = ops.fori_loop(1, max_iterations, step, point.vector - rate * first)
    value, gradient = value_and_gradient(found)
    norm = ops.stop_gradient(ops.max(ops.abs(gradient)))
    limit = tolerance * ops.maximum(ops.max(ops.abs(first)), ops.ones_like(norm))
    count = ops.full((), max_iterations, "int32")
    return Minimum(point.pack(found), value, norm, count, norm <= limit)
