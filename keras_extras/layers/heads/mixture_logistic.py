"""MixtureLogistic: mixtures of independent logistic distributions."""

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.layers.heads.independent_logistic import IndependentLogistic
from keras_extras.layers.heads.independent_mixture import IndependentMixture, sections
from keras_extras.layers.heads.mixture_same_family import DENSITY


@serializable
@fill_docstring(
    density=DENSITY,
    sections=sections(
        "MixtureLogistic",
        "[[0.0, 0.0, -1.0, 0.0, 3.0, 0.0]]",
        "mean()  # 1.0, between the components at -1 and 3",
    ),
)
class MixtureLogistic(IndependentMixture):
    """A mixture of logistic distributions, for several answers to one input.

    {density}

    The first `num_components` inputs are the logits of the components, the others the parameters
    of one component after the other, as `IndependentLogistic` takes them: locations, then raw
    scales.

    {sections}
    """

    component = IndependentLogistic
