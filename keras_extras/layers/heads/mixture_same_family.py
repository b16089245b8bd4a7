"""MixtureSameFamily: mixtures of the distributions of another layer."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_integer
from keras_extras._core.distribution_kinds import unwrap
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.probability import tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.distribution_layer import HEAD_ARGUMENTS
from keras_extras.layers.heads.head import Head

# Of the docstrings of mixtures.
DENSITY = """
    ```
    density(y) = sum over k of softmax(logits)_k density_k(y)
    ```
    """
REFERENCE = """
    References:
        Bishop (1994), "Mixture density networks".
    """


@serializable
@fill_docstring(density=DENSITY, reference=REFERENCE, head_arguments=HEAD_ARGUMENTS)
class MixtureSameFamily(Head):
    """A mixture of distributions that another layer makes.

    {density}

    The first `num_components` inputs are the logits of the components, the others the parameters
    of one component after the other.

    {reference}

    Args:
        num_components: Integer, the number of components.
        component_layer: A layer of distributions, such as `IndependentNormal`, of which each
            component is one.
        {head_arguments}

    Input shape:
        `(..., params_size(num_components, component_params_size))`.

    Raises:
        TypeError: If `component_layer` is no layer.

    Example:

    ```python
    import numpy as np
    from keras_extras import layers

    layer = layers.MixtureSameFamily(2, layers.IndependentLaplace())
    size = layer.params_size(2, layers.IndependentLaplace.params_size())  # 6
    distribution = layer(np.zeros((1, size)))
    distribution.mean()  # 0.0
    ```
    """

    arguments = ("num_components", "component_layer")

    def __init__(
        self,
        num_components: int,
        component_layer: keras.layers.Layer,
        convert_to_tensor_fn: str | Callable[[Any], Any] = "sample",
        validate_args: bool = False,
        **kwargs: Any,
    ):
        super().__init__(convert_to_tensor_fn, validate_args=validate_args, **kwargs)
        self.num_components = check_integer("num_components", num_components)
        if not isinstance(component_layer, keras.layers.Layer):
            raise TypeError(
                "`component_layer` must be a layer of distributions, such as "
                f"`IndependentNormal(1)`. Received: component_layer={component_layer!r}"
            )
        self.component_layer = component_layer
        component_params = getattr(component_layer, "num_params", None)
        if component_params is not None:
            self.num_params = self.params_size(self.num_components, component_params)

    @staticmethod
    def params_size(
        num_components: int, component_params_size: int, name: str | None = None
    ) -> int:
        """Returns how many parameters one distribution needs.

        Args:
            num_components: Integer, the number of components.
            component_params_size: Integer, the parameters of one component.
            name: Not used; for code that was written for `tfp.layers`. Defaults to `None`.
        """
        size = check_integer("component_params_size", component_params_size, minimum=0)
        return check_integer("num_components", num_components) * (1 + size)

    @staticmethod
    def new(
        params: Any,
        num_components: int,
        component_layer: Callable[[Any], Any],
        validate_args: bool = False,
        name: str | None = None,
    ) -> Any:
        """Returns the distribution that belongs to parameters.

        Args:
            params: Tensor of shape `(..., num_components * (1 + component_params_size))`.
            num_components: Integer, the number of components.
            component_layer: Layer or function from parameters of shape
                `(..., num_components, component_params_size)` to distributions.
            validate_args: Boolean, whether to check parameters. Defaults to `False`.
            name: Not used; for code that was written for `tfp.layers`. Defaults to `None`.

        Returns:
            A `tfd.MixtureSameFamily` distribution.
        """
        params = ops.convert_to_tensor(params)
        logits, rest = params[..., :num_components], params[..., num_components:]
        if rest.shape[-1] % num_components:
            raise ValueError(
                "`params` must have num_components * (1 + component_params_size) entries in its "
                f"last axis. Received: num_components={num_components}, "
                f"params.shape={tuple(params.shape)}"
            )
        dims = (num_components, rest.shape[-1] // num_components)
        components = component_layer(ops.reshape(rest, (*ops.shape(rest)[:-1], *dims)))
        return tfd.MixtureSameFamily(
            tfd.Categorical(logits=logits),
            unwrap(components),
            validate_args=validate_args,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if not input_shape:
            raise ValueError(f"Layer {self.name!r} needs inputs of shape (n, ...). Received: ()")
        *rows, size = input_shape
        each = None if size is None else size // self.num_components - 1
        self.component_layer.build((*rows, self.num_components, each))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "component_layer": keras.saving.serialize_keras_object(self.component_layer),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MixtureSameFamily":
        layer = keras.saving.deserialize_keras_object(config["component_layer"])
        return cls(**{**config, "component_layer": layer})
