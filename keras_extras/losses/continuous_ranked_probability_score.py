"""ContinuousRankedProbabilityScore: a score in the units of the targets."""

from typing import Any

from keras_extras._core.crps import DRAWS, SampledScore, has_closed_form
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.probability import tfd
from keras_extras._core.registration import serializable
from keras_extras.losses.distribution_loss import ARGUMENTS, DistributionLoss, example


@serializable
@fill_docstring(
    draws=DRAWS, arguments=ARGUMENTS, example=example("ContinuousRankedProbabilityScore()")
)
class ContinuousRankedProbabilityScore(SampledScore, DistributionLoss):
    """Continuous ranked probability score (CRPS) of the targets.

    ```
    loss = integral over x of (F(x) - [x >= y_true])**2
         = E |X - y_true| - 1/2 E |X - X'|
    ```

    with `F` the predicted distribution function and `X`, `X'` independent draws. It is the
    absolute error if the distribution is a single point, has the units of the targets, and is
    moved less by outliers than the likelihood. Of vectors it is the sum over their entries.

    Normal, Laplace and logistic distributions and mixtures of normal ones have closed forms, also
    as independent entries of a vector, as have the entries of multivariate normal distributions.
    Of others the expectations are estimated without bias from draws, which must be
    reparameterized to have a gradient.

    References:
        Matheson and Winkler (1976), "Scoring rules for continuous probability distributions";
        Gneiting and Raftery (2007), "Strictly proper scoring rules, prediction, and estimation",
        equations 20 and 21; Grimit, Gneiting, Berrocal and Johnson (2006), "The continuous ranked
        probability score for circular variables and its application to mesoscale forecast
        ensemble verification", for mixtures of normal distributions.

    Args:
        {draws}
        name: String name of the loss. Defaults to `"crps"`.
        {arguments}

    Raises:
        TypeError: In `call`, if the model's output is no distribution.
        ValueError: In `call`, if the targets do not have the shape of a draw, or the distribution
            has neither a closed form nor reparameterized draws.

    {example}
    """

    def __init__(
        self,
        num_samples: int = 100,
        seed: int | None = None,
        name: str = "crps",
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        super().__init__(name, reduction, dtype)
        self.set_draws(num_samples, seed)

    def score(self, y_true: Any, distribution: Any) -> Any:
        reparameterized = distribution.reparameterization_type == tfd.FULLY_REPARAMETERIZED
        if not (reparameterized or has_closed_form(distribution)):
            raise ValueError(
                f"ContinuousRankedProbabilityScore has no gradient for {distribution}: it has "
                "neither a closed form nor reparameterized draws. Train with "
                "`keras_extras.losses.NegativeLogLikelihood`, and use this score as a metric, "
                "`keras_extras.metrics.ContinuousRankedProbabilityScore`."
            )
        return super().score(y_true, distribution)
