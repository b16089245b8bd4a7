"""Differentiable roots on TensorFlow, by `tf.custom_gradient`."""

import tensorflow as tf

from keras_extras._core.differentiation import dense
from keras_extras._core.differentiation.second_derivatives import check_graph
from keras_extras.autodiff.backend.tensorflow import compiled_for

_CHANGED = (
    "Variables that the function reads must keep their values until derivatives are taken. Assign "
    "them after the gradient."
)


def constant_function(function, *arguments):
    def constant(*arguments):
        return tf.nest.map_structure(tf.stop_gradient, function(*arguments))

    compiled = []  # At the first call, because solvers may do without.

    def call(*arguments):
        if not compiled:
            compiled.append(compiled_for(constant, *arguments))
        return tf.nest.map_structure(tf.stop_gradient, compiled[0](*arguments))

    return call


def differentiable_root(residual, root, solve):
    root = tf.stop_gradient(root)
    compiled = compiled_for(residual, root)
    check_graph(compiled.graph)
    tensors = [tensor for tensor in compiled.captured_inputs if tensor.dtype.is_floating]
    variables = [v for v in compiled.graph.variables if v.dtype.is_floating]
    values = list(map(tf.convert_to_tensor, variables))

    def solve_unchanged(product, transposed, vector):
        same = [tf.reduce_all(tf.equal(v, value)) for v, value in zip(variables, values)]
        solution = solve(product, transposed, vector)
        return require(tf.reduce_all(same), solution, _CHANGED, {}) if same else solution

    if tf.executing_eagerly():
        # It keeps what Python's closures are now, for when derivatives are taken.
        residual = compiled
    return _attached(residual, root, [*tensors, *variables], solve_unchanged)


def _attached(residual, root, parameters, solve):
    """The root as a function of parameters, each derivative of which is such a root again."""

    def differentiable():
        return attach(root, *map(tf.convert_to_tensor, parameters))

    @tf.custom_gradient
    def attach(root, *values):
        return tf.identity(root), lambda upstream: (None, *pull_back(upstream))

    def transposed_at(point, vector):
        return _pull_back(residual, point, point, vector)

    def product_at(point, vector):
        """J v, as the derivative of J^T u with respect to u."""
        dual = tf.zeros_like(vector)
        return _pull_back(lambda dual: transposed_at(point, dual), dual, dual, vector)

    def pull_back(upstream):
        product, transposed = (
            constant_function(lambda vector, at=at: at(root, vector), root)
            for at in (product_at, transposed_at)
        )
        multiplier = solve(transposed, product, tf.stop_gradient(upstream))
        point = differentiable()
        multiplier = _attached(
            lambda multiplier: transposed_at(point, multiplier) - upstream,
            tf.stop_gradient(multiplier),
            [*parameters, point, upstream],
            solve,
        )
        return _pull_back(residual, point, parameters, -multiplier)

    return differentiable()


def _pull_back(function, point, sources, vector):
    """The product of a vector and the Jacobian of `function(point)` with respect to sources."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(sources)
        value = function(point)
    gradients = tape.gradient(value, sources, output_gradients=vector)
    if isinstance(sources, list):
        return dense(gradients)
    return tf.zeros_like(sources) if gradients is None else gradients


def require(valid, result, message, received):
    if tf.executing_eagerly():
        if not valid:
            listed = ", ".join(f"{name}={float(value):.3g}" for name, value in received.items())
            raise ValueError(f"{message} Received: {listed}")
        return result
    parts = [part for name, value in received.items() for part in (f"{name}=", value)]
    with tf.control_dependencies([tf.debugging.Assert(valid, [f"{message} Received:", *parts])]):
        return tf.where(valid, result, tf.constant(float("nan"), result.dtype))
