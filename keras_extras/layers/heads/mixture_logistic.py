"""MixtureLogistic: mixtures of independent logistic distributions."""

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.layers.distribution_layer import HEAD_ARGUMENTS
from keras_extras.layers.heads.independent_logistic import IndependentLogistic
from keras_extras.layers.heads.independent_mixture import IndependentMixture


@serializable
@fill_docstring(head_arguments=HEAD_ARGUMENTS)
class MixtureLogistic(IndependentMixture):
    """A mixture of logistic distributions, for several answers to one input.

    ```
    density(y) = sum over k of softmax(logits)_k density_k(y)
    ```

    The first `num_components` inputs are the logits of the components, the others the parameters
    of one component after the other, as `IndependentLogistic` takes them: locations, then raw
    scales.

    References:
        Bishop (1994), "Mixture density networks".

    Args:
        num_components: Integer, the number of components.
        event_shape: Integer or integers, the shape of one draw. Defaults to `()`, a number.
        {head_arguments}

    Input shape:
        `(..., params_size(num_components, event_shape))`.

    Output shape:
        `(..., *event_shape)` for draws.

    Example:

    ```python
    import numpy as np
    import keras_extras

    layer = keras_extras.layers.MixtureLogistic(2)
    distribution = layer(np.array([[0.0, 0.0, -1.0, 0.0, 3.0, 0.0]]))
    distribution.mean()  # 1.0, between the components at -1 and 3
    ```
    """

    component = IndependentLogistic
