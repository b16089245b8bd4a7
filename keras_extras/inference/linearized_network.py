"""LinearizedNetwork: a model made linear in its weights, and the curvature of its likelihood."""

import logging
import weakref
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_extras._core.differentiation import check_second_derivatives, value_and_gradients
from keras_extras._core.probability import tf, tfd
from keras_extras._core.targets import match_targets
from keras_extras._core.vectorized_map import vectorized_map
from keras_extras.autodiff.program import Program
from keras_extras.inference.predict_distribution import rows_of
from keras_extras.inference.weight_function import WeightFunction

_LOGGER = logging.getLogger("keras_extras")


class LinearizedNetwork:
    """First derivatives of a network by some of its weights, compiled once for all values of these.

    Args:
        function: The network.
        chosen: The positions in `function.variables` of the weights to be linear in.
    """

    def __init__(self, function: WeightFunction, chosen: Sequence[int]):
        self.function = function
        self._chosen = chosen
        self._is_told = False
        self.curvature = tf.function(self._curvature, reduce_retracing=True, autograph=False)
        self._linear = tf.function(self._linear_parameters, reduce_retracing=True, autograph=False)

    @classmethod
    def of(cls, function: WeightFunction, chosen: Sequence[int]) -> "LinearizedNetwork":
        """Returns the network of a function, made once for a model without a likelihood given."""
        if function.head is None:
            return cls(function, chosen)
        of_model = _linearized.setdefault(function.model, {})
        key = (id(function.head), tuple(map(id, function.variables)), tuple(chosen))
        return of_model.setdefault(key, cls(function, chosen))

    def parameters(
        self, weights: Sequence[Any], offsets: Sequence[Any], x: Any, batch_size: int
    ) -> Any:
        """Returns the parameters of the distributions for weights that lie off by `offsets`.

        Args:
            weights: Arrays, all weights in the order of `function.variables`.
            offsets: Arrays of shape `(samples, *shape)` for the chosen weights.
            x: Inputs.
            batch_size: Integer, rows to compute at once.

        Returns:
            Tensor of shape `(samples, n, ...)`.
        """
        x = keras.tree.map_structure(tf.convert_to_tensor, x)
        num_rows = keras.tree.flatten(x)[0].shape[0]
        slices = [slice(first, first + batch_size) for first in range(0, num_rows, batch_size)]
        batches = [self._linear(weights, offsets, rows_of(x, rows)) for rows in slices]
        return tf.concat(batches, axis=1)

    def _linear_parameters(self, weights, offsets, x):
        parameters, jacobian = self._jacobian(weights, x)
        flat = tf.concat([tf.reshape(o, (tf.shape(o)[0], -1)) for o in offsets], axis=1)
        moves = tf.einsum("bpd,sd->sbp", jacobian, flat)
        return parameters[None] + tf.reshape(
            moves, tf.concat([tf.shape(flat)[:1], tf.shape(parameters)], axis=0)
        )

    def _jacobian(self, weights, x):
        """The parameters of rows, and their derivatives, of shape `(rows, entries, weights)`."""

        def of_row(row):
            row = keras.tree.map_structure(lambda values: values[None], row)
            chosen = [tf.convert_to_tensor(weights[number]) for number in self._chosen]
            everything = [tf.convert_to_tensor(weight) for weight in weights]
            with tf.GradientTape() as tape:
                tape.watch(chosen)
                for number, weight in zip(self._chosen, chosen):
                    everything[number] = weight
                parameters = self.function.parameters(everything, (), row)[0]
                entries = tf.reshape(parameters, [-1])
            parts = tape.jacobian(
                entries, chosen, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            count = entries.shape[0]
            return parameters, tf.concat([tf.reshape(part, (count, -1)) for part in parts], axis=1)

        def outputs(weights, x):
            return self.function.parameters(weights, (), x)

        if not Program(outputs, weights, x).has_loops:
            return vectorized_map(of_row, x)
        if not self._is_told:
            _LOGGER.warning(
                "The derivatives of %r are computed one row after another, because it has loops, "
                "which TensorFlow cannot vectorize twice.",
                self.function.model.name,
            )
            self._is_told = True
        dtypes = outputs(weights, x).dtype, tf.as_dtype(weights[self._chosen[0]].dtype)
        return tf.map_fn(of_row, x, fn_output_signature=dtypes)

    def _curvature(self, weights, x, y, is_diagonal):
        """The Gauss-Newton matrix of some rows, or its diagonal, and their log-likelihood."""
        parameters, jacobian = self._jacobian(weights, x)
        distribution = self.function.distribution(parameters)
        targets = match_targets(y, distribution, "The Laplace approximation")
        log_likelihood = tf.reduce_sum(distribution.log_prob(targets))
        scaled = tf.einsum("bpq,bqd->bpd", self._information(parameters, targets), jacobian)
        products = "bpd,bpd->d" if is_diagonal else "bpd,bpe->de"
        return tf.einsum(products, jacobian, scaled), log_likelihood

    def _information(self, parameters, targets):
        """The Fisher information of each row's distribution about its parameters.

        It is the curvature of the divergence from the distribution as it is.
        """
        fixed = self.function.distribution(tf.stop_gradient(parameters))
        try:
            return _curvature_of(
                lambda t: tfd.kl_divergence(fixed, self.function.distribution(t)), parameters
            )
        except NotImplementedError:
            curvature = _curvature_of(
                lambda t: -self.function.distribution(t).log_prob(targets), parameters
            )
            values, vectors = tf.linalg.eigh(
                0.5 * (curvature + tf.linalg.matrix_transpose(curvature))
            )
            positive = tf.maximum(values, 0.0)[..., None, :]
            return tf.matmul(vectors * positive, vectors, transpose_b=True)


# The networks of each model, which are kept as long as the model.
_linearized: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _curvature_of(function, parameters):
    """Second derivatives of a function of each row, of shape `(rows, entries, entries)`."""
    entries = int(np.prod(parameters.shape[1:]))

    def gradient_of(values):
        _, gradients = value_and_gradients(lambda values: tf.reduce_sum(function(*values)), values)
        return gradients[0]

    check_second_derivatives(gradient_of, [parameters])
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        gradient = tf.reshape(gradient_of([parameters]), (-1, entries))
    zero = tf.UnconnectedGradients.ZERO
    rows = tape.batch_jacobian(gradient, parameters, unconnected_gradients=zero)
    return tf.reshape(rows, (-1, entries, entries))
