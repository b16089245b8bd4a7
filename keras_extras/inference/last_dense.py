"""LastDense: the last Dense layer of a model, whose derivatives have a closed form."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_extras._core.compiled import trace
from keras_extras._core.differentiation import value_and_gradients
from keras_extras._seams.layer_calls import replaced_calls
from keras_extras.inference.weight_function import WeightFunction


class LastDense(NamedTuple):
    """A `Dense` layer `z = a W + b` that all weights before it act through.

    The derivatives of `z` by its kernel and bias are the features `a` and 1, so they need not be
    computed for each output, and those by the other weights are `W` times those of `a`.

    Attributes:
        layer: The layer.
        positions: The positions of its kernel and bias among the model's trainable variables.
        num_features: The number of features.
        num_outputs: The number of outputs.
    """

    layer: keras.layers.Dense
    positions: list[int]
    num_features: int
    num_outputs: int


def last_dense(function: WeightFunction, weights: Sequence[Any], row: Any) -> LastDense | None:
    """Returns the last Dense layer of a model, or None if other weights act around it.

    A row is traced with the outputs of the layer cut off from what made them: the parameters of
    the distribution must then depend on no weight, and the features never on the layer's own.

    Args:
        function: The model.
        weights: Tensors, all weights.
        row: Inputs of one row, with its axis; as `weights`, tensors or what `any_of` returns.
    """
    places = {id(variable): number for number, variable in enumerate(function.variables)}
    layers = [
        layer
        for layer in _layers_of(function.model)
        if type(layer) is keras.layers.Dense and _is_plain(layer, places)
    ]
    found: list[LastDense] = []

    def look(weights, row):
        calls = []
        with replaced_calls(layers, functools.partial(_noting, calls)):
            function.parameters(weights, (), row)
        if not calls or sum(layer is calls[-1][0] for layer, _ in calls) != 1:
            return ops.zeros(())
        layer, shape = calls[-1]
        positions = [places[id(variable)] for variable in layer.trainable_variables]

        def around(weights):
            with cut_at(layer) as cut:
                parameters = function.parameters(weights, (), row)
            return parameters, cut.features

        def before(own):
            return around(replaced(weights, positions, own))[1]

        _, of_parameters = value_and_gradients(around, weights, has_aux=True)
        _, of_features = value_and_gradients(before, [weights[number] for number in positions])
        depends = any(gradient is not None for gradient in of_parameters + of_features)
        if shape[0] == 1 and len(shape) == 2 and not depends:
            found.append(LastDense(layer, positions, shape[1], layer.units))
        return ops.zeros(())

    if layers:
        trace(look, weights, row)
    return found[0] if found else None


def replaced(weights: Sequence[Any], positions: Sequence[int], values: Sequence[Any]) -> list[Any]:
    """Returns the weights with other values at some positions."""
    weights = list(weights)
    for position, value in zip(positions, values):
        weights[position] = value
    return weights


def _layers_of(model):
    """The layers of a model and of the models in it, each once."""
    found = {}
    for layer in model.layers:
        inner = _layers_of(layer) if isinstance(layer, keras.Model) else [layer]
        found |= {id(one): one for one in inner}
    return list(found.values())


def _is_plain(layer, places):
    """Whether a layer computes `activation(a W + b)`, with all of its weights trained."""
    own = [layer.kernel, *([layer.bias] if layer.use_bias else [])] if layer.built else []
    return (
        "call" not in vars(layer)
        and bool(own)
        and [id(v) for v in layer.trainable_variables] == [id(v) for v in own]
        and all(id(v) in places for v in own)
        and layer.compute_dtype == layer.variable_dtype
    )


def _noting(calls, layer, call):
    def noted(inputs, *args, **kwargs):
        calls.append((layer, tuple(inputs.shape)))
        return call(inputs, *args, **kwargs)

    return noted


@contextlib.contextmanager
def cut_at(layer: keras.layers.Dense, leaf: Any = None) -> Iterator[SimpleNamespace]:
    """Within it, a call of the layer sets `features`, `outputs` and `leaf` of what is yielded.

    All that follows the layer depends on the leaf in the place of the outputs.

    Args:
        layer: The layer.
        leaf: Tensor; `None` for the outputs without their gradient. Defaults to `None`.
    """
    cut = SimpleNamespace()

    def call(inputs, training=None):
        cut.features = ops.convert_to_tensor(inputs)
        cut.outputs = ops.matmul(inputs, layer.kernel)
        if layer.use_bias:
            cut.outputs = ops.add(cut.outputs, layer.bias)
        cut.leaf = ops.stop_gradient(cut.outputs) if leaf is None else leaf
        return cut.leaf if _is_linear(layer) else layer.activation(cut.leaf)

    with replaced_calls([layer], lambda layer, stock_call: call):
        yield cut


def _is_linear(layer):
    return layer.activation is keras.activations.linear
