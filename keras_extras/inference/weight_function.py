"""WeightFunction: a model as a pure function of its weights, and its output as a distribution."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.distribution_kinds import unwrap
from keras_extras._core.drawing import drawing
from keras_extras._core.epochs import check_current
from keras_extras._core.model_function import evaluate, is_seed
from keras_extras._core.probability import require_probability, tfd
from keras_extras._core.targets import match_targets
from keras_extras.autodiff.backend import has_loops


class WeightFunction:
    """A model for samplers, Laplace approximations and predictions.

    A model is seen in two steps: from weights and inputs to *parameters*, the tensor that its
    last layer makes a distribution of, and from parameters to the distribution. The first is pure
    and can be vectorized over weights; the second takes parameters with any leading axes.

    Args:
        model: Keras model with one output, built or called before.
        x: Inputs, of which one row is used to call the model.
        likelihood: Function from the outputs of a model without a layer of distributions to a
            `tfd.Distribution`, or such a layer. Defaults to `None`.
        require_likelihood: Boolean, whether the output must be a distribution. Defaults to
            `True`.
        statistics: Variables that are weights, too, in this function, after the trainable ones.
            Defaults to none.

    Attributes:
        variables: The trainable variables and `statistics`, in the order that functions take
            weights.
        seed_states: The states of the seed generators of the model's layers before the head.
        head: The model's last layer if it makes a distribution; else None.
        row_shape: The shape of the output for one row.
        is_sigmoid: Whether the last layer has the activation `"sigmoid"`.
    """

    def __init__(
        self,
        model: keras.Model,
        x: Any,
        likelihood: Callable | None = None,
        require_likelihood: bool = True,
        statistics: Sequence[keras.Variable] = (),
    ):
        require_probability()
        if not isinstance(model, keras.layers.Layer):
            raise TypeError(f"`model` must be a Keras model. Received: model={model!r}")
        self._model = weakref.ref(model)  # Compiled functions are kept as long as the model is.
        self._make_distribution: Any = likelihood
        self._check_rows(x)
        row = keras.tree.map_structure(lambda values: ops.convert_to_tensor(values[:1]), x)
        output = model(row, training=False)
        if isinstance(output, list | tuple | dict):
            raise ValueError(
                f"`model` must have one output. Received: {model.name!r} with {len(output)} outputs"
            )
        self.head = None if likelihood is not None else _head_of(output)
        if self.head is not None:
            self._make_distribution = self.head.make_distribution
        if self._make_distribution is None and require_likelihood:
            raise ValueError(
                f"The model {model.name!r} has no likelihood: its output is a tensor. End it with "
                "a layer of distributions such as `keras_extras.layers.IndependentNormal`, or "
                "give `likelihood`, a function from its output to a distribution, such as "
                "`lambda outputs: tfd.Independent(tfd.Normal(outputs, 0.1), 1)`."
            )
        self._statistics = list(statistics)
        self.variables = [*model.trainable_variables, *self._statistics]
        own = [] if self.head is None else [self.head.seed_generator.state]
        self.seed_states = [
            variable
            for variable in model.variables
            if is_seed(variable) and not any(variable is v for v in own)
        ]
        self.has_likelihood = self._make_distribution is not None
        self.row_shape = tuple(output.shape)[1:]
        self.is_sigmoid = _last_activation(model) is keras.activations.sigmoid

    @property
    def model(self) -> keras.Model:
        return self._model()

    @staticmethod
    def _check_rows(x):
        for values in keras.tree.flatten(x):
            if not getattr(values, "shape", ()):
                raise TypeError(
                    "`x` must be an array with one row for each example, or a structure of such "
                    "arrays. Of a `tf.data.Dataset` of batches of inputs and targets take "
                    "`np.concatenate([x for x, y in dataset])`. "
                    f"Received: a value of type {type(values).__name__}"
                )
        lengths = {len(values) for values in keras.tree.flatten(x)}
        if len(lengths) != 1 or lengths == {0}:
            raise ValueError(
                "`x` must have rows, equally many in all its arrays. "
                f"Received: arrays of lengths {sorted(lengths)}"
            )

    def parameters(self, weights: Sequence[Any] | None, seeds: Sequence[Any], x: Any) -> Any:
        """Returns what the last layer makes a distribution of, or the outputs without such a layer.

        Args:
            weights: Tensors in the order of `variables`; None for the weights as they are.
            seeds: Tensors in the order of `seed_states`, or an empty sequence for theirs.
            x: Inputs.
        """
        return self._evaluate(weights, seeds, x, penalties=False)[0]

    def parameters_and_penalty(
        self, weights: Sequence[Any] | None, seeds: Sequence[Any], x: Any
    ) -> tuple[Any, Any]:
        """Returns `parameters`, and the sum of the model's penalties."""
        parameters, losses = self._evaluate(weights, seeds, x, penalties=True)
        floatx = keras.config.floatx()
        return parameters, sum((ops.cast(v, floatx) for v in losses), ops.zeros((), floatx))

    def _evaluate(self, weights, seeds, x, penalties):
        state = [*zip(self.seed_states, seeds)]
        if weights is not None and self._statistics:
            count = len(self.variables) - len(self._statistics)
            state += zip(self._statistics, weights[count:])
            weights = weights[:count]
        with drawing(len(seeds) > 0):
            found = evaluate(self.model, x, weights=weights, state=state, penalties=penalties)
        outputs = found.outputs
        return outputs if self.head is None else outputs.made_from[1], found.penalties

    def has_loops(self, weights: Sequence[Any], x: Any) -> bool:
        """Returns whether the model has loops, as recurrent layers have.

        Args:
            weights: Tensors, all weights.
            x: Inputs.
        """
        return has_loops(lambda *given: self.parameters(given[0], (), given[1]), weights, x)

    def check_not_random(self, x: Any) -> None:
        """Raises if two calls on the same inputs differ, as with Bayesian weights or MCDropout."""
        if not self.seed_states:
            return
        check_current(self.model)
        row = keras.tree.map_structure(lambda values: ops.convert_to_tensor(values[:1]), x)
        one, other = (
            self.parameters(
                None, [ops.convert_to_tensor([n, 0], v.dtype) for v in self.seed_states], row
            )
            for n in (1, 2)
        )
        one, other = map(ops.convert_to_numpy, (one, other))
        if not np.array_equal(one, other, equal_nan=True):
            raise ValueError(
                f"The output of the model {self.model.name!r} is random: layers such as "
                "`DenseFlipout` and `MCDropout` draw at every call. Take the same model with plain "
                "layers, such as `keras.layers.Dense`."
            )

    def distribution(self, parameters: Any) -> Any:
        """Returns the distribution of the outputs, batch axes as those of the parameters."""
        distribution = self._make_distribution(parameters)
        if not isinstance(unwrap(distribution), tfd.Distribution):
            raise TypeError(
                "`likelihood` must return a distribution of TensorFlow Probability. "
                f"Received: a value of type {type(distribution).__name__}"
            )
        return unwrap(distribution)

    def log_likelihood(
        self, weights: Sequence[Any] | None, x: Any, y: Any, sample_weight: Any = None
    ) -> Any:
        """Returns the log-likelihood of all rows together, a scalar.

        Args:
            weights: Tensors in the order of `variables`; None for the weights as they are.
            x: Inputs.
            y: Targets.
            sample_weight: Tensor of shape `(n,)`, how often each row counts; `None` for once.
                Defaults to `None`.
        """
        distribution = self.distribution(self.parameters(weights, (), x))
        values = distribution.log_prob(match_targets(y, distribution, "Inference"))
        if sample_weight is not None:
            values = ops.sum(ops.reshape(values, (sample_weight.shape[0], -1)), axis=1)
            # Rows that do not count may have a density of zero.
            values = ops.where(sample_weight == 0.0, 0.0, values) * sample_weight
        return ops.sum(values)


def _head_of(output):
    """The layer that made a distribution; None for a tensor."""
    if not hasattr(output, "made_from"):
        return None
    layer, inputs = output.made_from
    if not ops.is_tensor(inputs) or isinstance(inputs, tfd.Distribution):
        raise ValueError(
            f"The last layer {layer.name!r} must make its distribution of one tensor. "
            f"Received: inputs of type {type(inputs).__name__}"
        )
    if layer.trainable_variables:
        raise ValueError(
            f"The last layer {layer.name!r} must have no weights itself, as layers such as "
            "`IndependentNormal`. "
            f"Received: weights {[variable.path for variable in layer.trainable_variables]}"
        )
    return layer


def _last_activation(model):
    """The activation of the operation that makes the output, of models of known structure."""
    while isinstance(model, keras.Sequential) or hasattr(model, "operations"):
        model = (model.layers if isinstance(model, keras.Sequential) else model.operations)[-1]
    return getattr(model, "activation", None)
