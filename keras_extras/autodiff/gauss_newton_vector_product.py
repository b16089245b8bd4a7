"""gauss_newton_vector_product: the curvature of the loss as if the model were linear."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.masks import mask_of, with_mask
from keras_extras.autodiff import backend
from keras_extras.autodiff.arguments import IN_FORM_OF_GRADIENT, PRODUCT
from keras_extras.autodiff.batches import sum_over_batches
from keras_extras.autodiff.data import Data
from keras_extras.autodiff.dense_derivatives import CURVATURE_MODES, hessian_product
from keras_extras.autodiff.differentiated_model import DifferentiatedModel
from keras_extras.autodiff.second_derivatives import check_second_derivatives


@fill_docstring(product=PRODUCT, in_form_of_gradient=IN_FORM_OF_GRADIENT)
def gauss_newton_vector_product(
    model: keras.Model,
    x: Any,
    y: Any,
    vector: Any,
    *,
    loss: Any = None,
    penalties: bool = True,
    wrt: str | int = "weights",
    sample_weight: Any = None,
    training: bool = False,
    batch_size: int | None = None,
) -> Any:
    """Returns the product of the generalized Gauss-Newton matrix and a vector.

    ```
    G v = J^T H_L J v + H_R v
    ```

    with `J` the Jacobian of the outputs, `H_L` the Hessian of the loss by the outputs and `H_R`
    that of regularizers and of what layers add to the loss. It is the Hessian of the loss of the
    model made linear where it is: without `H_R` it has no negative curvature if the loss is convex
    in the outputs. For mean squared error, cross-entropy of logits and other log-likelihoods of
    exponential families in natural parameters it is the Fisher information. Of a distribution the
    outputs are the tensor that its layer makes it of.

    It takes the time of a few gradients. The loss and what is held fixed are those of `gradient`.

    References:
        Schraudolph (2002), "Fast curvature matrix-vector products for second-order gradient
        descent"; Martens (2020), "New insights and perspectives on the natural gradient method",
        [arXiv:1412.1193](https://arxiv.org/abs/1412.1193).

    Args:
        {product}

    Returns:
        {in_form_of_gradient}

    Raises:
        TypeError: If `model` is no Keras model or layer.
        ValueError: If `vector` has other shapes, an argument does not fit, as in `gradient`, or the
            model returns a distribution made of several tensors.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import autodiff

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    x, y = np.ones((8, 3)), np.eye(2)[[0, 1] * 4]
    g = autodiff.gradient(model, x, y)
    autodiff.gauss_newton_vector_product(model, x, y, g)
    ```
    """
    function = DifferentiatedModel(
        model, Data(x, y, sample_weight), loss, wrt, training, penalties=penalties
    )
    check_second_derivatives(function)

    def of_batch(values, data, vector):
        kept = [None]

        def outputs_and_penalties(values):
            def detached(x, training):
                outputs = kept[0] = model(x, training=training)
                parameters = [ops.stop_gradient(part) for part in _parameters(outputs)]
                return _with_parameters(outputs, parameters)

            penalties = function.loss(values, data, detached)
            parameters = _parameters(kept[0])
            return parameters, penalties, [mask_of(part) for part in parameters]

        def curve(parameters, moves, masks):
            def loss_of(parameters):
                masked = [with_mask(part, mask) for part, mask in zip(parameters, masks)]
                outputs = _with_parameters(kept[0], masked)
                return function.loss(values, data, lambda x, training: outputs)

            return hessian_product(loss_of, parameters, moves, CURVATURE_MODES[0])

        return backend.gauss_newton_product(outputs_and_penalties, values, vector, curve)

    return function.pack(sum_over_batches(function, of_batch, batch_size, function.unpack(vector)))


def _parameters(outputs):
    """The tensors that outputs are, or that distributions among them are made of."""
    parameters = [
        output.made_from[1] if hasattr(output, "made_from") else output
        for output in keras.tree.flatten(outputs)
    ]
    for part in parameters:
        if not ops.is_tensor(part) or hasattr(part, "made_from"):
            raise ValueError(
                "The Gauss-Newton matrix needs outputs that are tensors, or distributions made of "
                "one tensor, such as those of `keras_extras.layers.IndependentNormal`. "
                f"Received: {type(part).__name__}"
            )
    return parameters


def _with_parameters(outputs, parameters):
    """Outputs of other parameters."""
    leaves = [
        output.made_from[0].call(parameter) if hasattr(output, "made_from") else parameter
        for output, parameter in zip(keras.tree.flatten(outputs), parameters)
    ]
    return keras.tree.pack_sequence_as(outputs, leaves)
