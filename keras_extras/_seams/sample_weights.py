"""Weights of rows, checked as scikit-learn's own estimators check them.

Called is `sklearn.utils.validation._check_sample_weight`. Its messages are those that
`check_estimator` of scikit-learn looks for, and it has no public name. Known to hold since
scikit-learn 1.6. A public name would make it unnecessary.
"""

from typing import Any

import numpy as np

from keras_extras._core.optional import import_optional

validation = import_optional("sklearn.utils.validation", "sklearn", "A probabilistic estimator")


def check_sample_weight(sample_weight: Any, x: np.ndarray) -> np.ndarray:
    """Returns weights as an array of float64, of ones where none are given.

    Args:
        sample_weight: Array of shape `(n,)`, a number, or `None`.
        x: Array of shape `(n, features)`.

    Raises:
        ValueError: If they are of another length, negative or not finite.
    """
    return validation._check_sample_weight(
        sample_weight, x, dtype="float64", ensure_non_negative=True
    )
