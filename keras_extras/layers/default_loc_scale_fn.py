"""Functions that make the parameters and distributions of weights when a layer is built.

What `default_loc_scale_fn()` and `default_mean_field_normal_fn()` return, and
`default_multivariate_normal_fn` itself, is called with `dtype`, `shape`, `name`, `trainable` and
`add_variable_fn`, the layer's `add_weight`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import ml_dtypes
import numpy as np
from keras import ops

from keras_extras._core.checks import check_flag
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.probability import tf, tfd, tfp
from keras_extras._core.registration import serializable

# Of the docstrings of the two functions.
_CHOICES = """
        loc_initializer: Initializer of the location; `None` means
            `RandomNormal(stddev=0.1)`. Defaults to `None`.
        untransformed_scale_initializer: Initializer of the untransformed scale; `None` means
            `RandomNormal(mean=-3.0, stddev=0.1)`, scales close to 0.05. Defaults to `None`.
        loc_regularizer: Regularizer of the location. Defaults to `None`.
        untransformed_scale_regularizer: Regularizer of the untransformed scale. Defaults to
            `None`.
        loc_constraint: Constraint on the location. Defaults to `None`.
        untransformed_scale_constraint: Constraint on the untransformed scale. Defaults to `None`.
    """


@fill_docstring(choices=_CHOICES)
def default_loc_scale_fn(
    is_singular: bool = False,
    loc_initializer: Any = None,
    untransformed_scale_initializer: Any = None,
    loc_regularizer: Any = None,
    untransformed_scale_regularizer: Any = None,
    loc_constraint: Any = None,
    untransformed_scale_constraint: Any = None,
) -> Callable[..., tuple[Any, Any]]:
    """Returns a function that makes a location and a scale of trainable variables.

    ```
    scale = eps + softplus(untransformed scale)
    ```

    with `eps` the spacing of floating-point numbers at 1. The scale is computed whenever it
    is used, so that gradients reach its variable.

    Args:
        is_singular: Boolean, whether there is no scale, but `None`. Defaults to `False`.
        {choices}

    Returns:
        Function of `(dtype, shape, name, trainable, add_variable_fn)` that returns the location
        and the scale.

    Example:

    ```python
    import keras
    import keras_extras

    layer = keras.layers.Layer()
    make = keras_extras.layers.default_loc_scale_fn()
    loc, scale = make("float32", (3, 2), "kernel", True, layer.add_weight)
    ```
    """
    return _LocScaleFn(
        is_singular=is_singular,
        loc_initializer=loc_initializer,
        untransformed_scale_initializer=untransformed_scale_initializer,
        loc_regularizer=loc_regularizer,
        untransformed_scale_regularizer=untransformed_scale_regularizer,
        loc_constraint=loc_constraint,
        untransformed_scale_constraint=untransformed_scale_constraint,
    )


_KINDS = {
    "initializer": keras.initializers,
    "regularizer": keras.regularizers,
    "constraint": keras.constraints,
}


def _kind_of(name):
    """The module of Keras for an argument such as `"loc_initializer"`."""
    return _KINDS[name.rpartition("_")[2]]


class _OfArguments:
    """A function with the arguments of `default_loc_scale_fn`, which files can hold."""

    def __init__(self, is_singular=False, **choices):
        self.is_singular = check_flag("is_singular", is_singular)
        self.choices = {name: _kind_of(name).get(choice) for name, choice in choices.items()}

    def get_config(self) -> dict[str, Any]:
        choices = {name: _kind_of(name).serialize(v) for name, v in self.choices.items()}
        return {"is_singular": self.is_singular, **choices}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**config)


@serializable
class _LocScaleFn(_OfArguments):
    """The function that `default_loc_scale_fn` returns."""

    def __call__(self, dtype, shape, name, trainable, add_variable_fn):
        dtype = keras.backend.standardize_dtype(dtype)

        def variable(part, initializer):
            return add_variable_fn(
                name=f"{name}_{part}",
                shape=shape,
                initializer=self.choices[f"{part}_initializer"] or initializer,
                regularizer=self.choices[f"{part}_regularizer"],
                constraint=self.choices[f"{part}_constraint"],
                dtype=dtype,
                trainable=trainable,
            )

        loc = variable("loc", keras.initializers.RandomNormal(stddev=0.1))
        if self.is_singular:
            return loc, None
        raw_scale = variable(
            "untransformed_scale", keras.initializers.RandomNormal(mean=-3.0, stddev=0.1)
        )
        spacing = float(ml_dtypes.finfo(dtype).eps)
        scale = deferred(
            lambda: spacing + ops.softplus(ops.convert_to_tensor(raw_scale)), dtype, shape
        )
        return loc, scale


def deferred(function, dtype, shape):
    """A tensor that is computed whenever it is used, from variables as they are then."""
    # TFP itself would convert a variable of Keras to a tensor once and for all.
    nothing = np.zeros((), "float32")
    return _deferred_tensor()(
        nothing, lambda _: function(), dtype=tf.as_dtype(dtype), shape=tuple(shape)
    )


@functools.cache
def _deferred_tensor() -> Any:
    base: Any = tfp.util.DeferredTensor
    if keras.backend.backend() != "jax":
        return base

    class DeferredTensor(base):
        """A deferred tensor that functions of Keras and JAX take, as those of TensorFlow do."""

        def __jax_array__(self):
            return tf.convert_to_tensor(self)

    return DeferredTensor


@fill_docstring(choices=_CHOICES)
def default_mean_field_normal_fn(
    is_singular: bool = False,
    loc_initializer: Any = None,
    untransformed_scale_initializer: Any = None,
    loc_regularizer: Any = None,
    untransformed_scale_regularizer: Any = None,
    loc_constraint: Any = None,
    untransformed_scale_constraint: Any = None,
) -> Callable[..., Any]:
    """Returns a function that makes independent normal distributions with trainable parameters.

    Args:
        is_singular: Boolean, whether the distribution is a single point. Defaults to `False`.
        {choices}

    Returns:
        Function of `(dtype, shape, name, trainable, add_variable_fn)` that returns a
        distribution of event shape `shape`.

    Example:

    ```python
    import keras
    import keras_extras

    layer = keras.layers.Layer()
    make = keras_extras.layers.default_mean_field_normal_fn()
    posterior = make("float32", (3, 2), "kernel", True, layer.add_weight)
    posterior.mean()  # shape (3, 2)
    ```
    """
    return _MeanFieldNormalFn(
        is_singular=is_singular,
        loc_initializer=loc_initializer,
        untransformed_scale_initializer=untransformed_scale_initializer,
        loc_regularizer=loc_regularizer,
        untransformed_scale_regularizer=untransformed_scale_regularizer,
        loc_constraint=loc_constraint,
        untransformed_scale_constraint=untransformed_scale_constraint,
    )


@serializable
class _MeanFieldNormalFn(_OfArguments):
    """The function that `default_mean_field_normal_fn` returns."""

    def __call__(self, dtype, shape, name, trainable, add_variable_fn):
        make_loc_scale = _LocScaleFn(self.is_singular, **self.choices)
        loc, scale = make_loc_scale(dtype, shape, name, trainable, add_variable_fn)
        current_loc = deferred(
            lambda: ops.convert_to_tensor(loc), keras.backend.standardize_dtype(dtype), shape
        )
        entries = tfd.Deterministic(current_loc)
        if scale is not None:
            entries = tfd.Normal(current_loc, scale)
        return tfd.Independent(entries, reinterpreted_batch_ndims=len(shape))


@serializable
def default_multivariate_normal_fn(
    dtype: Any, shape: Sequence[int], name: str, trainable: bool, add_variable_fn: Callable
) -> Any:
    """Returns a standard normal distribution of weights, without variables.

    Args:
        dtype: The dtype of the weights.
        shape: Integers, the shape of the weights.
        name: Not used.
        trainable: Not used.
        add_variable_fn: Not used.

    Returns:
        A `tfd.Independent` distribution of event shape `shape`.

    Example:

    ```python
    import keras_extras

    make = keras_extras.layers.default_multivariate_normal_fn
    prior = make("float32", (3, 2), "kernel", True, None)
    prior.log_prob([[0.0, 0.0]] * 3)  # -3 log(2 pi)
    ```
    """
    dtype = keras.backend.standardize_dtype(dtype)
    # Of NumPy: the divergence need not subtract what is constant and zero.
    entries = tfd.Normal(np.zeros(shape, dtype), np.ones((), dtype))
    return tfd.Independent(entries, reinterpreted_batch_ndims=len(shape))
