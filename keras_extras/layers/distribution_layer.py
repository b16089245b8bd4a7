"""DistributionLayer: the base of all layers whose output is a distribution."""

import inspect
import threading
import warnings
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_extras._core.backend import is_traced
from keras_extras._core.checks import check_flag, check_seed
from keras_extras._core.distribution_kinds import unwrap
from keras_extras._core.functions import deserialize_function, method_name, serialize_function
from keras_extras._core.probability import is_floating, require_probability, tf, tfd
from keras_extras._seams.jax_substrate import quiet
from keras_extras.layers.distribution_graph import (
    output_spec,
    tensor_of_unknown_length,
    with_tensors,
)
from keras_extras.layers.distributions_in_fit import let_models_train_distributions

_filtering = threading.Lock()


# Of layers whose output is a distribution, for their docstrings.
HEAD_ARGUMENTS = """
    convert_to_tensor_fn: The tensor that stands for the distribution where one is wanted: the
        name of a method, such as `"sample"` or `"mean"`, or a function of the distribution, as
        in `DistributionLambda`. Defaults to `"sample"`.
    validate_args: Boolean, whether to check inputs and parameters, at a cost. Defaults to
        `False`.
    **kwargs: `seed` and `dtype`, and arguments of `keras.layers.Layer`.
    """


