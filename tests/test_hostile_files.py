"""Files that name modules and code are refused in safe mode; nothing is imported or built."""

import contextlib
import copy
import json
import pathlib
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow_probability as tfp

from keras_extras import inference, layers, optimizers, pipelines
from keras_extras._core.functions import serialize_function

tfd = tfp.distributions
_EVENTS = ("import", "code.__new__", "marshal.loads", "exec", "compile", "pickle.find_class")
_watched: list[tuple] = []
_is_watching = False
PLANTED = ("evil_helper", "keras_hub")


def _note(event, arguments):
    if _is_watching and event in _EVENTS:
        _watched.append((event, str(arguments)[:200]))


sys.addaudithook(_note)  # For the rest of the process, hence the switch.


@contextlib.contextmanager
def watching():
    """Notes all imports and all code that is built or run."""
    global _is_watching
    _watched.clear()
    _is_watching = True
    try:
        yield _watched
    finally:
        _is_watching = False


@pytest.fixture(autouse=True)
def planted(tmp_path, monkeypatch):
    """Modules beside the file, one of them with the name of a package that Keras imports."""
    for name in PLANTED:
        (tmp_path / f"{name}.py").write_text("Evil = run = print\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in PLANTED:
        assert sys.modules.pop(name, None) is None


with pytest.warns(UserWarning, match="lambda"):
    _OURS = serialize_function(lambda t: t, "head")
_OURS = json.loads(json.dumps(_OURS))


def _lambda(**changes):
    return {**copy.deepcopy(_OURS), **changes}


def _named(module, name, kind="function"):
    config = name if kind == "function" else {}
    return {
        "module": module,
        "class_name": "function" if kind == "function" else name,
        "config": config,
        "registered_name": name,
    }


_CODE = _OURS["lambda"]["function"]["config"]["code"]
PAYLOADS = {
    "lambda and modules": _lambda(modules={"anything": "evil_helper"}),
    "lambda and globals": _lambda(globals={"anything": {"module": "evil_helper"}}),
    "lambda and closure": _lambda(closure={"anything": {"module": "evil_helper"}}),
    "lambda and builtins": _lambda(globals={"__builtins__": {"module": "evil_helper"}}),
    "something else for a lambda": _lambda(
        **{"lambda": {"function": _named("evil_helper", "run")}},
        globals={"anything": {"module": "evil_helper"}},
    ),
    "lambda of Keras": {"class_name": "__lambda__", "config": {"value": _CODE}},
    "layer of a lambda": {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": _OURS["lambda"],
        "registered_name": None,
    },
    "function": _named("evil_helper", "run"),
    "class": _named("evil_helper", "Evil", "class"),
    "package of Keras": _named("keras_hub", "Evil", "class"),
    "module of a package": _named("keras_hub.evil_helper", "run"),
    "os": _named("os", "system"),
    "builtins": _named("builtins", "eval"),
    "class of builtins": _named("builtins", "object", "class"),
    "distribution class": {"distribution_class": "evil_helper"},
    "distribution": {"distribution": "evil_helper", "parameters": {}},
}


def _dense():
    return keras.layers.Dense(2)


def _made():
    return layers.AutoregressiveNetwork(2, event_shape=[2], hidden_units=[4])


_PRIOR = tfd.Normal(0.0, 1.0)
# Objects, and the path to the argument that a file replaces.
PLACES = {
    "make_distribution_fn": (
        lambda: layers.DistributionLambda(tfd.Poisson),
        "make_distribution_fn",
    ),
    "convert_to_tensor_fn": (lambda: layers.IndependentNormal(1), "convert_to_tensor_fn"),
    "activity_regularizer": (
        lambda: layers.IndependentNormal(1, activity_regularizer="l2"),
        "activity_regularizer",
    ),
    "component_layer": (
        lambda: layers.ZeroInflated(layers.IndependentPoisson(1)),
        "component_layer",
    ),
    "components": (
        lambda: layers.MixtureSameFamily(2, layers.IndependentNormal(1)),
        "component_layer",
    ),
    "function of components": (
        lambda: layers.MixtureSameFamily(2, layers.IndependentNormal(1)),
        "component_layer/config/convert_to_tensor_fn",
    ),
    "made": (lambda: layers.AutoregressiveTransform(_made()), "made"),
    "distribution_b": (lambda: layers.KLDivergenceAddLoss(_PRIOR), "distribution_b"),
    "test_points_fn": (lambda: layers.KLDivergenceAddLoss(_PRIOR), "test_points_fn"),
    "weight": (lambda: layers.KLDivergenceAddLoss(_PRIOR), "weight"),
    "prior of a regularizer": (
        lambda: layers.IndependentNormal(
            1, activity_regularizer=layers.KLDivergenceRegularizer(_PRIOR)
        ),
        "activity_regularizer/config/distribution_b",
    ),
    "make_posterior_fn": (lambda: layers.DenseVariational(2), "make_posterior_fn"),
    "make_prior_fn": (lambda: layers.DenseVariational(2), "make_prior_fn"),
    "prior": (lambda: layers.DenseReparameterization(2), "kernel_prior_fn"),
    "posterior": (lambda: layers.DenseFlipout(2), "kernel_posterior_fn"),
    "tensor": (lambda: layers.Convolution1DFlipout(2, 3), "kernel_posterior_tensor_fn"),
    "divergence": (lambda: layers.DenseLocalReparameterization(2), "bias_divergence_fn"),
    "activation": (lambda: layers.DenseFlipout(2), "activation"),
    "initializer": (lambda: layers.VariableLayer((2,)), "initializer"),
    "constraint": (lambda: layers.EinsteinLatent(2), "alpha_constraint"),
    "mean_fn": (lambda: _process(), "mean_fn"),
    "kernel_provider": (lambda: _process(), "kernel_provider"),
    "time distributed": (
        lambda: keras.layers.TimeDistributed(layers.DenseFlipout(2)),
        "layer/config/kernel_prior_fn",
    ),
    "inner model": (
        lambda: keras.Sequential([keras.Input((2,)), layers.IndependentNormal(1)]),
        "layers/1/config/convert_to_tensor_fn",
    ),
    "functional model": (
        lambda: _functional(),
        "layers/1/config/make_distribution_fn",
    ),
    "encoder": (
        lambda: pipelines.AutoencoderClassifier(_dense(), _dense(), _dense()),
        "encoder",
    ),
}
OPTIMIZERS = {
    "optimizer_map": (
        lambda: optimizers.PartitionedOptimizer({"*": keras.optimizers.SGD()}),
        "optimizer_map/*",
    ),
    "priors": (
        lambda: optimizers.MonteCarloOptimizer(priors={"*": optimizers.priors.Normal()}),
        "priors/*",
    ),
    "transforms": (
        lambda: optimizers.MonteCarloOptimizer(transforms={"*": optimizers.transforms.Bounds(0.0)}),
        "transforms/*",
    ),
    "learning_rate": (lambda: optimizers.MonteCarloOptimizer(), "learning_rate"),
}
LOSSES = {
    "directions": (
        lambda: layers.SobolevTraining(_dense(), directions=np.ones((1, 2))),
        "directions",
    ),
    "penalty": (
        lambda: layers.SensitivityPenalty(_dense(), directions=np.ones((1, 2))),
        "directions",
    ),
    "model of a loss": (
        lambda: layers.SobolevTraining(_dense(), directions=np.ones((1, 2))),
        "layer",
    ),
}


def _process():
    return layers.VariationalGaussianProcess(2, layers.ExponentiatedQuadraticKernel(), jitter=1e-3)


def _functional():
    inputs = keras.Input((2,))
    return keras.Model(inputs, layers.DistributionLambda(tfd.Poisson)(inputs))


def replaced(thing, path, payload):
    """The configuration of an object, with something else at a place."""
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(thing)))
    *parents, last = path.split("/")
    place = config["config"]
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    assert last in place, (last, list(place))
    place[last] = copy.deepcopy(payload)
    return config


