"""IndependentLogistic: logistic distributions of entries."""

from typing import Any

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.probability import tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.heads.head import positive_scale
from keras_extras.layers.heads.independent_head import IndependentHead, sections


@serializable
@fill_docstring(sections=sections("IndependentLogistic", "[[1.0, 0.0]]", "mean()  # 1.0"))
class IndependentLogistic(IndependentHead):
    """Logistic distributions of entries, with a location and a scale each.

    ```
    density(y) = exp(-z) / (scale (1 + exp(-z))**2), z = (y - loc) / scale
    scale = max(softplus(raw scale), 1e-5)
    ```

    The first half of the inputs are the locations, the second half the raw scales. Its tails are
    heavier than those of the normal distribution.

    {sections}
    """

    @staticmethod
    def entries(loc: Any, raw_scale: Any, validate_args: bool) -> Any:
        """Returns the distribution of the entries, of event shape `()`."""
        return tfd.Logistic(loc, positive_scale(raw_scale), validate_args=validate_args)
