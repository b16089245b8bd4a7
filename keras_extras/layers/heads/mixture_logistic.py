"""MixtureLogistic: mixtures of independent logistic distributions."""

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.layers.heads.independent_logistic import IndependentLogistic
from keras_extras.layers.heads.independent_mixture import SECTIONS, IndependentMixture
from keras_extras.layers.heads.mixture_same_family import DENSITY


@serializable
@fill_docstring(density=DENSITY, sections=SECTIONS)
class MixtureLogistic(IndependentMixture):
    """A mixture of logistic distributions, for several answers to one input.

    {density}

    The first `num_components` inputs are the logits of the components, the others the parameters
    of one component after the other, as `IndependentLogistic` takes them: locations, then raw
    scales.

    {sections}

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
