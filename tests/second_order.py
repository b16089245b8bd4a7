"""Problems that the tests of LBFGS and NewtonCG share."""

from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from keras import ops
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler


class Optimum(NamedTuple):
    """Where scikit-learn ended. It evaluated the loss at least once an iteration."""

    coefficients: np.ndarray
    loss: float
    evaluations: int


def cancer_optimum(solver: str) -> Optimum:
    """Scikit-learn's logistic regression with C = 1, to the tolerance that is ours by default."""
    x, y = _cancer()
    fitted = LogisticRegression(solver=solver, tol=1e-6, max_iter=1000).fit(x, y)
    kernel = fitted.coef_.T
    return Optimum(
        fitted.coef_[0], exact_cancer_loss(kernel, fitted.intercept_), fitted.n_iter_[0] + 1
    )


def exact_cancer_loss(kernel: Any, bias: Any) -> float:
    """The penalized loss, in double precision."""
    x, y = _cancer()
    kernel = np.asarray(kernel, "float64")
    logits = (x @ kernel + np.asarray(bias, "float64"))[:, 0]
    return np.mean(np.logaddexp(0.0, logits) - y * logits) + 0.5 / len(x) * np.sum(kernel**2)


def cancer_model(optimizer: Any) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """The same regression in Keras, from weights of zero, and its data."""
    x, y = _cancer()
    penalty = keras.regularizers.L2(0.5 / len(x))
    dense = keras.layers.Dense(1, kernel_initializer="zeros", kernel_regularizer=penalty)
    model = keras.Sequential([keras.Input((x.shape[1],)), dense])
    model.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True))
    return model, x.astype("float32"), y.astype("float32")


def assert_at_optimum(model: keras.Model, optimum: Optimum) -> None:
    """The optimizer says so, the weights are those of scikit-learn, after as many evaluations."""
    kernel, bias = model.get_weights()
    assert model.optimizer.converged
    assert exact_cancer_loss(kernel, bias) == pytest.approx(optimum.loss, rel=1e-6)
    np.testing.assert_allclose(kernel[:, 0], optimum.coefficients, atol=1e-3)
    assert model.optimizer.evaluations <= 1.5 * optimum.evaluations


def rosenbrock(w: Any) -> Any:
    """The banana valley; its minimum of 0 is at (1, 1)."""
    return 100.0 * ops.square(w[1] - w[0] ** 2) + ops.square(1.0 - w[0])


def _cancer():
    x, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(x), y
