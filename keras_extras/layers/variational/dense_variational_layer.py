"""DenseVariationalLayer: the base of dense layers whose weights have a distribution."""

from typing import Any

import keras

from keras_extras._core.checks import check_integer
from keras_extras._core.docstrings import fill_text
from keras_extras.layers.variational.variational_layer import WEIGHT_ARGUMENTS, VariationalLayer

# Of the docstrings of layers that compute with the location and scale of a normal kernel.
NORMAL_KERNEL = fill_text(
    """
    Args:
        units: Integer, the length of the outputs' last axis.
        {weight_arguments}

    Input shape:
        `(batch_size, ..., input_dim)`.

    Output shape:
        `(batch_size, ..., units)`.

    Raises:
        ValueError: As `DenseReparameterization`, and if the posterior of the kernel is not one of
            independent normal entries.
    """,
    weight_arguments=WEIGHT_ARGUMENTS,
)


def example(layer: str) -> str:
    """Returns the example of the docstring of a layer."""
    return f"""
    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import layers

    model = keras.Sequential([
        layers.{layer}(16, activation="relu", kl_weight="auto"),
        layers.{layer}(2, kl_weight="auto"),
        layers.IndependentNormal(1),
    ])
    model.compile("adam", loss=lambda y, rv_y: -rv_y.log_prob(y))
    x = np.linspace(-1.0, 1.0, 64)[:, None]
    model.fit(x, 2.0 * x, epochs=2, verbose=0)
    ```
    """


class DenseVariationalLayer(VariationalLayer):
    """A `VariationalLayer` with a kernel of shape `(input_dim, units)`."""

    def __init__(
        self,
        units: int,
        activation: Any = None,
        activity_regularizer: Any = None,
        kernel_posterior_fn: Any = "mean_field",
        kernel_posterior_tensor_fn: Any = "sample",
        kernel_prior_fn: Any = "standard_normal",
        kernel_divergence_fn: Any = "kl_divergence",
        bias_posterior_fn: Any = "deterministic",
        bias_posterior_tensor_fn: Any = "sample",
        bias_prior_fn: Any = None,
        bias_divergence_fn: Any = "kl_divergence",
        kl_weight: str | float | None = None,
        posterior: str | None = None,
        prior: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            activation=activation,
            activity_regularizer=activity_regularizer,
            kernel_posterior_fn=kernel_posterior_fn,
            kernel_posterior_tensor_fn=kernel_posterior_tensor_fn,
            kernel_prior_fn=kernel_prior_fn,
            kernel_divergence_fn=kernel_divergence_fn,
            bias_posterior_fn=bias_posterior_fn,
            bias_posterior_tensor_fn=bias_posterior_tensor_fn,
            bias_prior_fn=bias_prior_fn,
            bias_divergence_fn=bias_divergence_fn,
            kl_weight=kl_weight,
            posterior=posterior,
            prior=prior,
            seed=seed,
            **kwargs,
        )
        self.units = check_integer("units", units)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if input_shape[-1] is None:
            raise ValueError(
                f"Layer {self.name!r} needs inputs whose last axis has a known length. "
                f"Received: input_shape={input_shape}"
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: input_shape[-1]})
        self.build_weights((input_shape[-1], self.units), (self.units,))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}
