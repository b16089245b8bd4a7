"""IndependentPoisson: Poisson distributions of entries."""

from typing import Any

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras._seams.poisson_draws import poisson
from keras_extras.layers.heads.head import finite_logarithm
from keras_extras.layers.heads.independent_head import IndependentHead, sections


@serializable
@fill_docstring(sections=sections("IndependentPoisson", "[[0.0]]", "mean()  # 1.0"))
class IndependentPoisson(IndependentHead):
    """Poisson distributions of entries, for counts.

    ```
    P(y) = rate**y exp(-rate) / y!
    rate = exp(log rate), above exp(20) a straight line
    ```

    The inputs are the logarithms of the rates.

    {sections}
    """

    params_per_entry = 1

    @staticmethod
    def entries(log_rate: Any, validate_args: bool) -> Any:
        """Returns the distribution of the entries, of event shape `()`."""
        return poisson()(log_rate=finite_logarithm(log_rate), validate_args=validate_args)
