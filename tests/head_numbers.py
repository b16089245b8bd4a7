"""Log-probabilities of all heads and their gradients, from given parameters, on one backend."""

import sys

import numpy as np
from keras import ops

from keras_extras import layers
from keras_extras._core.compiled import compiled
from keras_extras._core.differentiation import value_and_gradients

RNG = np.random.default_rng(0)
ROWS = 6
REAL = RNG.normal(size=(ROWS, 2))
COUNTS = RNG.integers(0, 5, size=(ROWS, 2))
LABELS = RNG.integers(0, 3, size=ROWS)
HEADS = {
    "Categorical": (layers.Categorical(3), LABELS),
    "CategoricalMixtureOfOneHotCategorical": (
        layers.CategoricalMixtureOfOneHotCategorical(3, 2),
        np.eye(3)[LABELS],
    ),
    "IndependentBernoulli": (layers.IndependentBernoulli(2), COUNTS % 2),
    "IndependentBeta": (layers.IndependentBeta(2), RNG.uniform(0.05, 0.95, size=(ROWS, 2))),
    "IndependentGamma": (layers.IndependentGamma(2), np.exp(REAL)),
    "IndependentLaplace": (layers.IndependentLaplace(2), REAL),
    "IndependentLogistic": (layers.IndependentLogistic(2), REAL),
    "IndependentNegativeBinomial": (layers.IndependentNegativeBinomial(2), COUNTS),
    "IndependentNormal": (layers.IndependentNormal(2), REAL),
    "IndependentPoisson": (layers.IndependentPoisson(2), COUNTS),
    "IndependentStudentT": (layers.IndependentStudentT(2), REAL),
    "MixtureLogistic": (layers.MixtureLogistic(2, 2), REAL),
    "MixtureNormal": (layers.MixtureNormal(2, 2), REAL),
    "MultivariateNormalDiag": (layers.MultivariateNormalDiag(2), REAL),
    "MultivariateNormalTriL": (layers.MultivariateNormalTriL(2), REAL),
    "OneHotCategorical": (layers.OneHotCategorical(3), np.eye(3)[LABELS]),
    "ZeroInflated": (layers.ZeroInflated(layers.IndependentPoisson(2)), COUNTS),
}


def numbers() -> dict[str, np.ndarray]:
    """Returns the log-probability of each row and its gradient by the parameters, by names."""
    found = {}
    for name, (head, targets) in HEADS.items():
        size = head.num_params or 2 * (1 + 2 * 2)
        t = np.random.default_rng(len(name)).normal(size=(ROWS, size)).astype("float32")

        y = targets.astype("float32")

        def log_prob(values, head=head, y=y):
            return head(values[0]).log_prob(y)

        compute = compiled(lambda t, log_prob=log_prob: value_and_gradients(log_prob, [t]))
        values, (gradient,) = compute(ops.convert_to_tensor(t))
        found[name] = ops.convert_to_numpy(values)
        found[f"gradient of {name}"] = ops.convert_to_numpy(gradient)
    return found


if __name__ == "__main__":
    np.savez(sys.argv[1], **numbers())
