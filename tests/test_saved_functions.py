"""Functions in layers of distributions: saved with what they use, or refused by the name of it."""

import functools
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops
from probability import tfd, tfp

from keras_extras import layers
from keras_extras._core.functions import deserialize_function, serialize_function
from keras_extras.layers import DistributionLambda, IndependentNormal

pytestmark = pytest.mark.both_backends(cases=0)

SCALE = 0.5
SHIFTS = (1.0, np.array([2.0], "float32"))
X = np.random.default_rng(4).uniform(0.5, 1.5, size=(5, 2)).astype("float32")
DENSE = keras.layers.Dense(2)


def helper(t):
    return t + 1.0


class Made:
    def method(self, t):
        return tfd.Normal(t, 1.0)


def model_of(*args, **kwargs):
    return keras.Sequential([keras.Input((2,)), DistributionLambda(*args, name="head", **kwargs)])


LOADING = """
import sys
import keras, numpy as np
import keras_extras.layers
model = keras.saving.load_model(sys.argv[1], safe_mode=False)
rv = model(np.load(sys.argv[2]))
np.save(sys.argv[3], [rv.mean(), rv.stddev(), np.asarray(rv)])
print(float(sum(model.losses)))
"""


def test_a_lambda_takes_with_it_what_it_uses(tmp_path):
    """Loaded in another process, which has none of the names."""
    local_scale, from_function = ops.convert_to_tensor(2.0), tfp.distributions
    make = lambda t, factor=3.0, *, power=2: from_function.Normal(  # noqa: E731
        SHIFTS[0] + SHIFTS[1] * t, SCALE * local_scale * sum([factor for _ in range(power)])
    )
    model = model_of(
        make,
        lambda rv: ops.sum(rv.mean()[..., None], axis=-1) + SCALE,
        activity_regularizer=lambda rv: SCALE * ops.sum(rv.mean()),
    )
    np.save(tmp_path / "x.npy", X)
    with pytest.warns(UserWarning, match="'head' is saved with a Python lambda"):
        model.save(tmp_path / "model.keras")
    paths = [str(tmp_path / name) for name in ("model.keras", "x.npy", "out.npy")]
    run = subprocess.run(
        [sys.executable, "-c", LOADING, *paths], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    mean = 1.0 + 2.0 * X
    expected = [mean, np.full_like(mean, 6.0), mean + 0.5]
    np.testing.assert_allclose(np.load(paths[2]), expected, rtol=1e-5)
    model(X)
    assert float(run.stdout) == pytest.approx(float(sum(model.losses)), rel=1e-5)
    with pytest.raises((TypeError, ValueError), match="safe_mode=False"):
        keras.saving.load_model(paths[0])


def test_modules_of_tfp_have_the_same_name_in_files_of_each_backend():
    with pytest.warns(UserWarning, match="lambda"):
        config = serialize_function(lambda t: tfd.Normal(t, 1.0), "head")
    assert config["globals"] == {"tfd": {"module": "tensorflow_probability.python.distributions"}}


def uses_a_layer():
    dense = keras.layers.Dense(2)
    return lambda t: tfd.Normal(dense(t), 1.0)


REFUSED = {
    "a function": (lambda t: tfd.Normal(helper(t), 1.0), "'helper'"),
    "a class": (lambda t: Made().method(t), "'Made'"),
    "a layer": (lambda t: tfd.Normal(DENSE(t), 1.0), "'DENSE'"),
    "inside": (lambda t: ops.map(lambda row: helper(row), t), "'helper'"),
    "closure": (uses_a_layer(), "'dense'"),
    "default": (lambda t, make=DENSE: make.method(t), "'0'"),
    "partial": (functools.partial(tfd.Normal, scale=1.0), "partial"),
    "method": (Made().method, "method"),
    "class": (Made, "class of another library"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_file_cannot_hold_is_refused_when_it_is_saved(name, tmp_path):
    function, match = REFUSED[name]
    layer = DistributionLambda(function, name="head")
    with pytest.raises(ValueError, match=rf"'head' cannot be saved with .*{match}.*decorator"):
        layer.get_config()


@pytest.mark.parametrize(
    "make",
    [
        lambda f: IndependentNormal(1, f),
        lambda f: IndependentNormal(1, activity_regularizer=f),
        lambda f: layers.KLDivergenceAddLoss(tfd.Normal(0.0, 1.0), test_points_fn=f),
        lambda f: layers.KLDivergenceAddLoss(f),
        lambda f: layers.SobolevTraining(DENSE, directions=f),
        lambda f: layers.DenseReparameterization(2, kernel_prior_fn=f),
        lambda f: layers.DenseReparameterization(2, kernel_divergence_fn=f),
        lambda f: layers.DenseVariational(2, make_posterior_fn=f, make_prior_fn=f),
    ],
)
def test_everywhere(make):
    with pytest.raises(ValueError, match=r"cannot be saved with .*'helper'"):
        make(lambda t: tfd.Normal(helper(t), 1.0)).get_config()


def test_a_class_of_tfp_loads_in_safe_mode(tmp_path):
    model = model_of(tfd.Poisson, "mean")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].make_distribution_fn is tfd.Poisson
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), X)
    for name in ("Distribution2", "RegisterKL", "os"):
        with pytest.raises(ValueError, match="There is no distribution"):
            deserialize_function({"distribution_class": name})


def test_a_name_of_another_function_is_refused():
    def softplus(t):
        return tfd.Normal(t, 1.0)

    with pytest.raises(ValueError, match="its name is that of another function"):
        serialize_function(softplus, "head")


def test_safe_mode_imports_nothing(tmp_path):
    """Neither for a lambda nor for what only says that it is one."""
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')")
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.warns(UserWarning, match="lambda"):
            config = serialize_function(lambda t: t, "head")
        config["globals"] = {"planted": {"module": "planted"}}
        with pytest.raises(ValueError, match="safe_mode=False"):
            deserialize_function(config)
        config["lambda"]["function"] = "relu"
        with pytest.raises((TypeError, ValueError)):
            deserialize_function(config)
        config["lambda"]["function"] = {"class_name": "function", "config": "relu"}
        with pytest.raises(ValueError, match="no lambda"):
            deserialize_function(config)
    finally:
        sys.path.remove(str(tmp_path))
    assert "planted" not in sys.modules
