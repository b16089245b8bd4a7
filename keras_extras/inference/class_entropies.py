"""ClassEntropies: how much of the uncertainty about a class is about the weights."""

from typing import Any

import keras
from keras import ops

from keras_extras._core.distribution_kinds import entries_of, is_a
from keras_extras._core.probability import tfd


class ClassEntropies:
    """The entropies of a `PosteriorPredictive` of classes."""

    components_distribution: Any
    # Whether outputs without a likelihood come from a sigmoid.
    _is_sigmoid: bool = False

    def predictive_entropy(self) -> Any:
        """The entropy of the mean over draws, in nats: the whole uncertainty about the class.

        `epistemic_entropy` and `aleatoric_entropy` add up to it.

        Returns:
            Tensor with a number for each row, or for each label of a row.

        Raises:
            TypeError: If the model does not predict classes.
        """
        kind, probabilities = self._class_probabilities_of_draws("predictive_entropy")
        return _entropy_of(kind, ops.mean(probabilities, axis=1))

    def aleatoric_entropy(self) -> Any:
        """The mean over draws of the entropy of each, in nats: the doubt that weights leave.

        Returns:
            Tensor with a number for each row, or for each label of a row.

        Raises:
            TypeError: If the model does not predict classes.
        """
        kind, probabilities = self._class_probabilities_of_draws("aleatoric_entropy")
        return ops.mean(_entropy_of(kind, probabilities), axis=1)

    def epistemic_entropy(self) -> Any:
        """Mutual information of class and weights, in nats: the epistemic uncertainty.

        ```
        H(mean over s of p_s) - mean over s of H(p_s)
        ```

        It is 0 where all draws predict the same. Outputs of a model without a layer of
        distributions are probabilities of classes if they sum to 1 along the last axis, as those of
        softmax do, and of single labels if the last layer has the activation `"sigmoid"`.

        Houlsby et al. (2011), "Bayesian active learning for classification",
        [arXiv:1112.5745](https://arxiv.org/abs/1112.5745), equation 2.

        Returns:
            Tensor with a number for each row, or for each label of a row.

        Raises:
            TypeError: If the model does not predict classes.
        """
        kind, probabilities = self._class_probabilities_of_draws("epistemic_entropy")
        of_mean = _entropy_of(kind, ops.mean(probabilities, axis=1))
        mean = ops.mean(_entropy_of(kind, probabilities), axis=1)
        return ops.maximum(of_mean - mean, 0.0)  # Below 0 it is by rounding.

    def mutual_information(self) -> Any:
        """The same as `epistemic_entropy`."""
        return self.epistemic_entropy()

    def class_probabilities(self) -> Any:
        """The mean over draws of the probabilities of classes.

        Returns:
            Tensor of shape `(n, ..., classes)`; of binary labels of shape `(n, ...)`, the
            probability of 1.

        Raises:
            TypeError: If the model does not predict classes.
        """
        _, probabilities = self._class_probabilities_of_draws("class_probabilities")
        return ops.mean(probabilities, axis=1)

    def _class_probabilities_of_draws(self, method):
        """The kind of labels, and probabilities of shape `(n, draws, ...)`."""
        entries = unreshaped(self.components_distribution)
        if is_point(self.components_distribution):
            points = self.components_distribution.mean()
            return self._kind_of_points(points, method), points
        if isinstance(entries, tfd.Bernoulli):
            kind = tfd.Bernoulli
        elif isinstance(entries, tfd.Categorical | tfd.OneHotCategorical):
            kind = tfd.Categorical
        else:
            raise TypeError(
                f"`{method}` needs a model of classes, with a layer such as "
                f"`IndependentBernoulli` or `OneHotCategorical`. Received: {entries}"
            )
        probabilities = entries.probs_parameter()
        if is_a(entries_of(self.components_distribution), tfd.BatchReshape):
            # One axis holds rows and draws.
            rows_and_draws = self.components_distribution.batch_shape
            probabilities = ops.reshape(probabilities, (*rows_and_draws, *probabilities.shape[1:]))
        return kind, probabilities

    def _kind_of_points(self, points, method):
        """The kind of labels that outputs without a likelihood are probabilities of."""
        tolerance = 1e-3 if _is_wide(points) else 0.05
        if self._is_sigmoid:
            return tfd.Bernoulli
        if len(points.shape) > 2 and points.shape[-1] > 1:
            sums = ops.sum(points, axis=-1)
            if ops.all(points >= 0.0) and ops.all(ops.abs(sums - 1.0) < tolerance):
                return tfd.Categorical
        raise TypeError(
            f"`{method}` needs a model of classes: outputs that are probabilities, as of "
            "`softmax`, a last layer such as `OneHotCategorical`, or the argument `likelihood` of "
            "`predict_distribution`, such as `lambda logits: tfd.Categorical(logits=logits)`. "
            "Received: outputs that are other numbers"
        )


def _entropy_of(kind, probabilities):
    """The entropy of each label, at least in single precision."""
    probabilities = probabilities if _is_wide(probabilities) else ops.cast(probabilities, "float32")
    return kind(probs=probabilities).entropy()


def _is_wide(values):
    return keras.backend.standardize_dtype(values.dtype) in ("float32", "float64")


def unreshaped(distribution: Any) -> Any:
    """Returns the entries of a distribution, below any change of its batch axes."""
    entries = entries_of(distribution)
    while is_a(entries, tfd.BatchReshape):
        entries = entries_of(entries.distribution)
    return entries


def is_point(distribution: Any) -> bool:
    """Returns whether the components have no density, as of outputs without a likelihood."""
    return isinstance(entries_of(distribution), tfd.Deterministic)
