"""NegativeLogLikelihood: the logarithmic score of a predicted distribution."""

from typing import Any

from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras.losses.distribution_loss import ARGUMENTS, DistributionLoss, example


@serializable
@fill_docstring(arguments=ARGUMENTS, example=example("NegativeLogLikelihood()"))
class NegativeLogLikelihood(DistributionLoss):
    """Negative logarithm of the density, or probability, of the targets.

    ```
    loss = -log density(y_true)
    ```

    for models whose output is a distribution, such as those that end in `IndependentNormal`. It is
    the same as `loss=lambda y, rv_y: -rv_y.log_prob(y)`, but is saved with the model and loads in
    safe mode, and errors name what does not fit. Of distributions over vectors it is the joint
    density, the sum over independent entries.

    Args:
        name: String name of the loss. Defaults to `"nll"`.
        {arguments}

    Raises:
        TypeError: In `call`, if the model's output is no distribution.
        ValueError: In `call`, if the targets do not have the shape of a draw.

    {example}
    """

    def __init__(
        self,
        name: str = "nll",
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        super().__init__(name, reduction, dtype)

    def score(self, y_true: Any, distribution: Any) -> Any:
        """Returns the negative log-likelihood of each member of the batch."""
        return -distribution.log_prob(y_true)
