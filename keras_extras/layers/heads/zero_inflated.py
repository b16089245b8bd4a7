"""ZeroInflated: counts of which too many are zero."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.probability import tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.distribution_layer import HEAD_ARGUMENTS
from keras_extras.layers.heads.head import Head
from keras_extras.layers.heads.independent_head import IndependentHead


@serializable
@fill_docstring(head_arguments=HEAD_ARGUMENTS)
class ZeroInflated(Head):
    """Counts with more zeros than the distribution of another layer has.

    ```
    P(0) = s + (1 - s) P_component(0),  P(y) = (1 - s) P_component(y) for y > 0
    s = sigmoid(logit)
    ```

    The first inputs are the logits, one for each entry of the event, the others the parameters of
    the component.

    References:
        Lambert (1992), "Zero-inflated Poisson regression, with an application to defects in
        manufacturing".

    Args:
        component_layer: A layer of independent counts: `IndependentPoisson`,
            `IndependentNegativeBinomial` or `IndependentBernoulli`.
        {head_arguments}

    Input shape:
        `(..., params_size(component_layer))`.

    Output shape:
        `(..., *event_shape)` of the component, for draws.

    Raises:
        TypeError: If `component_layer` is no layer of independent entries.
        ValueError: If it is one of continuous numbers, to which zero has probability 0.

    Example:

    ```python
    import numpy as np
    import keras_extras
    from keras_extras import layers

    layer = layers.ZeroInflated(layers.IndependentPoisson())
    distribution = layer(np.array([[0.0, 1.0]]))
    distribution.mean()  # exp(1) / 2 = 1.36
    ```
    """

    arguments = ("component_layer",)

    def __init__(
        self,
        component_layer: IndependentHead,
        convert_to_tensor_fn: str | Callable[[Any], Any] = "sample",
        validate_args: bool = False,
        **kwargs: Any,
    ):
        super().__init__(convert_to_tensor_fn, validate_args=validate_args, **kwargs)
        if not isinstance(component_layer, IndependentHead):
            raise TypeError(
                "`component_layer` must be a layer of independent counts, such as "
                f"`IndependentPoisson()`. Received: component_layer={component_layer!r}"
            )
        self.component_layer = component_layer
        self.num_params = self.params_size(component_layer)

    @staticmethod
    def params_size(component_layer: IndependentHead) -> int:
        """Returns how many parameters one distribution needs.

        Args:
            component_layer: A layer of independent counts.
        """
        return math.prod(component_layer.event_shape) + component_layer.num_params

    @staticmethod
    def new(params: Any, component_layer: IndependentHead, validate_args: bool = False) -> Any:
        """Returns the distribution that belongs to parameters.

        Args:
            params: Tensor of shape `(..., params_size(component_layer))`.
            component_layer: A layer of independent counts.
            validate_args: Boolean, whether to check parameters. Defaults to `False`.

        Returns:
            A `tfd.Independent` distribution.
        """
        params = ops.convert_to_tensor(params)
        rank = len(component_layer.event_shape)
        size = math.prod(component_layer.event_shape)
        component = component_layer.make_distribution(params[..., size:]).distribution
        if component.experimental_default_event_space_bijector() is not None:
            raise ValueError(
                "`component_layer` must be a layer of counts, because zero has no probability of "
                f"its own in a continuous distribution. Received: {type(component_layer).__name__}"
            )
        logits = ops.reshape(
            params[..., :size], (*ops.shape(params)[:-1], *component_layer.event_shape)
        )
        inflated = tfd.Inflated(
            component,
            # Not as logits, which TFP 0.25 doubles; and never so sure that a gradient is infinite.
            inflated_loc_probs=ops.clip(ops.sigmoid(logits), 1e-7, 1.0 - 1e-7),
            inflated_loc=0.0,
            validate_args=validate_args,
        )
        return tfd.Independent(inflated, rank, validate_args=validate_args)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.component_layer.build((*input_shape[:-1], self.component_layer.num_params))

    def get_config(self) -> dict[str, Any]:
        layer = keras.saving.serialize_keras_object(self.component_layer)
        return {**super().get_config(), "component_layer": layer}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ZeroInflated":
        layer = keras.saving.deserialize_keras_object(config["component_layer"])
        return cls(**{**config, "component_layer": layer})
