"""Solutions of equations as differentiable values, by the implicit function theorem.

A root r of `residual(r, t) = 0` changes by `dr = -A^-1 (d residual / dt) dt`, A being the Jacobian
of the residual with respect to r. The derivative is again made of a root, that of a linear
equation, so that derivatives of all orders follow. t is what the residual closes over.
"""

from collections.abc import Callable
from typing import Any

from keras_extras._core.backend import backend_module


def constant_function(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """Returns a function whose results are constants for derivatives, for use in solvers.

    Args:
        function: From tensors to a tensor or a structure of tensors.
        *arguments: Tensors of the shapes and dtypes that it will be called with.
    """
    return _backend().constant_function(function, *arguments)


def differentiable_root(
    residual: Callable[[Any], Any], root: Any, solve: Callable[..., Any]
) -> Any:
    """Returns a root with its derivatives with respect to what its function closes over.

    Args:
        residual: From a vector to a vector of its length. Where it is not zero at `root`,
            derivatives are those of a nearby root.
        root: Vector.
        solve: Function `(product, transposed, vector)` to the solution of a linear equation, of
            the functions that multiply a vector by the matrix and by the transposed matrix, and
            the right side.
    """
    return _backend().differentiable_root(residual, root, solve)


def require(valid: Any, result: Any, message: str, **received: Any) -> Any:
    """Returns a tensor if a condition holds.

    Raises in eager code. Compiled by TensorFlow, it raises when it runs; what JAX or XLA compiles
    returns NaN.

    Args:
        valid: Boolean scalar tensor.
        result: Tensor of floats.
        message: String, the start of the error's message.
        **received: Scalar tensors by name, for the error.

    Raises:
        ValueError: In eager code, if the condition does not hold.
    """
    return _backend().require(valid, result, message, received)


def _backend():
    return backend_module(__name__, "Differentiation of minima and equilibria")
