"""Hypermodels: each in each search of keras-tuner, and what their spaces can be changed to."""

import keras
import keras_tuner
import numpy as np
import pytest
from keras_tuner.engine.hyperparameters import Float, Int
from tiers import quick

import keras_extras
from keras_extras import metrics, tuners

_GENERATOR = np.random.default_rng(0)
X = _GENERATOR.normal(size=(96, 6)).astype("float32")
LABELS = (X[:, 0] + 0.3 * _GENERATOR.normal(size=96) > 0.0).astype("float32")[:, None]
NUMBERS = np.sin(X[:, :1]) + 0.1 * _GENERATOR.normal(size=(96, 1)).astype("float32")

SMALL = {"batch_size": 32, "epochs": 1}


def pipeline(**space):
    space = {"autoencoder_epochs": 1, "realizations": 1, "units": [4, 8], **SMALL, **space}
    return tuners.AutoencoderClassifierHyperModel(
        6, metrics=[metrics.ApproximateMedianSignificance(name="ams")], seed=0, space=space
    )


def bayesian(**space):
    return tuners.BayesianHyperModel(6, 72, space={"units": [4, 8], **SMALL, **space})


def mixture(**space):
    return tuners.MixtureDensityHyperModel(6, space={"units": [4, 8], **SMALL, **space})


def network(hp):
    units = hp.Choice("units", [2, 4])
    return keras.Sequential([keras.layers.Dense(units), keras.layers.Dense(1, "sigmoid")])


def monte_carlo(**space):
    return tuners.MonteCarloHyperModel(
        network, keras_extras.losses.ZeroOneLoss(), space={"population_size": 32, **SMALL, **space}
    )


def tabular(**space):
    return tuners.TabularHyperModel(
        6, metrics=["accuracy"], space={"units": [4, 8], "hidden_layers": 1, **SMALL, **space}
    )


HYPER_MODELS = {
    "pipeline": (pipeline(form=["tensor", "dense"]), ("val_ams", "max"), LABELS),
    "bayesian": (bayesian(weights=["flipout", "mc_dropout"]), ("val_nll", "min"), NUMBERS),
    "mixture": (mixture(num_components=2), ("val_loss", "min"), NUMBERS),
    "monte_carlo": (monte_carlo(noise="orthogonal"), ("val_loss", "min"), LABELS),
    "tabular": (tabular(dropout=0.1), ("val_accuracy", "max"), LABELS),
}
TUNERS = {
    "random": lambda *a, **k: keras_tuner.RandomSearch(*a, max_trials=2, **k),
    "grid": lambda *a, **k: keras_tuner.GridSearch(*a, max_trials=2, **k),
    "bayesian": lambda *a, **k: keras_tuner.BayesianOptimization(
        *a, max_trials=3, num_initial_points=2, **k
    ),
    "hyperband": lambda *a, **k: keras_tuner.Hyperband(*a, max_epochs=2, factor=2, **k),
}


# keras-tuner loads weights into models whose optimizer has not seen them.
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
@pytest.mark.filterwarnings("ignore:The optimal value found for dimension")
@pytest.mark.parametrize("search", quick(TUNERS, "random"))
@pytest.mark.parametrize("name", HYPER_MODELS)
def test_a_search_finds_a_model_that_saves_and_loads(tmp_path, name, search):
    hypermodel, (metric, direction), y = HYPER_MODELS[name]
    objective = keras_tuner.Objective(metric, direction)
    tuner = TUNERS[search](hypermodel, objective, seed=1, directory=tmp_path, project_name="search")
    tuner.search(X[:72], y[:72], validation_data=(X[72:], y[72:]), verbose=0)

    trials = tuner.oracle.trials.values()
    assert len(trials) >= 2
    assert all(trial.status == "COMPLETED" and np.isfinite(trial.score) for trial in trials)
    model = tuner.get_best_models()[0]
    best = tuner.oracle.get_best_trials()[0]
    scores = model.evaluate(X[72:], y[72:], return_dict=True, verbose=0)
    if name != "bayesian":  # whose weights are drawn anew
        np.testing.assert_allclose(scores[metric.removeprefix("val_")], best.score, rtol=1e-4)

    model.save(tmp_path / "best.keras")
    loaded = keras.models.load_model(tmp_path / "best.keras")
    assert loaded.predict(X, verbose=0).shape == (96, 1)


def values_of(hypermodel, **chosen):
    hp = keras_tuner.HyperParameters()
    hypermodel.declare_hyperparameters(hp)
    hp.values.update(chosen)
    hp.ensure_active_values()
    return hypermodel.values(hp)


def test_spaces_depend_on_choices():
    assert values_of(pipeline(), form="tensor")["latent_units"] is None
    assert values_of(pipeline(), form="tensor")["tensor_order"] in (3, 4, 5)
    assert values_of(pipeline(), form="log")["tensor_order"] is None
    assert values_of(pipeline(form="tensor"))["latent_units"] is None
    assert values_of(bayesian(), weights="mc_dropout")["prior_stddev"] is None
    assert values_of(bayesian(weights="deterministic"))["kl_weight"] is None


def test_a_space_is_declared_whole_before_the_first_trial():
    hp = keras_tuner.HyperParameters()
    pipeline().declare_hyperparameters(hp)
    names = {parameter.name for parameter in hp.space}
    assert {"tensor_order", "latent_units", "autoencoder_population_size", "dropout"} <= names
    assert "epochs" not in names  # a constant here


