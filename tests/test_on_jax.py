"""What is JAX's own: which names need TensorFlow, steps compiled by hand, hypermodels."""

import keras
import keras_tuner
import numpy as np
import pytest
from keras import ops

from keras_extras import layers, losses, tuners
from keras_extras.optimizers import MonteCarloOptimizer

pytestmark = [
    pytest.mark.both_backends,
    pytest.mark.skipif(keras.backend.backend() != "jax", reason="is about JAX"),
]


def test_minimize_in_a_compiled_step_is_minimize_in_an_eager_one():
    import jax

    def loss_fn():
        return ops.sum((w - 3.0) ** 2)

    found = []
    for is_compiled in (False, True):
        w = keras.Variable([3.5, -2.0])
        optimizer = MonteCarloOptimizer(0.5, population_size=4, curvature=None, seed=1)
        optimizer.build([w])
        variables = [w, *optimizer.variables]

        def step(values, w=w, optimizer=optimizer, variables=variables):
            with keras.StatelessScope(list(zip(variables, values))) as scope:
                optimizer.minimize(loss_fn, [w])
            return [scope.get_current_value(v) for v in variables]

        if is_compiled:
            for v, value in zip(variables, jax.jit(step)([v.value for v in variables])):
                v.assign(value)
        else:
            optimizer.minimize(loss_fn, [w])
        found.append([v.numpy() for v in variables])
    for eager, compiled in zip(*found):
        np.testing.assert_allclose(compiled, eager, rtol=1e-5)


def test_an_error_in_the_first_step_leaves_the_model_its_weights():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(MonteCarloOptimizer(population_size=8), "mse")
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"[Ss]hape"):
        model.fit(np.ones((8, 4)), np.ones((8, 3, 5)), verbose=0)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def network(hp):
    units = hp.Choice("units", [2, 4])
    return keras.Sequential([keras.layers.Dense(units), keras.layers.Dense(1, "sigmoid")])


def imputer():
    layer = layers.MissingValueImputer()
    layer.adapt(np.ones((4, 6)))
    return layer


SMALL = {"batch_size": 48, "epochs": 1}
HYPER_MODELS = {
    "pipeline": lambda: tuners.AutoencoderClassifierHyperModel(
        6,
        seed=0,
        metrics=["accuracy"],
        space={"autoencoder_epochs": 1, "realizations": 1, "units": 4, "form": "tensor", **SMALL},
    ),
    "monte_carlo": lambda: tuners.MonteCarloHyperModel(
        network, losses.ZeroOneLoss(), space={"population_size": 8, "noise": "sign", **SMALL}
    ),
    "tabular": lambda: tuners.TabularHyperModel(
        6,
        metrics=["accuracy"],
        preprocessor=imputer(),
        space={"units": 4, "hidden_layers": 1, **SMALL},
    ),
}


@pytest.mark.parametrize("kind", HYPER_MODELS)
def test_hyper_models_are_searched(kind, tmp_path):
    x = np.random.default_rng(0).normal(size=(96, 6)).astype("float32")
    y = (x[:, :1] > 0.0).astype("float32")
    tuner = keras_tuner.RandomSearch(
        HYPER_MODELS[kind](),
        keras_tuner.Objective("val_loss", "min"),
        max_trials=1,
        directory=tmp_path,
    )
    tuner.search(x, y, validation_data=(x, y), verbose=0)
    (trial,) = tuner.oracle.get_best_trials()
    assert np.isfinite(trial.score)