class DistributionLayer(keras.layers.Layer):
    """A layer whose output is a distribution that is also a tensor.

    A child says in `make_distribution(inputs)` which distribution. The layer computes in
    `keras.config.floatx()` whatever the global dtype policy is, because densities overflow in
    half precision.

    Args:
        convert_to_tensor_fn: What stands for the distribution where a tensor is wanted: the name
            of a method or property such as `"sample"`, `"mean"` or `"mode"`, the method itself
            such as `tfd.Distribution.mean`, or a function of the distribution. Defaults to
            `"sample"`.
        validate_args: Boolean, whether to check inputs and parameters for NaN and for values out
            of range, which costs time and is not done under XLA. Defaults to `False`.
        seed: Integer seed of the draws. Defaults to `None`.
        dtype: The dtype of the computations, single precision in place of half; `None` means
            `keras.config.floatx()`. Defaults to `None`.
        **kwargs: Of `keras.layers.Layer`, such as `name` and `activity_regularizer`.
    """

    def __init__(
        self,
        convert_to_tensor_fn: str | Callable[[Any], Any] = "sample",
        validate_args: bool = False,
        seed: int | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        require_probability()
        let_models_train_distributions()
        dtype = keras.dtype_policies.get(dtype or keras.config.floatx()).compute_dtype
        if "activity_regularizer" in kwargs:
            regularizer = deserialize_function(kwargs["activity_regularizer"])
            kwargs = {**kwargs, "activity_regularizer": regularizer}
        super().__init__(dtype=keras.backend.result_type(dtype, "float32"), **kwargs)
        convert_to_tensor_fn = method_name(deserialize_function(convert_to_tensor_fn))
        if not (isinstance(convert_to_tensor_fn, str) or callable(convert_to_tensor_fn)):
            raise TypeError(
                "`convert_to_tensor_fn` must be a function, or name a method or property of "
                f"distributions. Received: convert_to_tensor_fn={convert_to_tensor_fn!r}"
            )
        self.convert_to_tensor_fn = convert_to_tensor_fn
        self.validate_args = check_flag("validate_args", validate_args)
        self.seed = check_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        # Keras looks for weights in layers, not in regularizers.
        prior = getattr(self.activity_regularizer, "distribution_b", None)
        if isinstance(prior, keras.layers.Layer):
            self.prior = prior
        self.divergence_weight = getattr(self.activity_regularizer, "divergence_weight", None)
        self.supports_masking = True

    def make_distribution(self, inputs: Any) -> Any:
        """Returns the `tfd.Distribution` that belongs to `inputs`."""
        raise NotImplementedError

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        from keras_extras.layers.tensor_distribution import TensorDistribution

        traced = tensor_of_unknown_length(self, inputs)
        if traced is not None:
            return traced
        if self.divergence_weight is not None:
            self.divergence_weight.advance(training)
        try:
            if self.validate_args:
                inputs = keras.tree.map_structure(self._check_finite, inputs)
            distribution = unwrap(self._quietly_made(inputs))
            if not isinstance(distribution, tfd.Distribution):
                raise TypeError(
                    f"Layer {self.name!r} must make a distribution of TensorFlow Probability. "
                    f"Received: a value of type {type(distribution).__name__}"
                )
            output = TensorDistribution(
                with_tensors(distribution), self.convert_to_tensor_fn, self.seed_generator
            )
            output.made_from = (self, inputs)
            return output
        except self._errors_of_checks() as error:
            message = getattr(error, "message", error)
            raise ValueError(f"Layer {self.name!r}: {message}") from error

    def _errors_of_checks(self):
        """Returns the exceptions that TFP raises for invalid parameters."""
        on_jax = keras.backend.backend() == "jax" and self.validate_args
        return (tf.errors.InvalidArgumentError, *([ValueError] if on_jax else []))

    def _quietly_made(self, inputs):
        if keras.backend.backend() != "jax":
            return self.make_distribution(inputs)
        with quiet():
            return self.make_distribution(inputs)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if keras.backend.backend() == "tensorflow":
            inputs = self._with_ranks(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def build(self, input_shape: Any) -> None:
        shapes = keras.tree.map_shape_structure(keras.KerasTensor, input_shape)
        self._built_shapes = [value.shape for value in keras.tree.flatten(shapes)]
        super().build(input_shape)

    def _with_ranks(self, inputs):
        """The inputs with the ranks that the layer was built with, if their graph knows none."""
        flat = keras.tree.flatten(inputs)
        given = [getattr(value, "shape", ()) for value in flat]
        if not any(isinstance(shape, tf.TensorShape) and shape.rank is None for shape in given):
            return inputs
        shapes = getattr(self, "_built_shapes", [])
        if len(shapes) != len(flat):
            raise ValueError(
                f"Layer {self.name!r} needs inputs of a known rank. Name the axis, as in "
                "`tf.squeeze(x, axis=-1)`, or write `tf.ensure_shape(x, (None,))` before the "
                "layer. Received: a tensor of unknown shape"
            )
        # Axes but the last may have other lengths in other batches.
        lasts = [shape[1:][-1:] for shape in shapes]
        shaped = [
            value
            if value.shape.rank is not None
            else tf.ensure_shape(value, (*[None] * (len(shape) - len(last)), *last))
            for value, shape, last in zip(flat, shapes, lasts)
        ]
        return keras.tree.pack_sequence_as(inputs, shaped)

    def _check_finite(self, inputs):
        message = f"Layer {self.name!r} received NaN or infinite parameters"
        if not is_floating(inputs.dtype) or isinstance(inputs, tfd.Distribution):
            return inputs
        if keras.backend.backend() == "tensorflow":
            return tf.debugging.check_numerics(inputs, message)
        if not is_traced(inputs) and not ops.all(ops.isfinite(inputs)):
            raise ValueError(message)
        return inputs

    def compute_output_spec(self, inputs: Any, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        return output_spec(self, inputs)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        inputs = keras.tree.map_shape_structure(
            lambda shape: keras.KerasTensor(shape, self.compute_dtype), input_shape
        )
        return self.compute_output_spec(inputs).shape

    def get_config(self) -> dict[str, Any]:
        if inspect.isfunction(self.activity_regularizer):
            # Filters of warnings are those of all threads.
            with _filtering, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Keras' own of a lambda; here ours is given.
                config = super().get_config()
            regularizer = serialize_function(self.activity_regularizer, self.name)
            config["activity_regularizer"] = regularizer
        else:
            config = super().get_config()
        return {
            **config,
            "convert_to_tensor_fn": serialize_function(self.convert_to_tensor_fn, self.name),
            "validate_args": self.validate_args,
            "seed": self.seed,
        }