def write(path, kind, part):
    """A file of a model with one layer, and of its optimizer and loss."""
    layer = part if kind == "layer" else keras.saving.serialize_keras_object(_dense())
    config = {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "hostile", "layers": [layer]},
        "registered_name": None,
    }
    if kind != "layer":
        config["compile_config"] = {"optimizer": "sgd", "loss": "mse", kind: part}
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(config))
        file.writestr("metadata.json", json.dumps({"keras_version": keras.__version__}))
        file.writestr("model.weights.h5", b"")


def refused(path):
    """Loads a file, which must be refused without an import."""
    with watching() as events:
        try:
            keras.saving.load_model(path, safe_mode=True)
            pytest.fail("the file was loaded")
        except (TypeError, ValueError):
            pass
        except Exception as error:
            raise AssertionError(f"no good error: {error!r}") from error
    assert not events, events


def test_the_attacks_are_as_many_as_the_documentation_says():
    page = pathlib.Path(__file__).parents[1] / "docs" / "reliability.md"
    places = len(PLACES) + len(OPTIMIZERS) + len(LOSSES)
    text = " ".join(page.read_text().split())
    assert f"puts {len(PAYLOADS)} kinds of attack into each of {places} arguments" in text
    assert f"All {len(PAYLOADS) * places} files are refused" in text


