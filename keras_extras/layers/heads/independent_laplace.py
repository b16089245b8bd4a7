"""IndependentLaplace: Laplace distributions of entries."""

from typing import Any

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.probability import tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.heads.head import positive_scale
from keras_extras.layers.heads.independent_head import IndependentHead, sections


@serializable
@fill_docstring(
    sections=sections(
        "IndependentLaplace", "[[1.0, 0.0]]", "stddev()  # sqrt(2) softplus(0) = 0.980"
    )
)
class IndependentLaplace(IndependentHead):
    """Laplace distributions of entries, with a location and a scale each.

    ```
    density(y) = exp(-abs(y - loc) / scale) / (2 scale)
    scale = max(softplus(raw scale), 1e-5)
    ```

    The first half of the inputs are the locations, the second half the raw scales. Its likelihood
    fits the median, as the absolute error does.

    {sections}
    """

    @staticmethod
    def entries(loc: Any, raw_scale: Any, validate_args: bool) -> Any:
        """Returns the distribution of the entries, of event shape `()`."""
        return tfd.Laplace(loc, positive_scale(raw_scale), validate_args=validate_args)
