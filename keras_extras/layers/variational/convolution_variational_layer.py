"""ConvolutionVariationalLayer: the base of convolutions whose weights have a distribution."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_choice, check_integer, check_integers
from keras_extras._core.docstrings import fill_text
from keras_extras.layers.variational.variational_layer import WEIGHT_ARGUMENTS, VariationalLayer

_SPATIAL = {1: "steps", 2: "height, width", 3: "depth, height, width"}
_EXAMPLES = {1: "8, 10, 3", 2: "8, 10, 10, 3", 3: "8, 6, 6, 6, 3"}


def sections(kind: str, rank: int) -> str:
    """Returns the end of the docstring of a convolution.

    Args:
        kind: The end of its name, such as `"Flipout"`.
        rank: Integer, over how many axes.
    """
    return fill_text(
        f"""
        Args:
            filters, kernel_size, strides, padding, data_format, dilation_rate: As in
                `keras.layers.Conv{rank}D`.
            {{weight_arguments}}

        Input shape:
            `(batch_size, {_SPATIAL[rank]}, channels)` with `data_format="channels_last"`.

        Output shape:
            That of `keras.layers.Conv{rank}D`.

        Example:

        ```python
        import numpy as np
        from keras_extras import layers

        layer = layers.Convolution{rank}D{kind}(4, 3, activation="relu", kl_weight=1 / 1000)
        layer(np.zeros(({_EXAMPLES[rank]})))  # 4 channels, of a new draw at each call
        layer.losses  # the weighted divergence
        ```
        """,
        weight_arguments=WEIGHT_ARGUMENTS,
    )


class ConvolutionVariationalLayer(VariationalLayer):
    """A `VariationalLayer` with the kernel of a convolution over `rank` axes."""

    rank: int

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
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
        self.filters = check_integer("filters", filters)
        self.kernel_size = self._each_axis("kernel_size", kernel_size)
        self.strides = self._each_axis("strides", strides)
        self.padding = check_choice("padding", padding, self._paddings(), any_case=True)
        data_format = keras.config.image_data_format() if data_format is None else data_format
        self.data_format = check_choice(
            "data_format", data_format, ("channels_last", "channels_first"), any_case=True
        )
        self.dilation_rate = self._each_axis("dilation_rate", dilation_rate)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                "`strides` and `dilation_rate` cannot both be greater than 1. "
                f"Received: strides={self.strides}, dilation_rate={self.dilation_rate}"
            )
        self.input_spec = keras.layers.InputSpec(ndim=self.rank + 2)

    def _each_axis(self, name, value):
        values = check_integers(name, value)
        if len(values) == 1:
            values *= self.rank
        if len(values) != self.rank:
            raise ValueError(
                f"`{name}` must be an integer or {self.rank} of them. Received: {name}={value!r}"
            )
        return values

    def _paddings(self):
        return ("valid", "same", "causal") if self.rank == 1 else ("valid", "same")

    @property
    def channel_axis(self) -> int:
        return -1 if self.data_format == "channels_last" else 1

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = input_shape[self.channel_axis]
        if channels is None:
            raise ValueError(
                f"Layer {self.name!r} needs inputs whose channel axis has a known length. "
                f"Received: input_shape={input_shape}"
            )
        self.input_spec = keras.layers.InputSpec(
            ndim=self.rank + 2, axes={self.channel_axis: channels}
        )
        self.build_weights((*self.kernel_size, channels, self.filters), (self.filters,))

    def convolve(self, inputs: Any, kernel: Any) -> Any:
        """Returns the convolution of `inputs` with a kernel, which is cast to their dtype."""
        padding = self.padding
        if padding == "causal":
            before = self.dilation_rate[0] * (self.kernel_size[0] - 1)
            axis = 1 if self.data_format == "channels_last" else 2
            inputs = ops.pad(inputs, [(before, 0) if i == axis else (0, 0) for i in range(3)])
            padding = "valid"
        return ops.conv(
            inputs,
            ops.cast(kernel, inputs.dtype),
            strides=self.strides,
            padding=padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )

    def add_bias(self, outputs: Any, bias: Any) -> Any:
        if self.data_format == "channels_first":
            bias = ops.reshape(bias, (-1, *(1,) * self.rank))
        return outputs + bias

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, *rest = input_shape
        rest.pop(self.channel_axis if self.channel_axis == -1 else 0)
        lengths = zip(rest, self.kernel_size, self.strides, self.dilation_rate, strict=True)
        places = [length and self._output_length(length, *others) for length, *others in lengths]
        return (
            (batch, *places, self.filters)
            if self.data_format == "channels_last"
            else (batch, self.filters, *places)
        )

    def _output_length(self, length, kernel_size, stride, dilation_rate):
        covered = dilation_rate * (kernel_size - 1) if self.padding == "valid" else 0
        if length <= covered:
            raise ValueError(
                f"Layer {self.name!r} needs inputs longer than {covered} along each axis. "
                f"Received: an axis of length {length}"
            )
        return (length - covered - 1) // stride + 1

    def get_config(self) -> dict[str, Any]:
        names = ("filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
