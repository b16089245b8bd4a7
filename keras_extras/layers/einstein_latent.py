"""A latent layer whose parameters enter the way they do in Einstein's field equations."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_choice, check_flag, check_integer, check_number
from keras_extras._core.registration import serializable
from keras_extras.layers.einstein_forms import (
    METRIC_FORMS,
    SCALAR_FORMS,
    field_equations,
    tensor_size,
)


@serializable
class EinsteinLatent(keras.layers.Layer):
    """A filter followed by one of Einstein's forms, for the latents of an autoencoder.

    The layer filters like `keras.layers.Dense`, `z = inputs @ kernel (+ bias)`, and puts the
    filtered values through a form whose few parameters enter together with the kernel, not beside
    it, so that the derivative by one depends on the values of the others. All forms take after
    Einstein's field equations,

        R_mn - 1/2 R g_mn + Lambda g_mn = kappa T_mn,

    in which the Ricci tensor R_mn, the metric g_mn, the scalar curvature R = g^mn R_mn and the
    cosmological constant Lambda make up the left side. The layer returns `activation(h)`:

    - `"field_equation"`: h = -1/2 alpha z + beta z
    - `"linear"`: h = alpha (z + beta)
    - `"log"`: h = alpha z + log(|z| + beta)
    - `"inverse"`: h = alpha / (z + beta)
    - `"diagonal"`: h_j = z_j - 1/2 s g_j + Lambda g_j, with s = sum_i z_i / g_i and g > 0
    - `"tensor"`: h_mn = z_mn - 1/2 s g_mn + Lambda g_mn, with s = tr(g^-1 z), g positive definite

    The first four are the links of KernelML's Higgs autoencoder
    (https://github.com/Freedomtowin/kernelml), whose own example uses `"field_equation"`. The last
    two are the field equations themselves, z being the Ricci tensor: with a diagonal metric, and
    with a full one, where `units` = n (n + 1) / 2 latents are the lower triangle, row by row, of a
    symmetric n x n tensor. n = 4, space-time, gives ten latents.

    What the parameters do:

    - alpha weighs the curvature term of `"field_equation"` and is the slope of the latents in
      `"linear"` and `"log"`. In `"inverse"` it is their scale.
    - beta has the place of the cosmological constant: in `"field_equation"` it scales the latents.
      In the other three it shifts what the link is applied to.
    - The metric g says how the latents share the total curvature s. Where g is large, a latent
      counts little in s and is moved much by it.
    - Lambda moves all latents along g. It is a bias of one parameter.

    The arithmetic of the form runs in `float32` at least, so that mixed precision does not lose
    the small differences near the poles.

    Args:
        units: Integer, the number of latents. With `form="tensor"` one of 1, 3, 6, 10, 15, ...
        form: One of the six forms above. Defaults to `"diagonal"`.
        alpha_constraint: Constraint on alpha. Defaults to `"non_neg"`.
        beta_constraint: Constraint on beta, and on Lambda, which has beta's place in the metric
            forms. Defaults to `"non_neg"`.
        use_bias: Whether z has a bias. Defaults to `False`.
        activation: Activation of h, or `None` for none. Defaults to `None`.
        alpha_initializer: Initializer of alpha. Defaults to `"ones"`.
        beta_initializer: Initializer of beta and of Lambda. Defaults to `"ones"`.
        kernel_initializer: Initializer of the kernel. Defaults to `"glorot_uniform"`.
        bias_initializer: Initializer of the bias. Defaults to `"zeros"`.
        kernel_regularizer: Regularizer of the kernel. Defaults to `None`.
        bias_regularizer: Regularizer of the bias. Defaults to `None`.
        activity_regularizer: Regularizer of the output. Defaults to `None`.
        kernel_constraint: Constraint on the kernel. Defaults to `None`.
        bias_constraint: Constraint on the bias. Defaults to `None`.
        epsilon: Positive float, how near `"log"` and `"inverse"` come to their pole: |z| + beta is
            at least `epsilon`, and so is |z + beta|, with its sign kept. With `"inverse"`,
            |h| <= alpha / `epsilon`, which `float16` holds below 65504. Defaults to `1e-3`.
        **kwargs: Of `keras.layers.Layer`, such as `name` and `dtype`.

    Weights:
        `kernel` (d, units), `bias` (units,) and, by form, the scalars `alpha` and `beta`, or the
        scalar `cosmological_constant` with `log_metric` (units,), the logarithm of g, or with
        `metric_factor` (units,): the lower triangle, row by row, of L in g = L L^T, with the
        logarithm of L's diagonal in the diagonal's place. The metric starts as the identity.

    Input shape:
        `(batch, ..., d)`, of rank 2 or more.

    Output shape:
        `(batch, ..., units)`.

    Raises:
        ValueError: If `form` is unknown, `epsilon` not positive, or `units` not the number of
            components of a symmetric tensor with `form="tensor"`.

    Note:
        In two dimensions (`"diagonal"` with 2 units, `"tensor"` with 3) R_mn - 1/2 R g_mn has no
        trace, so that one direction of z is lost.

    Example:

    ```python
    import keras
    import keras_extras

    # KernelML's Higgs autoencoder, with the field equations of space-time as its latents.
    autoencoder = keras.Sequential(
        [
            keras.Input((30,)),
            keras_extras.layers.EinsteinLatent(10, form="tensor"),
            keras.layers.Dense(30, use_bias=False),
            keras_extras.layers.ScaleShift(),
        ]
    )
    autoencoder.compile(optimizer="adam", loss="mse")
    ```
    """

    def __init__(
        self,
        units: int,
        form: str = "diagonal",
        alpha_constraint: Any = "non_neg",
        beta_constraint: Any = "non_neg",
        use_bias: bool = False,
        activation: Any = None,
        alpha_initializer: Any = "ones",
        beta_initializer: Any = "ones",
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        epsilon: float = 1e-3,
        **kwargs: Any,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = check_integer("units", units)
        self.form = check_choice("form", form, (*SCALAR_FORMS, *METRIC_FORMS))
        if form == "tensor":
            tensor_size(self.units)
        self.alpha_constraint = keras.constraints.get(alpha_constraint)
        self.beta_constraint = keras.constraints.get(beta_constraint)
        self.use_bias = check_flag("use_bias", use_bias)
        self.activation = keras.activations.get(activation)
        self.alpha_initializer = keras.initializers.get(alpha_initializer)
        self.beta_initializer = keras.initializers.get(beta_initializer)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.epsilon = check_number("epsilon", epsilon, above=0.0)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.units),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        if self.form in SCALAR_FORMS:
            self.alpha = self._add_form_weight(
                "alpha", (), self.alpha_initializer, self.alpha_constraint
            )
            self.beta = self._add_form_weight(
                "beta", (), self.beta_initializer, self.beta_constraint
            )
        else:
            self.metric_weight = self._add_form_weight(
                METRIC_FORMS[self.form].weight, (self.units,), "zeros", None
            )
            self.cosmological_constant = self._add_form_weight(
                "cosmological_constant", (), self.beta_initializer, self.beta_constraint
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: input_shape[-1]})

    def _add_form_weight(self, name, shape, initializer, constraint):
        # Not autocast: the form's arithmetic keeps the precision of the weights.
        return self.add_weight(
            name=name, shape=shape, initializer=initializer, constraint=constraint, autocast=False
        )

    def call(self, inputs: Any) -> Any:
        z = ops.matmul(inputs, self.kernel)
        if self.use_bias:
            z = z + self.bias
        precise = keras.backend.result_type(self.compute_dtype, "float32")
        h = self._apply_form(ops.cast(z, precise))
        return self.activation(ops.cast(h, self.compute_dtype))

    def _apply_form(self, z):
        if self.form in SCALAR_FORMS:
            alpha, beta = (ops.cast(weight, z.dtype) for weight in (self.alpha, self.beta))
            return SCALAR_FORMS[self.form](z, alpha, beta, self.epsilon)
        metric = METRIC_FORMS[self.form].metric(ops.cast(self.metric_weight, z.dtype))
        return field_equations(z, *metric, ops.cast(self.cosmological_constant, z.dtype))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "form": self.form,
            "alpha_constraint": keras.constraints.serialize(self.alpha_constraint),
            "beta_constraint": keras.constraints.serialize(self.beta_constraint),
            "use_bias": self.use_bias,
            "activation": keras.activations.serialize(self.activation),
            "alpha_initializer": keras.initializers.serialize(self.alpha_initializer),
            "beta_initializer": keras.initializers.serialize(self.beta_initializer),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
            "epsilon": self.epsilon,
        }
