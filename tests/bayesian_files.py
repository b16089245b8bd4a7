"""Models with Bayesian weights and divergences: their files and numbers, of any backend.

As a program it writes files to a folder, and the numbers of this process beside them.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops
from probability import tfd

from keras_extras import layers

X = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
Y = np.tanh(X[:, :2])


@keras.saving.register_keras_serializable("bayesian_files")
def mean_of(distribution):
    return distribution.mean()


@keras.saving.register_keras_serializable("bayesian_files")
def posterior(kernel_size, bias_size, dtype=None):
    size = kernel_size + bias_size
    return keras.Sequential(
        [layers.VariableLayer(2 * size, dtype=dtype), layers.IndependentNormal(size, "mean")]
    )


def _dense(layer, **arguments):
    return layer(
        4, "tanh", kernel_posterior_tensor_fn=mean_of, bias_posterior_tensor_fn=mean_of, **arguments
    )


def _with_head(*hidden):
    divergence = layers.KLDivergenceAddLoss(
        tfd.MultivariateNormalDiag([0.0, 1.0], [1.0, 2.0]), use_exact_kl=True, weight=0.5
    )
    head = layers.MultivariateNormalTriL(2, "mean")
    return keras.Sequential([keras.Input((3,)), *hidden, keras.layers.Dense(5), head, divergence])


MODELS = {
    "mean field": lambda: _with_head(
        _dense(layers.DenseReparameterization, posterior="mean_field", prior="trainable")
    ),
    "all covariances": lambda: _with_head(
        _dense(
            layers.DenseReparameterization,
            kernel_posterior_fn="multivariate_normal",
            kernel_prior_fn=tfd.Normal(0.5, 2.0),
            kl_weight=0.1,
        )
    ),
    "local reparameterization": lambda: _with_head(
        _dense(layers.DenseLocalReparameterization, kl_weight=0.1)
    ),
    "posterior by a model": lambda: _with_head(
        layers.DenseVariational(4, posterior, kl_use_exact=True, activation="tanh")
    ),
    "flow": lambda: keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4),
            layers.MultivariateNormalDiag(2),
            layers.AutoregressiveTransform(layers.AutoregressiveNetwork(2, hidden_units=[8])),
        ]
    ),
    "Gaussian process": lambda: keras.Sequential(
        [
            keras.Input((3,)),
            layers.VariationalGaussianProcess(
                4, layers.ExponentiatedQuadraticKernel(), (2,), jitter=1e-3
            ),
        ]
    ),
}


def started(name):
    """The model, with weights that do not depend on the backend's random numbers."""
    model = MODELS[name]()
    generator = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(0.3 * generator.normal(size=variable.shape).astype("float32"))
    return model


def numbers(model):
    """Densities and losses of a model that draws nothing."""
    distribution = model(X)
    is_process = hasattr(distribution, "variational_loss")
    densities = distribution.variational_loss(Y) if is_process else distribution.log_prob(Y)
    losses = np.array([float(loss) for loss in model.losses])
    return np.concatenate([np.ravel(ops.convert_to_numpy(densities)), losses])


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for index, name in enumerate(MODELS):
        model = started(name)
        np.save(folder / f"{index}.npy", numbers(model))
        model.save(folder / f"{index}.keras")
