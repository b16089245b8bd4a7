"""KroneckerNetwork: the Kronecker factors of the curvature of a model's likelihood."""

import functools
import logging
import math
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops, tree

from keras_extras._core.compiled import any_of, compiled, leaves_scope, trace
from keras_extras._core.differentiation import value_and_gradients
from keras_extras._core.probability import static_shape
from keras_extras._core.targets import match_targets
from keras_extras._core.vectorized_map import vectorized_map
from keras_extras._seams.layer_calls import replaced_calls
from keras_extras._seams.layers_within import layers_within
from keras_extras.autodiff.dense_derivatives import pullback
from keras_extras.inference.fisher_information import fisher_root, weighted_log_prob
from keras_extras.inference.kronecker_layers import KroneckerLayer, kronecker_layer
from keras_extras.inference.weight_function import WeightFunction

_LOGGER = logging.getLogger("keras_extras")
# Rows of a batch that is traced only: no other axis has this length.
_ROWS = 7919
# Of one array in the computation of the factors: a quarter of a gigabyte.
_MOST_VALUES = 2**26


class _Call(NamedTuple):
    """A call of a layer, with what it computes before its activation."""

    layer: KroneckerLayer
    inputs: Any
    outputs: Any


class KroneckerNetwork:
    """Kronecker factors of the Gauss-Newton matrix, a pair for each layer.

    ```
    H = A x B / m,  A = sum of a a^T,  B = sum of G^T F G
    ```

    with the sums over rows and positions, `m` their number, `a` the inputs of the layer and 1 for
    its bias, and `G` the derivatives by its outputs at that position of what the distribution is
    made of. Positions count as rows of their own, as do several calls of a layer: that is
    KFAC-expand.

    Sources:
        Martens and Grosse (2015), [arXiv:1503.05671](https://arxiv.org/abs/1503.05671); Grosse and
        Martens (2016), [arXiv:1602.01407](https://arxiv.org/abs/1602.01407); Ritter, Botev and
        Barber (2018), "A scalable Laplace approximation for neural networks"; Eschenhagen et al.
        (2023), [arXiv:2311.00636](https://arxiv.org/abs/2311.00636).

    Args:
        function: The model.
        chosen: The positions in `function.variables` of the weights that are uncertain.
        weights: Arrays, all weights.
        x: Inputs, of which only the shapes of rows count.

    Attributes:
        layers: The layers with Kronecker factors.
        others: The positions of chosen weights without.
        most_rows: Integer, how many rows `factors` takes at most.
    """

    def __init__(
        self, function: WeightFunction, chosen: Sequence[int], weights: Sequence[Any], x: Any
    ):
        self._function = function
        places = {id(function.variables[place]): place for place in chosen}
        found = [kronecker_layer(layer, places) for layer in layers_within(function.model)]
        self.layers = [layer for layer in dict.fromkeys(found) if layer is not None]
        self.most_rows = 1
        if self.layers:
            self._look(weights, x)
        owned = {place for layer in self.layers for place in layer.positions}
        self.others = [place for place in chosen if place not in owned]
        if self.others:
            _LOGGER.warning(
                "The curvature of %r is diagonal, without Kronecker factors, for %s.",
                function.model.name,
                ", ".join(function.variables[place].path for place in self.others),
            )
        self.factors = compiled(self._factors, function.model.variables)

    @classmethod
    def of(
        cls, function: WeightFunction, chosen: Sequence[int], weights: Sequence[Any], x: Any
    ) -> "KroneckerNetwork":
        """Returns the network of a function, made once for a model without a likelihood given."""
        if function.head is None:
            return cls(function, chosen, weights, x)
        of_model = _networks.setdefault(function.model, {})
        shapes = tuple(tuple(leaf.shape[1:]) for leaf in tree.flatten(x))
        key = (id(function.head), tuple(map(id, function.variables)), tuple(chosen), shapes)
        if key not in of_model:
            of_model[key] = cls(function, chosen, weights, x)
        return of_model[key]

    def _look(self, weights, x):
        """Traces many rows to keep the layers that all of their weights act through.

        Layers that are called in loops, or whose first axis is not that of rows, are left out.
        """
        kept: dict[int, list] = {}

        many = tree.map_structure(lambda v: any_of((_ROWS, *v.shape[1:]), v.dtype), x)
        weights = [any_of(weight.shape, weight.dtype) for weight in weights]
        in_loops = [self._is_in_loop(layer, weights, many) for layer in self.layers]

        def look(weights, x):
            def around(values):
                given = list(weights)
                for place, value in zip(places, values):
                    given[place] = value
                parameters, calls = self._run(given, x, around=True)
                calls_of.extend(calls)
                return parameters

            calls_of: list[_Call] = []
            places = [place for layer in self.layers for place in layer.positions]
            parameters, gradients = value_and_gradients(around, [weights[p] for p in places])
            depends = {place for place, g in zip(places, gradients) if g is not None}
            entries = math.prod(parameters.shape[1:])
            sizes = [1, entries**2]
            for number, layer in enumerate(self.layers):
                calls = [call for call in calls_of if call.layer is layer]
                are_of_rows = not in_loops[number] and all(
                    tuple(static_shape(tensor)[:1]) == (_ROWS,)
                    for call in calls
                    for tensor in (call.inputs, call.outputs)
                )
                if calls and are_of_rows and not depends & set(layer.positions):
                    kept[number] = calls
                    for call in calls:
                        known = [size or 1 for size in call.outputs.shape[1:]]
                        positions = math.prod(known) // layer.num_outputs
                        sizes += [positions * layer.num_features, entries * math.prod(known)]
            self.most_rows = max(1, _MOST_VALUES // max(sizes))
            return ops.zeros(())

        trace(look, weights, many)
        self.layers = [self.layers[number] for number in kept]

    def _is_in_loop(self, layer, weights, x):
        """Whether tensors of a layer's calls are known within a loop only."""

        def tensors(weights, x):
            calls = [call for call in self._run(weights, x)[1] if call.layer is layer]
            return [tensor for call in calls for tensor in (call.inputs, call.outputs)]

        return leaves_scope(tensors, weights, x)

    def _run(self, weights, x, moves=None, around=False):
        """The parameters of rows and the calls of layers.

        Args:
            weights: Tensors, all weights.
            x: Inputs.
            moves: Tensors, which are added to the outputs of the calls; `None` for none. Defaults
                to `None`.
            around: Boolean, whether derivatives by the weights of the layers are only of what acts
                around their calls. Defaults to `False`.
        """
        calls: list[_Call] = []
        by_id = {id(layer.layer): layer for layer in self.layers}

        def replacement(owner, stock_call):
            return functools.partial(called, by_id[id(owner)])

        def called(layer, inputs, **_):
            inputs = ops.convert_to_tensor(inputs)
            kernel, bias = (
                None if value is None else ops.convert_to_tensor(value)
                for value in (layer.layer.kernel, layer.layer.bias)
            )
            if around:
                kernel, bias = (v if v is None else ops.stop_gradient(v) for v in (kernel, bias))
            outputs = layer.outputs(inputs, kernel, bias)
            if moves is not None:
                outputs = outputs + moves[len(calls)]
            calls.append(_Call(layer, inputs, outputs))
            activation = layer.layer.activation
            return outputs if activation is None else activation(outputs)

        with replaced_calls([layer.layer for layer in self.layers], replacement):
            return self._function.parameters(weights, (), x), calls

    def _factors(self, weights, x, y, sample_weight):
        """Returns `A`, `B` and the number of positions for each layer, and the log-likelihood.

        Args:
            weights: Arrays, all weights.
            x: Inputs.
            y: Targets.
            sample_weight: Tensor of shape `(rows,)`, how often each row counts.
        """
        weights = [ops.convert_to_tensor(weight) for weight in weights]
        parameters, calls = self._run(weights, x)
        make_distribution = self._function.distribution
        distribution = make_distribution(parameters)
        targets = match_targets(y, distribution, "The Laplace approximation")
        log_likelihood = weighted_log_prob(distribution, targets, sample_weight)
        root = fisher_root(make_distribution, parameters, targets)
        root *= ops.sqrt(ops.cast(sample_weight, root.dtype))[:, None, None]
        root = ops.cast(root, parameters.dtype)
        moves = [ops.zeros_like(call.outputs) for call in calls]

        def gradients(number):
            vector = [ops.reshape(root[:, :, number], ops.shape(parameters))]
            return pullback(lambda moves: [self._run(weights, x, moves)[0]], moves, vector)

        each = ops.map if self._function.has_loops(weights, x) else vectorized_map
        by_call = each(gradients, ops.arange(root.shape[-1]))
        pairs = list(zip(calls, by_call))
        factors = [
            [_factors_of(*pair, sample_weight) for pair in pairs if pair[0].layer is layer]
            for layer in self.layers
        ]
        return [list(map(sum, zip(*of_layer))) for of_layer in factors], log_likelihood


# The networks of each model, which are kept as long as the model.
_networks: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _factors_of(call, gradients, sample_weight):
    """The sums of `a a^T` and `G^T F G` of one call, and the number of rows and positions."""
    layer, inputs, outputs = call
    features = ops.cast(layer.features(inputs), sample_weight.dtype)
    weighted = features * sample_weight[:, None, None]
    features, weighted = (ops.reshape(v, (-1, layer.num_features)) for v in (features, weighted))
    positions = ops.shape(features)[0] // ops.shape(inputs)[0]
    # One after another, the columns of the root of F count as rows.
    shape = (-1, *ops.shape(outputs)[1:])
    by_position = layer.by_position(ops.reshape(gradients, shape))
    by_position = ops.cast(by_position, sample_weight.dtype)
    return (
        ops.matmul(ops.transpose(weighted), features),
        ops.matmul(ops.transpose(by_position), by_position),
        ops.sum(sample_weight) * ops.cast(positions, sample_weight.dtype),
    )
