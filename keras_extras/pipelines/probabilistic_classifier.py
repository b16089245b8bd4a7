"""ProbabilisticClassifier: classification that says how sure it is, for scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_extras._core.docstrings import fill_docstring
from keras_extras._seams.sample_weights import check_sample_weight
from keras_extras.pipelines.calibration import (
    leave_one_out,
    own_fold,
    surprise_of_classes,
    temperature,
)
from keras_extras.pipelines.estimator_arguments import NETWORK, TRAINING
from keras_extras.pipelines.probabilistic_estimator import (
    ProbabilisticEstimator,
    class_weights,
    multiclass,
    sklearn_base,
    validation,
)
from keras_extras.pipelines.table_rows import combine_rows


@fill_docstring(network_arguments=NETWORK, training_arguments=TRAINING)
class ProbabilisticClassifier(sklearn_base.ClassifierMixin, ProbabilisticEstimator):
    """A neural network with uncertain weights that predicts probabilities of classes.

    It is an estimator of scikit-learn: `fit`, `predict`, `predict_proba`, `score` (accuracy),
    `clone`, pipelines, grid searches and pickling are as there. Inputs are standardized inside.
    Probabilities are averaged over draws of the weights. Fits of equal arguments and numbers of
    columns share one compiled network.

    References:
        As of `ProbabilisticRegressor`.

    Args:
        {network_arguments}
        {training_arguments}
        class_weight: Dict from labels to weights, `"balanced"`, or `None`, as in scikit-learn:
            multiplied with `sample_weight`. Defaults to `None`.

    Attributes:
        classes_: The labels, sorted.
        weights_: The draws of the weights, arrays of shape `(draws, *shape)`, those of the first
            fold first; of random layers their variational parameters.
        n_features_in_: The number of columns of `X`.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: In `fit`, if an argument is out of range, or `X` and `y` do not fit.

    Example:

    ```python
    import numpy as np
    from keras_extras.pipelines import ProbabilisticClassifier

    x = np.random.default_rng(0).normal(size=(64, 2))
    y = np.where(x[:, 0] > 0.0, "right", "left")
    classifier = ProbabilisticClassifier(num_members=3, epochs=5, random_state=0).fit(x, y)
    classifier.predict_proba(x)  # shape (64, 2), in the order of classifier.classes_
    classifier.predict_distribution(x).mutual_information()  # what the weights leave open
    ```
    """

    def __init__(
        self,
        method: str = "ensemble",
        hidden_units: Sequence[int] = (50,),
        activation: str = "relu",
        epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 0.01,
        prior_stddev: float = 1.0,
        dropout_rate: float = 0.05,
        num_members: int = 5,
        num_samples: int = 200,
        num_burnin_steps: int = 200,
        verbose: int = 0,
        random_state: Any = None,
        class_weight: Any = None,
    ):
        self.method = method
        self.hidden_units = hidden_units
        self.activation = activation
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.prior_stddev = prior_stddev
        self.dropout_rate = dropout_rate
        self.num_members = num_members
        self.num_samples = num_samples
        self.num_burnin_steps = num_burnin_steps
        self.verbose = verbose
        self.random_state = random_state
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "ProbabilisticClassifier":
        """Trains the network.

        Args:
            X: Array of shape `(n, features)`.
            y: Array of shape `(n,)`, labels of any kind.
            sample_weight: Array of shape `(n,)`, how often each row counts; whole numbers with
                `"laplace"` and `"nuts"`. Defaults to `None`, once.
        """
        x, y = validation.validate_data(self, X, y, dtype="float64")
        multiclass.check_classification_targets(y)
        weights = check_sample_weight(sample_weight, x)
        if self.class_weight is not None:
            weights *= class_weights.compute_sample_weight(self.class_weight, y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "`y` must have at least two classes. "
                f"Received: only one class, {self.classes_[0]!r}"
            )
        x, labels, weights = combine_rows(x, labels, weights)
        self._temperature = 1.0
        self._fit_network(x, np.eye(len(self.classes_))[labels], weights)
        return self

    def _calibrate(self, rows, folds, held_out, fold_of_row, parameters):
        """Finds the temperature of the logits."""
        weights = held_out.weights.astype("float64")
        if self.method != "mclmc":
            self._temperature = temperature(own_fold(parameters, fold_of_row), held_out.y, weights)
            return
        logits = np.concatenate(parameters)
        surprise = surprise_of_classes(logits, held_out.y).T
        times = held_out.counts() * weights
        chances = leave_one_out(surprise, np.zeros(surprise.shape, bool), times)
        self._temperature = temperature(logits, held_out.y, weights, chances)

    def _calibrated(self, parameters, x):
        return self._predictive(parameters / self._temperature)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Returns the probabilities of the classes, of shape `(n, classes)`.

        Args:
            X: Array of shape `(n, features)`.
        """
        probabilities = np.asarray(self.predict_distribution(X).mean(), "float64")
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """Returns the most probable class of each row.

        Args:
            X: Array of shape `(n, features)`.
        """
        most_probable = np.argmax(self.predict_proba(X), axis=1)
        return self.classes_[most_probable]

    def _in_units_of_targets(self, prediction):
        return prediction
