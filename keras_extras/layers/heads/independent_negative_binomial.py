"""IndependentNegativeBinomial: negative binomial distributions of entries."""

import functools
from typing import Any

from keras import ops

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.probability import tfd, tfp
from keras_extras._core.registration import serializable
from keras_extras._seams.poisson_draws import poisson
from keras_extras.layers.heads.head import finite_logarithm
from keras_extras.layers.heads.independent_head import IndependentHead, sections


@serializable
@fill_docstring(sections=sections("IndependentNegativeBinomial", "[[0.0, 0.0]]", "mean()  # 1.0"))
class IndependentNegativeBinomial(IndependentHead):
    """Negative binomial distributions of entries, for counts that vary more than Poisson's.

    ```
    P(y) = Gamma(y + r) / (Gamma(r) y!) (mean / (mean + r))**y (r / (mean + r))**r
    mean = exp(log mean), above exp(20) a straight line
    r = softplus(raw r) + 1e-6
    ```

    The first half of the inputs are the logarithms of the means, the second half the raw `r`,
    which the variance depends on: mean + mean**2 / r. Mean and variance so have parameters of
    their own, which trains better than the success probabilities of the textbook form.

    {sections}
    """

    @staticmethod
    def entries(log_mean: Any, raw_total_count: Any, validate_args: bool) -> Any:
        """Returns the distribution of the entries, of event shape `()`."""
        total_count = ops.softplus(raw_total_count) + 1e-6
        logits = finite_logarithm(log_mean) - ops.log(total_count)
        return _negative_binomial()(total_count, logits=logits, validate_args=validate_args)


@functools.cache
def _negative_binomial():
    class NegativeBinomial(tfd.NegativeBinomial):
        """Draws as a Poisson of a gamma: TFP's own draws do not compile under XLA."""

        def _sample_n(self, n, seed=None):
            gamma_seed, poisson_seed = tfp.random.split_seed(seed)
            gamma = tfd.Gamma(self.total_count, log_rate=-self.logits)
            log_rate = ops.log(gamma.sample(n, seed=gamma_seed))
            return poisson()(log_rate=log_rate).sample(seed=poisson_seed)

    return NegativeBinomial
