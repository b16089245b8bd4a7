"""Numbers that must not depend on the backend: those of this process, from given inputs."""

import sys
from unittest import mock

import keras
import numpy as np
from keras import layers, ops

from keras_extras import losses, metrics
from keras_extras._seams.low_rank_kernels import RankOne
from keras_extras.layers import EinsteinLatent, MissingValueImputer, ScaleShift
from keras_extras.optimizers import (
    CMAES,
    LBFGS,
    SPSA,
    HypergradientAdam,
    HypergradientSGD,
    LevenbergMarquardt,
    MonteCarloOptimizer,
    NewtonCG,
    SSBroyden,
)
from keras_extras.optimizers.population import evaluate_population

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 4)).astype("float32")
Y = np.tanh(X @ RNG.normal(size=(4, 1)) + 0.5).astype("float32")
WEIGHTS = [RNG.normal(size=s).astype("float32") / 2 for s in ((4, 3), (3,), (3, 1), (1,))]
CANDIDATES = [RNG.normal(size=(8, *w.shape)).astype("float32") for w in WEIGHTS]
LEFT = [RNG.choice([-1.0, 1.0], (8, *w.shape[:-1], 1)).astype("float32") for w in WEIGHTS]
RIGHT = [RNG.choice([-1.0, 1.0], (8, 1, w.shape[-1])).astype("float32") for w in WEIGHTS]
NORMALS = RNG.normal(size=(10, 19)).astype("float32")
LABELS = (RNG.uniform(size=(48, 1)) < 0.4).astype("float32")
SCORES = np.clip(0.3 * LABELS + 0.6 * RNG.uniform(size=(48, 1)), 0.01, 0.99).astype("float32")


class GivenDirections:
    """Lets a search have these directions."""

    def _directions(self, count):
        def entry(index, start, number):
            here = slice(start, start + number)
            if self.noise == "low_rank" and WEIGHTS[index].ndim > 1:
                return RankOne(*map(ops.convert_to_tensor, (LEFT[index][here], RIGHT[index][here])))
            return ops.convert_to_tensor(CANDIDATES[index][here])

        return lambda start, number: [entry(i, 0, number) for i in range(len(WEIGHTS))]


class Given(GivenDirections, MonteCarloOptimizer):
    """Searches along given directions."""


class GivenPair(GivenDirections, SPSA):
    """Searches along the first of given directions."""


def network(optimizer=None):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, "tanh", kernel_regularizer=keras.regularizers.L2(0.01)),
            layers.Dense(1),
        ]
    )
    model.set_weights(WEIGHTS)
    if optimizer is not None:
        model.compile(optimizer, "mse", metrics=["mae"])
    return model


def trained(optimizer, steps=3):
    """Weights and logs of a few steps of `fit`."""
    model = network(optimizer)
    history = model.fit(X, Y, batch_size=16, epochs=steps, shuffle=False, verbose=0).history
    logs = [np.array(history[name]) for name in sorted(history)]
    return [*model.get_weights(), *logs]


def population():
    model = network()

    def loss_of(weights):
        y_pred, _ = model.stateless_call(weights, [], X)
        return ops.mean((y_pred - Y) ** 2)

    candidates = [ops.convert_to_tensor(c) for c in CANDIDATES]
    return [evaluate_population(loss_of, candidates, chunk) for chunk in (None, 3)]


def given_normals(shape, *args, dtype="float32", **kwargs):
    return ops.cast(ops.convert_to_tensor(NORMALS[: shape[0], : shape[1]]), dtype)


def cma_es():
    """One step, and no axes: those of equal length are any that span the same space."""
    model = network(CMAES(population_size=10, generations_per_batch=1, seed=0))
    with mock.patch("keras.random.normal", given_normals):
        model.train_on_batch(X, Y)
    states = [v.numpy() for v in model.optimizer.variables if v.name != "basis"]
    return [*model.get_weights(), *states]


def convex(optimizer):
    """Weights and logs of logistic regression, where rounding does not decide on the way."""
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(1, kernel_regularizer=keras.regularizers.L2(0.01))]
    )
    model.set_weights([WEIGHTS[0][:, :1], WEIGHTS[1][:1]])
    model.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True))
    history = model.fit(X, LABELS, batch_size=48, epochs=2, shuffle=False, verbose=0).history
    return [*model.get_weights(), np.array(history["loss"])]


def forms():
    outputs = []
    for form in ("field_equation", "linear", "log", "inverse", "diagonal", "tensor"):
        layer = EinsteinLatent(6, form=form, epsilon=1e-2)
        layer.build((None, 4))
        for index, weight in enumerate(layer.weights):
            values = np.random.default_rng(index).uniform(0.5, 1.5, weight.shape)
            weight.assign(values.astype("float32"))
        outputs.append(layer(X))
    shifted = ScaleShift()
    imputer = MissingValueImputer(strategy="mean", add_indicator=True)
    gaps = np.where(X > 1.0, -999.0, X)
    imputer.adapt(gaps)
    return [*outputs, shifted(X), imputer(gaps)]


def scores():
    of_losses = [
        loss(LABELS, SCORES)
        for loss in (
            losses.AUCLoss(),
            losses.F1Loss(),
            losses.FBetaLoss(beta=2.0),
            losses.ZeroOneLoss(),
            losses.ApproximateMedianSignificanceLoss(signal_total=40.0, background_total=400.0),
        )
    ]
    of_metrics = [metrics.ExpectedCalibrationError(), metrics.ApproximateMedianSignificance()]
    for metric in of_metrics:
        metric.update_state(LABELS, SCORES)
    return [*of_losses, *(metric.result() for metric in of_metrics)]


NUMBERS = {
    "population": population,
    "monte_carlo": lambda: trained(Given(0.05, 16, sigma=0.05)),
    "monte_carlo kept best": lambda: trained(Given(0.05, 16, keep="best", curvature=None)),
    "low rank": lambda: trained(Given(0.05, 16, noise="low_rank", keep="current", curvature=None)),
    "one pair": lambda: trained(GivenPair(0.05, sigma=0.1)),
    "cma_es": cma_es,
    "lbfgs": lambda: trained(LBFGS(iterations_per_batch=3)),
    "ss_broyden": lambda: trained(SSBroyden(iterations_per_batch=3)),
    "levenberg_marquardt": lambda: trained(
        # Well-conditioned equations: single precision decides on the others' last digits.
        LevenbergMarquardt(initial_damping=10.0, iterations_per_batch=1)
    ),
    "newton_cg": lambda: convex(NewtonCG(iterations_per_batch=2)),
    "newton_cg by products": lambda: convex(NewtonCG(hessian="products", iterations_per_batch=2)),
    "hypergradient_sgd": lambda: trained(HypergradientSGD(0.01, 0.9)),
    "hypergradient_adam": lambda: trained(HypergradientAdam(0.01, rule="multiplicative")),
    "layers": forms,
    "losses and metrics": scores,
}


def numbers():
    """Returns a dict from names to arrays."""
    return {
        f"{name} {index}": ops.convert_to_numpy(value)
        for name, compute in NUMBERS.items()
        for index, value in enumerate(compute())
    }


if __name__ == "__main__":
    np.savez(sys.argv[1], **numbers())
