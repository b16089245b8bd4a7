"""BetaNegativeLogLikelihood: a likelihood that does not neglect what is hard to fit."""

from typing import Any

from keras import ops

from keras_extras._core.checks import check_number
from keras_extras._core.distribution_kinds import entries_of
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.losses.distribution_loss import ARGUMENTS, DistributionLoss, example


@serializable
@fill_docstring(arguments=ARGUMENTS, example=example("BetaNegativeLogLikelihood(beta=0.5)"))
class BetaNegativeLogLikelihood(DistributionLoss):
    """Negative log-likelihood, weighted by a power of the predicted variance.

    ```
    loss = stop_gradient(variance**beta) * -log density(y_true)
    ```

    for each entry of independent ones, summed over the event. The gradient of the likelihood with
    respect to the mean of a normal distribution is divided by its variance, so that a network may
    explain what it fits badly as noise, and then hardly learns it. The weight takes a part of that
    back: `beta=0` is the likelihood, with `beta=1` the mean has the gradient of the squared error.

    References:
        Seitzer, Tavakoli, Antic and Martius (2022), "On the pitfalls of heteroscedastic
        uncertainty estimation with probabilistic neural networks", equation 5,
        [arXiv:2203.09168](https://arxiv.org/abs/2203.09168).

    Args:
        beta: Float from 0 to 1. Defaults to `0.5`.
        name: String name of the loss. Defaults to `"beta_nll"`.
        {arguments}

    Raises:
        TypeError: If `beta` is not a number, or, in `call`, if the model's output is no
            distribution.
        ValueError: If `beta` is not from 0 to 1, or, in `call`, if the targets do not have the
            shape of a draw or entries of the distribution are not independent.

    {example}
    """

    def __init__(
        self,
        beta: float = 0.5,
        name: str = "beta_nll",
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        super().__init__(name, reduction, dtype)
        self.beta = check_number("beta", beta, at_least=0.0, at_most=1.0)

    def score(self, y_true: Any, distribution: Any) -> Any:
        """Returns the weighted score of each member of the batch."""
        entries, rank = entries_of(distribution), distribution.event_shape.rank
        if entries.event_shape.rank:
            raise ValueError(
                "BetaNegativeLogLikelihood needs a distribution of single numbers or of "
                f"independent entries. Received: {distribution}"
            )
        weight = ops.stop_gradient(entries.variance() ** self.beta)
        return ops.sum(-weight * entries.log_prob(y_true), axis=tuple(range(-rank, 0)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta": self.beta}
