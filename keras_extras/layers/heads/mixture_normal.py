"""MixtureNormal: mixtures of independent normal distributions."""

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.layers.heads.independent_mixture import IndependentMixture, sections
from keras_extras.layers.heads.independent_normal import IndependentNormal
from keras_extras.layers.heads.mixture_same_family import DENSITY


@serializable
@fill_docstring(
    density=DENSITY,
    sections=sections(
        "MixtureNormal",
        "[[0.0, 0.0, -1.0, 0.0, 3.0, 0.0]]",
        "mean()  # 1.0, between the components at -1 and 3",
    ),
)
class MixtureNormal(IndependentMixture):
    """A mixture of normal distributions, for several answers to one input.

    {density}

    The first `num_components` inputs are the logits of the components, the others the parameters
    of one component after the other, as `IndependentNormal` takes them: locations, then raw scales.

    {sections}
    """

    component = IndependentNormal
