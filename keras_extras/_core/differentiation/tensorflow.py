"""Derivatives on TensorFlow, by tapes and accumulators."""

import tensorflow as tf

from keras_extras._core.differentiation.second_derivatives import check_graph
from keras_extras._seams.twice_differentiable import twice_differentiable


def dense(gradients):
    return [None if g is None else tf.convert_to_tensor(g) for g in gradients]


def value_and_gradients(function, values, has_aux):
    with (
        twice_differentiable(),
        tf.GradientTape(watch_accessed_variables=False) as tape,
    ):
        tape.watch(values)
        result = function(values)
        value = result[0] if has_aux else result
    return result, dense(tape.gradient(value, values)) if values else []


def jacobian_vector_product(function, values, vector):
    if not tf.executing_eagerly():
        return _by_two_tapes(function, values, vector)
    with (
        twice_differentiable(),
        tf.autodiff.ForwardAccumulator(list(values), list(vector)) as accumulator,
    ):
        value = function(values)
    zero = tf.UnconnectedGradients.ZERO
    return value, accumulator.jvp(value, unconnected_gradients=zero)


def _by_two_tapes(function, values, vector):
    """As `jacobian_vector_products`; in a graph, accumulators cannot follow loops."""
    with tf.GradientTape(watch_accessed_variables=False) as outer:
        with (
            twice_differentiable(),
            tf.GradientTape(watch_accessed_variables=False) as inner,
        ):
            inner.watch(values)
            value = function(values)
        outputs = tf.nest.flatten(value)
        cotangents = [tf.ones_like(output) for output in outputs]
        outer.watch(cotangents)
        products = dense(inner.gradient(outputs, values, output_gradients=cotangents))
    pairs = [(product, part) for product, part in zip(products, vector) if product is not None]
    moves = [tf.zeros_like(output) for output in outputs]
    if pairs:
        targets, parts = map(list, zip(*pairs))
        zero = tf.UnconnectedGradients.ZERO
        moves = outer.gradient(targets, cotangents, parts, unconnected_gradients=zero)
    return value, tf.nest.pack_sequence_as(value, moves)


def vector_jacobian_products(function, value, vectors_of):
    with (
        twice_differentiable(),
        tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape,
    ):
        tape.watch(value)
        output, aux = function(value)
    products = [tape.gradient(output, value, output_gradients=v) for v in vectors_of(output)]
    return (output, aux), dense(products)


def jacobian_vector_products(function, value, vectors):
    """Without accumulators, which cannot follow loops.

    Products with the transposed Jacobian are linear in what is multiplied, so that their derivative
    with respect to it is J v.
    """
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
        with (
            twice_differentiable(),
            tf.GradientTape(watch_accessed_variables=False) as inner,
        ):
            inner.watch(value)
            output, aux = function(value)
        cotangent = tf.ones_like(output)  # of any value, because the products are linear in it
        outer.watch(cotangent)
        (product,) = dense([inner.gradient(output, value, output_gradients=cotangent)])
    if product is None:
        return (output, aux), [None] * len(vectors)
    products = [outer.gradient(product, cotangent, output_gradients=v) for v in vectors]
    return (output, aux), products


def check_second_derivatives(gradient, values):
    try:
        traced = tf.function(gradient, autograph=False)
        graph = traced.get_concrete_function(list(values)).graph
    except Exception:  # Of any kind: what runs eagerly only has no graph to look at.
        return
    check_graph(graph)
