"""IndependentGamma: gamma distributions of entries."""

from typing import Any

from keras import ops

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.probability import tfd
from keras_extras._core.registration import serializable
from keras_extras.layers.heads.independent_head import IndependentHead, sections


@serializable
@fill_docstring(sections=sections("IndependentGamma", "[[2.0, 2.0]]", "mean()  # 1.0"))
class IndependentGamma(IndependentHead):
    """Gamma distributions of entries, for positive numbers.

    ```
    density(y) = rate**concentration y**(concentration - 1) exp(-rate y) / Gamma(concentration)
    concentration = softplus(raw concentration) + 1e-6
    rate = softplus(raw rate) + 1e-6
    ```

    The first half of the inputs are the raw concentrations, the second half the raw rates. The
    mean is concentration / rate.

    {sections}
    """

    @staticmethod
    def entries(raw_concentration: Any, raw_rate: Any, validate_args: bool) -> Any:
        """Returns the distribution of the entries, of event shape `()`."""
        concentration, rate = (ops.softplus(p) + 1e-6 for p in (raw_concentration, raw_rate))
        return tfd.Gamma(concentration, rate, validate_args=validate_args)