@pytest.mark.parametrize("place", [*PLACES, *OPTIMIZERS, *LOSSES])
def test_every_argument_refuses_every_module_and_all_code(place, tmp_path):
    make, where = {**PLACES, **OPTIMIZERS, **LOSSES}[place]
    thing = make()
    path = tmp_path / "hostile.keras"
    kind = "layer" if place in PLACES else "optimizer" if place in OPTIMIZERS else "loss"
    write(path, kind, keras.saving.serialize_keras_object(thing))
    with contextlib.suppress(Exception):  # It has no weights.
        keras.saving.load_model(path)  # Imports what good files need.
    for name, payload in PAYLOADS.items():
        write(path, kind, replaced(thing, where, payload))
        try:
            refused(path)
        except AssertionError as error:
            pytest.fail(f"{name} in {place}: {error}")


@pytest.mark.parametrize("name", [name for name in PAYLOADS if "lambda" in name])
def test_configurations_outside_of_a_file_are_in_safe_mode_too(name):
    layer = layers.DistributionLambda(tfd.Poisson)
    config = {**layer.get_config(), "make_distribution_fn": PAYLOADS[name]}
    with watching() as events, pytest.raises((TypeError, ValueError)):
        layers.DistributionLambda.from_config(config)
    assert not events


UNWRITTEN = {
    "a module that the code does not use": {"globals": {"anything": {"module": "evil_helper"}}},
    "builtins": {"globals": {"__builtins__": {"module": "evil_helper"}}},
    "a closure": {"closure": {"anything": {"module": "evil_helper"}}},
    "a default for no argument": {"defaults": {"0": {"value": 1}, "1": {"module": "evil_helper"}}},
    "a default by another name": {"defaults": {"t": {"value": 1}}},
    "an object": {"defaults": {"0": {"value": _named("keras", "Layer", "class")}}},
    "a lambda": {"defaults": {"0": {"value": PAYLOADS["lambda of Keras"]}}},
    "two values": {"defaults": {"0": {"value": 1, "module": "evil_helper"}}},
    "a dict": {"defaults": {"0": {"value": {"key": 1}}}},
    "a list in a list": {"defaults": {"0": {"list": [{"tuple": [{"module": 1}]}]}}},
}


def load_unsafely(config):
    """As a file that is loaded with `safe_mode=False`."""
    layer = keras.saving.serialize_keras_object(layers.DistributionLambda(tfd.Poisson))
    layer["config"]["make_distribution_fn"] = config
    return keras.saving.deserialize_keras_object(layer, safe_mode=False).make_distribution_fn


@pytest.mark.parametrize("name", UNWRITTEN)
def test_without_safe_mode_a_lambda_gets_what_is_written_for_it_only(name):
    assert load_unsafely(_lambda())(3.0) == 3.0
    with pytest.raises((TypeError, ValueError), match="the lambda uses, and nothing else"):
        load_unsafely(_lambda(**UNWRITTEN[name]))


def test_what_a_lambda_uses_comes_back_with_the_builtins_of_python():
    scale, places = 2.0, (1.0, [np.array([3.0])])
    make = lambda t, shift=4.0, *, sign=-1: sign * len([t]) * (t * scale + places[1][0] + shift)  # noqa: E731
    with pytest.warns(UserWarning, match="lambda"):
        config = json.loads(json.dumps(serialize_function(make, "head")))
    np.testing.assert_array_equal(load_unsafely(config)(1.0), make(1.0))


def test_registered_objects_load_whatever_module_they_were_saved_from():
    @keras.saving.register_keras_serializable("hostile_files")
    class Known(keras.layers.Layer):
        pass

    config = keras.saving.serialize_keras_object(layers.ZeroInflated(layers.IndependentPoisson(1)))
    place = config["config"]["component_layer"]
    place["module"] = "a_script_that_is_not_here"
    assert isinstance(
        keras.saving.deserialize_keras_object(config).component_layer, layers.IndependentPoisson
    )
    place.update(class_name="Known", registered_name="hostile_files>Known", config={})
    with pytest.raises(TypeError, match="component_layer"):  # It is found, and is no head.
        keras.saving.deserialize_keras_object(config)


class Bomb:
    def __reduce__(self):
        return (__import__, ("evil_helper",))


def test_arrays_are_never_unpickled(tmp_path):
    bomb = np.array([Bomb()], dtype=object)
    path = tmp_path / "posterior.npz"
    np.savez(path, draws=bomb, **{"0": bomb})
    with watching() as events, pytest.raises(ValueError, match="`Posterior"):
        inference.Posterior.load(path, keras.Sequential([keras.Input((2,)), _dense()]))
    assert not [event for event in events if "pickle" in event[0] or "evil" in event[1]]