@pytest.mark.parametrize("form", ["dense", "field_equation", "tensor"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "monte_carlo"])
def test_pipelines_are_made_of_what_the_space_says(form, optimizer):
    hypermodel = pipeline(form=form, autoencoder_optimizer=optimizer, realizations=2)
    built = hypermodel.build(keras_tuner.HyperParameters())
    built.build((None, 6))
    assert built.encode(X).shape == (96, 2 * 10)
    stage_one = built.autoencoders[0].optimizer
    assert type(stage_one).__name__.lower().startswith(optimizer.replace("_", ""))


def test_parameters_take_the_names_that_they_are_given():
    hypermodel = tabular(
        learning_rate=Float("rate", 1e-5, 1e-1, sampling="log", default=0.02),
        hidden_layers=Int("depth", 1, 2),
    )
    hp = keras_tuner.HyperParameters()
    hypermodel.declare_hyperparameters(hp)
    assert {"rate", "depth"} <= {parameter.name for parameter in hp.space}
    assert float(hypermodel.build(hp).optimizer.learning_rate) == pytest.approx(0.02)


def test_what_search_is_given_goes_before_the_space():
    hp = keras_tuner.HyperParameters()
    hypermodel = tabular()
    model = hypermodel.build(hp)
    history = hypermodel.fit(hp, model, X, LABELS, epochs=3, batch_size=96, verbose=0)
    assert len(history.epoch) == 3
    assert int(model.optimizer.iterations) == 3


class Rates(keras.callbacks.Callback):
    """Notes the learning rate of each epoch."""

    def __init__(self):
        super().__init__()
        self.rates = []

    def on_epoch_end(self, epoch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))


@pytest.mark.parametrize("first", [0, 2])
def test_the_classifier_s_learning_rate_falls_along_a_cosine(first):
    hypermodel = pipeline(
        form="dense", classifier_learning_rate=0.01, classifier_schedule="cosine", epochs=4
    )
    hp, rates = keras_tuner.HyperParameters(), Rates()
    model = hypermodel.build(hp)
    hypermodel.fit(hp, model, X, LABELS, initial_epoch=first, callbacks=[rates], verbose=0)
    expected = 0.01 * np.cos(np.pi / 8 * np.arange(4)) ** 2  # the half-angle formula
    np.testing.assert_allclose(rates.rates, expected[first:], rtol=1e-6)


def test_optimizers_get_the_settings_that_they_have():
    space = {"classifier_weight_decay": 0.02, "classifier_schedule": "cosine", "form": "dense"}
    hp = keras_tuner.HyperParameters()
    model = pipeline(classifier_optimizer="adamw", **space).build(hp)
    assert model.classifier.optimizer.weight_decay == 0.02
    for other in ("adam", "monte_carlo"):
        hypermodel = pipeline(classifier_optimizer=["adamw", other], **space)
        hp.values["classifier_optimizer"] = other
        model = hypermodel.build(hp)
        assert model.classifier.optimizer.weight_decay is None
        hypermodel.fit(hp, model, X, LABELS, verbose=0)


def test_pipelines_tell_what_the_autoencoders_lost():
    hp = keras_tuner.HyperParameters()
    hypermodel = pipeline(form="dense")
    history = hypermodel.fit(
        hp, hypermodel.build(hp), X, LABELS, validation_split=0.25, epochs=2, verbose=0
    )
    assert np.isfinite(history.history["val_reconstruction_loss"]).all()
    assert len(history.history["reconstruction_loss"]) == 2


def test_a_user_s_callback_stops_the_classifier():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    hp = keras_tuner.HyperParameters()
    hypermodel = pipeline(form="dense")
    history = hypermodel.fit(
        hp, hypermodel.build(hp), X, LABELS, epochs=5, verbose=0, callbacks=[Stop()]
    )
    assert len(history.epoch) == 1


@pytest.mark.parametrize(
    ("space", "match"),
    [
        ({"unit": 4}, "no 'unit' in its space. It has 'hidden_layers'"),
        ({"units": []}, "at least one choice"),
        ({"units": Int("dropout", 4, 8)}, "'dropout' twice"),
    ],
)
def test_spaces_that_are_empty_or_unknown(space, match):
    with pytest.raises(ValueError, match=match):
        tuners.TabularHyperModel(6, space=space)


def test_choices_that_no_model_can_be_made_with():
    with pytest.raises(ValueError, match=r"'form' in `space` can be .* Received: 'spherical'"):
        pipeline(form=["dense", "spherical"])
    with pytest.raises(ValueError, match="'classifier_schedule' in `space` can be 'constant'"):
        pipeline(classifier_schedule="linear")
    with pytest.raises(ValueError, match="'weights' in `space`"):
        bayesian(weights="dense")
    with pytest.raises(ValueError, match="`task` must be one of"):
        tuners.TabularHyperModel(6, "ranking")
    with pytest.raises(ValueError, match="`num_classes` must be at least 2"):
        tuners.AutoencoderClassifierHyperModel(6, num_classes=1)
    with pytest.raises(TypeError, match="`space` must be a dict"):
        tuners.TabularHyperModel(6, space=["units"])
    with pytest.raises(TypeError, match="`model` must be a function"):
        tuners.MonteCarloHyperModel("network", "mse")
