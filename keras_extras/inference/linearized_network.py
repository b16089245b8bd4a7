"""LinearizedNetwork: a model made linear in its weights, and the curvature of its likelihood."""

import functools
import logging
import weakref
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.compiled import any_of, compiled, trace
from keras_extras._core.differentiation import value_and_gradients
from keras_extras._core.targets import match_targets
from keras_extras._core.vectorized_map import vectorized_map
from keras_extras.autodiff.dense_derivatives import jacobian_matrix
from keras_extras.inference.fisher_information import fisher_information, weighted_log_prob
from keras_extras.inference.gauss_newton import gauss_newton
from keras_extras.inference.last_dense import cut_at, last_dense, replaced
from keras_extras.inference.predict_distribution import rows_of
from keras_extras.inference.weight_function import WeightFunction

_LOGGER = logging.getLogger("keras_extras")
# Of one array in the computation of a curvature: a quarter of a gigabyte.
_MOST_VALUES = 2**26


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
        self._is_searched = False
        self._is_checked = False
        variables = function.model.variables
        self.curvature = compiled(self._curvature, variables)
        self.diagonal = compiled(functools.partial(self._curvature, is_diagonal=True), variables)
        self._linear = compiled(self._linear_parameters, variables)

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
            offsets: Arrays of shape `(num_samples, *shape)` for the chosen weights.
            x: Inputs.
            batch_size: Integer, rows to compute at once at most.

        Returns:
            Tensor of shape `(num_samples, n, ...)`.
        """
        x = keras.tree.map_structure(ops.convert_to_tensor, x)
        num_rows = keras.tree.flatten(x)[0].shape[0]
        batch_size = min(batch_size, self.most_rows(weights, x))
        slices = [slice(first, first + batch_size) for first in range(0, num_rows, batch_size)]
        batches = [self._linear(weights, offsets, rows_of(x, rows)) for rows in slices]
        return ops.concatenate(batches, axis=1)

    def most_rows(self, weights: Sequence[Any], x: Any) -> int:
        """Returns how many rows of `curvature` fit into `_MOST_VALUES` values.

        Args:
            weights: Arrays, all weights.
            x: Inputs.
        """
        body, last = self._split(weights, x)
        size = sum(int(np.prod(weights[self._chosen[number]].shape)) for number in body)
        if last is None:
            outputs = inner = int(np.prod(self.function.row_shape))
            features = 0
        else:
            outputs, features = last.num_outputs, last.num_features + 1
            inner = min(outputs, features)
        values = max(outputs**2, features**2, size * inner, size * outputs if features else 0)
        return max(1, _MOST_VALUES // values)

    def check_differentiable(self, weights: Sequence[Any], x: Any) -> None:
        """Raises if no derivative leads from the parameters of the distribution to a chosen weight.

        Args:
            weights: Arrays, all weights.
            x: Inputs, of which only the shapes count.

        Raises:
            ValueError: With the paths of the weights, or the operation without a derivative.
        """
        if self._is_checked:
            return
        missing: list[str] = []

        def look(weights, x):
            def parameters(values):
                return self.function.parameters(replaced(weights, self._chosen, values), (), x)

            chosen = [weights[place] for place in self._chosen]
            _, gradients = value_and_gradients(parameters, chosen)
            missing.extend(
                self.function.variables[place].path
                for place, gradient in zip(self._chosen, gradients)
                if gradient is None
            )
            return ops.zeros(())

        try:
            trace(look, *_of_one_row(weights, x))
        except LookupError as error:
            raise ValueError(
                "The output of the model must be differentiable with respect to its weights. "
                f"Received: an operation without a derivative: {error}"
            ) from error
        if missing:
            raise ValueError(
                "The output of the model must be differentiable with respect to its weights. Leave "
                "weights that do not act on it out by `subset_of_weights`, and replace operations "
                "such as `round` and `argmax`. "
                f"Received: no derivative with respect to {missing}"
            )
        self._is_checked = True

    def _linear_parameters(self, weights, offsets, x):
        rows = self._derivatives(weights, x)
        flat = [ops.reshape(offset, (ops.shape(offset)[0], -1)) for offset in offsets]
        body, last = self._split(weights, x)
        moves = 0.0
        if body:
            offsets_of_body = ops.concatenate([flat[number] for number in body], axis=1)
            moves = ops.einsum("brd,sd->sbr", rows["jacobian"], offsets_of_body)
            if "kernel" in rows:
                moves = ops.einsum("sbr,rk->sbk", moves, rows["kernel"])
        if last is not None:
            own = ops.concatenate([flat[number] for number in self._own(last)], axis=1)
            own = ops.reshape(own, (-1, rows["features"].shape[1], last.num_outputs))
            moves += ops.einsum("bi,sik->sbk", rows["features"], own)
        if "tail" in rows:
            moves = ops.einsum("bpk,sbk->sbp", rows["tail"], moves)
        parameters = rows["parameters"]
        shape = (ops.shape(flat[0])[0], *ops.shape(parameters))
        return parameters[None] + ops.reshape(moves, shape)

    def _own(self, last):
        """Where the weights of the last Dense layer are among the chosen ones."""
        return [self._chosen.index(position) for position in last.positions]

    def _split(self, weights, x):
        """The places of chosen weights that are not of the last Dense layer, and this, or None."""
        everything = range(len(self._chosen))
        last = self._last_dense(weights, x)
        if last is None:
            return list(everything), None
        own = self._own(last)
        return [number for number in everything if number not in own], last

    def _last_dense(self, weights, x):
        """The last Dense layer if all of its weights are chosen, found once."""
        if not self._is_searched:
            last = last_dense(self.function, *_of_one_row(weights, x))
            is_chosen = last is not None and set(last.positions) <= set(self._chosen)
            self._last = last if is_chosen else None
            self._is_searched = True
        return self._last

    def _derivatives(self, weights, x):
        """The parameters of rows, and what their derivatives are made of.

        Of all weights it is `jacobian`, of shape `(rows, entries, weights)`. With a last Dense
        layer, `z = a W + b`, that is of its outputs and the other weights only, or of its features
        where these are fewer, to be multiplied by its `kernel`. `features` are then these and 1 for
        a bias, and `tail` the derivatives of the parameters by `z` unless they are one.
        """
        body, last = self._split(weights, x)
        by_features = last is not None and last.num_features < last.num_outputs
        has_loops = self.function.has_loops(weights, x)

        def of_row(row):
            row = keras.tree.map_structure(lambda values: values[None], row)
            everything = [ops.convert_to_tensor(weight) for weight in weights]
            places = [self._chosen[number] for number in body]

            def call(values, leaf=None):
                given = replaced(everything, places, values)
                if last is None:
                    return self.function.parameters(given, (), row), None
                with cut_at(last.layer, leaf) as cut:
                    return self.function.parameters(given, (), row), cut

            def end_of(parameters, cut):
                if cut is None:
                    return parameters
                return cut.features if by_features else cut.outputs

            watched = [everything[place] for place in places]
            parameters, cut = call(watched)
            rows = {"parameters": parameters[0]}
            if cut is not None:
                rows["features"] = cut.features[0]
                if last.layer.use_bias:
                    one = ops.ones((1,), cut.features.dtype)
                    rows["features"] = ops.concatenate([rows["features"], one], axis=0)
                if parameters is not cut.leaf:
                    rows["tail"] = jacobian_matrix(
                        lambda leaf: [call(watched, *leaf)[0]],
                        [cut.leaf],
                        [parameters],
                        vectorize=not has_loops,
                    )
            if body:
                rows["jacobian"] = jacobian_matrix(
                    lambda values: [end_of(*call(values))],
                    watched,
                    [end_of(parameters, cut)],
                    vectorize=not has_loops,
                )
            return rows

        rows = self._of_rows(of_row, x) if has_loops else vectorized_map(of_row, x)
        if by_features and body:
            rows["kernel"] = ops.convert_to_tensor(weights[last.positions[0]])
        return rows

    def _of_rows(self, of_row, x):
        """The results for rows one after another."""
        if not self._is_told:
            _LOGGER.warning(
                "The derivatives of %r are computed one row after another, because it has loops, "
                "whose gradients TensorFlow cannot vectorize.",
                self.function.model.name,
            )
            self._is_told = True
        return ops.map(of_row, x)

    def _curvature(self, weights, x, y, sample_weight=None, is_diagonal=False):
        """The Gauss-Newton matrix of some rows, or its diagonal, and their log-likelihood.

        Rows count as often as `sample_weight` says, a tensor of shape `(rows,)`; None is once.
        """
        rows = self._derivatives(weights, x)
        parameters = rows["parameters"]
        if sample_weight is None:
            sample_weight = ops.ones(ops.shape(parameters)[:1], parameters.dtype)
        distribution = self.function.distribution(parameters)
        targets = match_targets(y, distribution, "The Laplace approximation")
        log_likelihood = weighted_log_prob(distribution, targets, sample_weight)
        information = fisher_information(self.function.distribution, parameters, targets)
        information *= ops.cast(sample_weight, information.dtype)[:, None, None]
        if "tail" in rows:
            tail = rows["tail"]
            information = ops.matmul(ops.swapaxes(tail, -1, -2), ops.matmul(information, tail))
        matrix = gauss_newton(
            information,
            rows.get("jacobian"),
            rows.get("kernel"),
            rows.get("features"),
            is_diagonal,
        )
        body, last = self._split(weights, x)
        order = body if last is None else body + self._own(last)
        if order != sorted(order):
            sizes = [int(np.prod(weights[number].shape)) for number in self._chosen]
            starts = np.cumsum([0, *sizes])
            places = np.concatenate([np.arange(starts[n], starts[n + 1]) for n in order])
            places = np.argsort(places)
            for axis in range(1 if is_diagonal else 2):
                matrix = ops.take(matrix, places, axis=axis)
        return matrix, log_likelihood


def _of_one_row(weights, x):
    row = keras.tree.map_structure(lambda v: any_of((1, *v.shape[1:]), v.dtype), x)
    return [any_of(np.shape(weight), weight.dtype) for weight in weights], row


# The networks of each model, which are kept as long as the model.
_linearized: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
