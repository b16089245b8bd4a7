"""IndependentBeta: beta distributions of entries."""

from typing import Any

from keras import ops

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.probability import tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.heads.independent_head import IndependentHead, sections


@serializable
@fill_docstring(sections=sections("IndependentBeta", "[[2.0, 2.0]]", "mean()  # 0.5"))
class IndependentBeta(IndependentHead):
    """Beta distributions of entries, for numbers between 0 and 1.

    ```
    density(y) ~ y**(concentration1 - 1) (1 - y)**(concentration0 - 1)
    concentration = softplus(raw concentration) + 1e-6
    ```

    The first half of the inputs are the raw `concentration1`, the second half the raw
    `concentration0`. The mean is concentration1 / (concentration1 + concentration0). Targets of
    exactly 0 or 1 have no finite density in general: move them inside.

    {sections}
    """

    @staticmethod
    def entries(raw_concentration1: Any, raw_concentration0: Any, validate_args: bool) -> Any:
        """Returns the distribution of the entries, of event shape `()`."""
        pair = (ops.softplus(p) + 1e-6 for p in (raw_concentration1, raw_concentration0))
        return tfd.Beta(*pair, validate_args=validate_args)
