"""Named heads against TensorFlow Probability's distributions on the same parameters."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
from contract_support import saved_and_loaded
from keras import ops
from precision import ON_JAX, WIDE, needs_float64, needs_tensorflow
from probability import compiled, seed_of, tf, tfd, tfp, value_and_gradient
from tiers import quick

from keras_extras import layers, losses, metrics

pytestmark = pytest.mark.both_backends(cases=1)
softplus = tf.math.softplus


class Case(NamedTuple):
    """A head's arguments and the same distribution written with `tfd`."""

    name: str
    arguments: tuple
    expected: object
    of_tfp: tuple | None = None


def parts(t, number, event_shape):
    return [tf.reshape(p, (*t.shape[:-1], *event_shape)) for p in tf.split(t, number, axis=-1)]


def independent(make, number, event_shape, raw=()):
    def expected(t):
        values = [
            softplus(p) if index in raw else p
            for index, p in enumerate(parts(t, number, event_shape))
        ]
        return tfd.Independent(make(*values), len(event_shape))

    return expected


def mixture(make, count, event_shape):
    def expected(t):
        size = 2 * int(np.prod(event_shape))
        rest = tf.reshape(t[..., count:], (*t.shape[:-1], count, size))
        return tfd.MixtureSameFamily(
            tfd.Categorical(logits=t[..., :count]), independent(make, 2, event_shape, {1})(rest)
        )

    return expected


def tri_l(t):
    lower = tfp.bijectors.FillScaleTriL(diag_shift=np.float32(1e-5))(t[..., 3:])
    return tfd.MultivariateNormalTriL(t[..., :3], lower)


def one_hot_mixture(t):
    components = tfd.OneHotCategorical(logits=tf.reshape(t[..., 2:], (*t.shape[:-1], 2, 3)))
    return tfd.MixtureSameFamily(tfd.Categorical(logits=t[..., :2]), components)


def negative_binomial(log_mean, raw):
    count = softplus(raw) + 1e-6
    probability = tf.exp(log_mean) / (tf.exp(log_mean) + count)
    return tfd.NegativeBinomial(count, probs=probability)


def zero_inflated_poisson(t):
    logits, log_rate = t[..., :2], t[..., 2:]
    inflated = tfd.Inflated(
        tfd.Poisson(log_rate=log_rate), inflated_loc_probs=tf.math.sigmoid(logits)
    )
    return tfd.Independent(inflated, 1)


CASES = [
    Case("IndependentNormal", ((2, 3),), independent(tfd.Normal, 2, (2, 3), {1}), ((2, 3),)),
    Case("IndependentNormal", (), independent(tfd.Normal, 2, (), {1}), ()),
    Case("IndependentLogistic", ((2,),), independent(tfd.Logistic, 2, (2,), {1}), ((2,),)),
    Case("IndependentLaplace", (2,), independent(tfd.Laplace, 2, (2,), {1})),
    Case(
        "IndependentStudentT",
        ((2,),),
        independent(lambda df, loc, s: tfd.StudentT(2.0 + df, loc, s), 3, (2,), {0, 2}),
    ),
    Case(
        "IndependentGamma",
        ((2,),),
        independent(lambda c, r: tfd.Gamma(c + 1e-6, r + 1e-6), 2, (2,), {0, 1}),
    ),
    Case(
        "IndependentBeta",
        ((2,),),
        independent(lambda a, b: tfd.Beta(a + 1e-6, b + 1e-6), 2, (2,), {0, 1}),
    ),
    Case(
        "IndependentBernoulli",
        ((2, 1),),
        independent(lambda t: tfd.Bernoulli(logits=t, dtype="float32"), 1, (2, 1)),
        ((2, 1),),
    ),
    Case(
        "IndependentPoisson",
        ((2,),),
        independent(lambda t: tfd.Poisson(log_rate=t), 1, (2,)),
        ((2,),),
    ),
    Case("IndependentNegativeBinomial", ((2,),), independent(negative_binomial, 2, (2,))),
    Case("Categorical", (4,), lambda t: tfd.Categorical(logits=t)),
    Case(
        "OneHotCategorical", (4,), lambda t: tfd.OneHotCategorical(logits=t, dtype="float32"), (4,)
    ),
    Case("CategoricalMixtureOfOneHotCategorical", (3, 2), one_hot_mixture, (3, 2)),
    Case("MixtureNormal", (2, (3,)), mixture(tfd.Normal, 2, (3,)), (2, (3,))),
    Case("MixtureLogistic", (2,), mixture(tfd.Logistic, 2, ()), (2,)),
    Case(
        "MixtureSameFamily",
        (2, layers.IndependentLaplace((2,))),
        mixture(tfd.Laplace, 2, (2,)),
    ),
    Case("MultivariateNormalTriL", (3,), tri_l, (3,)),
    Case(
        "MultivariateNormalDiag",
        (2,),
        lambda t: tfd.MultivariateNormalDiag(t[..., :2], softplus(t[..., 2:]) + 1e-5),
    ),
    Case("ZeroInflated", (layers.IndependentPoisson((2,)),), zero_inflated_poisson),
]
IDS = [f"{number}-{case.name}" for number, case in enumerate(CASES)]
WITHOUT_MEAN = {"Categorical"}
# TFP's own draws of it do not compile under XLA, so the head has others.
OTHER_DRAWS = {"IndependentNegativeBinomial"}


def make_layer(case, **keywords):
    return getattr(layers, case.name)(*case.arguments, **keywords)


def parameters(layer, batch=(4,), number=1):
    shape = (*batch, layer.num_params)
    return np.random.default_rng(number).normal(size=shape).astype("float32")


def statistics(distribution, y, draws):
    results = {
        "log_prob": distribution.log_prob(y),
        "batch_shape": distribution.batch_shape_tensor(),
        "event_shape": distribution.event_shape_tensor(),
        "tensor": tf.zeros_like(tf.convert_to_tensor(distribution.sample(seed=seed_of(3, 4)))),
    }
    if draws:
        results["sample"] = distribution.sample(3, seed=seed_of(5, 6))
    return results


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.parametrize("batch", [(4,), (2, 3)])
def test_equals_tfd(case, batch):
    layer = make_layer(case)
    t = parameters(layer, batch)
    actual, expected = layer(t), case.expected(t)
    assert actual.batch_shape == expected.batch_shape == batch
    assert actual.event_shape == expected.event_shape
    y = expected.sample(5, seed=seed_of(1, 2))
    log_prob = np.asarray(expected.log_prob(y))
    difference = np.abs(actual.log_prob(y) - log_prob).max()
    assert difference <= 1e-6 * max(1.0, np.abs(log_prob).max())
    if case.name not in WITHOUT_MEAN:
        mean = expected.mean() if case.name != "CategoricalMixtureOfOneHotCategorical" else None
        if mean is None:
            weights = expected.mixture_distribution.probs_parameter()[..., None]
            probs = expected.components_distribution.probs_parameter()
            mean = tf.reduce_sum(weights * probs, axis=-2)
            np.testing.assert_allclose(actual.log_mean(), tf.math.log(mean), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(actual.mean(), mean, rtol=1e-5, atol=1e-6)
    if case.name not in OTHER_DRAWS:
        draws, expected_draws = (d.sample(50, seed=seed_of(7, 8)) for d in (actual, expected))
        np.testing.assert_allclose(draws, expected_draws, rtol=1e-5, atol=1e-6)


@needs_tensorflow  # where a batch may have any number of rows
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_graph_and_xla_with_any_batch_size_equal_eager(case):
    layer = make_layer(case, seed=2)
    layer.build((None, layer.num_params))
    t = parameters(layer)
    y = np.asarray(layer(t).sample(seed=seed_of(1, 2)), "float32")
    draws = case.name not in OTHER_DRAWS
    expected = statistics(layer(t), y, draws)
    signature = [
        tf.TensorSpec((None, layer.num_params)),
        tf.TensorSpec((None, *y.shape[1:])),
    ]
    for jit_compile in (False, True):
        # Under XLA some draws are made by another algorithm.
        function = tf.function(
            lambda t, y, draws=draws and not jit_compile: statistics(layer(t), y, draws),
            input_signature=signature,
            jit_compile=jit_compile,
        )
        for name, value in function(t, y).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("jit_compile", quick([False, True], True))
@pytest.mark.parametrize("case", [c for c in CASES if "Categorical" not in c.name])
def test_draws_have_mean_and_variance(case, jit_compile):
    """Within 5 standard errors of what TFP's distribution says."""
    layer = make_layer(case, seed=2)
    t = 0.5 * parameters(layer, (2,))
    expected, n = case.expected(t), 20_000
    variance = np.asarray(expected.variance() if case.name != "MultivariateNormalTriL" else 0)
    if case.name == "MultivariateNormalTriL":
        variance = np.asarray(tf.linalg.diag_part(expected.covariance()))
    draws = np.asarray(compiled(lambda: layer(t).sample(n), jit_compile)())
    z = (draws.mean(axis=0) - expected.mean()) / np.sqrt(variance / n)
    assert np.abs(z).max() < 5, f"z = {z}"
    if case.name != "IndependentStudentT":  # whose fourth moment need not exist
        np.testing.assert_allclose(draws.var(axis=0), variance, rtol=0.2)


@pytest.mark.skipif(ON_JAX, reason="tfp.layers is of TensorFlow alone")
@pytest.mark.parametrize("case", [c for c in CASES if c.of_tfp is not None], ids=lambda c: c.name)
@pytest.mark.filterwarnings("ignore")  # of tf_keras, which tfp.layers imports
def test_new_and_params_size_equal_those_of_tfp_layers(case):
    ours, theirs = getattr(layers, case.name), getattr(tfp.layers, case.name)
    size = ours.params_size(*case.of_tfp)
    assert size == int(theirs.params_size(*case.of_tfp))
    assert type(size) is int
    t = tf.constant(np.random.default_rng(3).normal(size=(4, size)).astype("float32"))
    actual, expected = ours.new(t, *case.of_tfp), theirs.new(t, *case.of_tfp)
    y = expected.sample(seed=seed_of(1, 2))
    np.testing.assert_allclose(actual.log_prob(y), expected.log_prob(y), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(actual.mean(), expected.mean(), rtol=1e-5, atol=1e-6)
    assert actual.batch_shape == expected.batch_shape


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_shapes_are_known_where_models_are_put_together(case):
    layer = make_layer(case)
    draw = layer(parameters(layer)).shape[1:]
    symbolic = layer(keras.Input((layer.num_params,)))
    assert symbolic.shape == (None, *draw)
    assert layer(keras.Input((7, layer.num_params))).shape == (None, 7, *draw)
    assert layer.compute_output_shape((None, layer.num_params)) == (None, *draw)


def nll(y, rv_y):
    return -rv_y.log_prob(y)


@pytest.mark.parametrize("jit_compile", quick([False, True], True))
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_training_and_saving(case, jit_compile):
    tensor = "logits" if case.name in WITHOUT_MEAN else "mean"
    layer = make_layer(case, convert_to_tensor_fn=tensor)
    x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    y = np.asarray(
        case.expected(parameters(layer, (16,), number=2)).sample(seed=seed_of(1, 1)), "float32"
    )
    y = np.clip(y, 1e-3, 1 - 1e-3) if case.name == "IndependentBeta" else y
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(layer.num_params), layer])
    model.compile(keras.optimizers.Adam(0.01), nll, jit_compile=jit_compile)
    losses = model.fit(x, y, epochs=4, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    plain = keras.Sequential(model.layers)
    plain.build((None, 3))
    loaded = saved_and_loaded(plain)
    np.testing.assert_array_equal(np.asarray(loaded(x)), np.asarray(plain(x)))
    np.testing.assert_array_equal(loaded(x).log_prob(y), plain(x).log_prob(y))


@pytest.mark.parametrize(
    "name", sorted({case.name for case in CASES if case.name.startswith("Independent")})
)
def test_extreme_parameters_have_finite_gradients(name):
    layer = getattr(layers, name)()
    limit = 50.0
    extremes = np.stack(np.meshgrid(*[[-limit, 0.0, limit]] * layer.num_params), axis=-1)
    extremes = extremes.reshape(-1, layer.num_params)
    t = ops.convert_to_tensor(extremes, "float32")
    y = 0.5 if name == "IndependentBeta" else 1.0
    log_prob, gradient = value_and_gradient(lambda t: layer(t).log_prob(y), t)
    assert np.isfinite(log_prob).all()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("layer", "grid"),
    [
        (layers.IndependentStudentT(), np.linspace(-300, 300, 600_001)),
        (layers.IndependentLaplace(), np.linspace(-60, 60, 240_001)),
        (layers.IndependentGamma(), np.linspace(1e-6, 100, 400_001)),
        (layers.IndependentBeta(), np.linspace(1e-6, 1 - 1e-6, 200_001)),
        (layers.IndependentNegativeBinomial(), None),
        (layers.ZeroInflated(layers.IndependentNegativeBinomial()), None),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_probabilities_sum_to_one(layer, grid):
    t = np.full((1, layer.num_params), 1.5, "float32")
    if grid is None:
        total = np.sum(layer(t).prob(np.arange(400, dtype="float32")))
    else:
        total = np.trapezoid(layer(t).prob(grid.astype("float32")), grid)
    assert total == pytest.approx(1.0, abs=2e-3)


def test_negative_binomial_by_mean_and_dispersion():
    rv = layers.IndependentNegativeBinomial()(np.array([[1.0, 0.7]], "float32"))
    dispersion = np.log1p(np.exp(0.7))
    assert float(rv.mean()[0]) == pytest.approx(np.exp(1.0), rel=1e-5)
    assert float(rv.variance()[0]) == pytest.approx(np.e + np.e**2 / dispersion, rel=1e-5)


@needs_float64
@pytest.mark.parametrize("dtype", ["float64", tf.float64])
def test_double_precision_of_one_layer(dtype):
    head = layers.IndependentNormal((2,), dtype=dtype)
    model = keras.Sequential([keras.layers.Dense(4), head])
    model.compile(
        "sgd", losses.NegativeLogLikelihood(), metrics=[metrics.IntervalCoverage(), "mse"]
    )
    x = np.ones((8, 3), "float32")
    assert np.isfinite(model.fit(x, x[:, :2], verbose=0).history["loss"]).all()
    assert model(x).mean().dtype == tf.float64
    assert model(x).tensor_distribution.dtype == tf.float64


def test_whole_numbers_as_parameters():
    rv = layers.IndependentNormal()(np.array([[1, 0], [2, 1]]))
    np.testing.assert_array_equal(rv.mean(), [1.0, 2.0])


def test_zero_inflation():
    layer = layers.ZeroInflated(layers.IndependentPoisson())
    for logit in (-1.0, 0.0, 2.0):
        rv = layer(np.array([[logit, np.log(2.0)]], "float32"))
        zeros = 1.0 / (1.0 + np.exp(-logit))
        at_zero = zeros + (1 - zeros) * np.exp(-2.0)
        assert float(rv.prob(0.0)[0]) == pytest.approx(at_zero, rel=1e-5)
        assert float(rv.prob(1.0)[0]) == pytest.approx((1 - zeros) * 2 * np.exp(-2.0), rel=1e-5)
        assert float(rv.mean()[0]) == pytest.approx((1 - zeros) * 2.0, rel=1e-5)
    extreme = layer(np.array([[-90.0, 0.0], [90.0, 0.0]], "float32"))
    assert np.isfinite(extreme.log_prob(1.0)).all()
    with pytest.raises(ValueError, match=r"layer of counts.*IndependentNormal"):
        layers.ZeroInflated(layers.IndependentNormal())(np.zeros((1, 3), "float32"))
    with pytest.raises(TypeError, match="`component_layer` must be a layer of independent counts"):
        layers.ZeroInflated(layers.Categorical(3))


def test_mixture_of_a_layer_without_known_size():
    component = layers.DistributionLambda(lambda t: tfd.Normal(t[..., 0], tf.exp(t[..., 1])))
    layer = layers.MixtureSameFamily(2, component, "mean")
    t = np.array([[0.0, 0.0, -1.0, 0.0, 3.0, 0.0]], "float32")
    np.testing.assert_allclose(np.asarray(layer(t)), [1.0], rtol=1e-6)
    with pytest.raises(ValueError, match=r"num_components \* \(1 \+ component_params_size\)"):
        layer(t[:, :5])


def test_bernoulli_by_property_of_tfd():
    t = np.array([[0.5, -1.0]], "float32")
    for convert in (tfd.Bernoulli.logits, "logits"):
        layer = layers.IndependentBernoulli((2,), convert)
        np.testing.assert_array_equal(np.asarray(layer(t)), t)
        assert layer.get_config()["convert_to_tensor_fn"] == "logits"
    layer = layers.IndependentBernoulli((2,), "probs_parameter")
    np.testing.assert_allclose(np.asarray(layer(t)), 1 / (1 + np.exp(-t)), rtol=1e-5)
    for dtype in (tf.int32, *([] if ON_JAX else [tf.int64])):  # JAX has 32 bits by default.
        layer = layers.IndependentBernoulli(sample_dtype=dtype)
        assert layer(t[:, :1]).sample().dtype == dtype


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_wrong_number_of_parameters(case):
    layer = make_layer(case, name="head")
    right = layer.num_params
    message = rf"Layer 'head' needs .*{case.name}.params_size\(\.\.\.\) = {right} entries"
    with pytest.raises(ValueError, match=message):
        layer(np.zeros((2, right + 1), "float32"))
    with pytest.raises(ValueError, match=message) as error:
        layer(keras.Input((right + 1,)))
    assert "compute_output_spec" not in str(error.value), "is no fault of the layer"


def test_several_inputs():
    with pytest.raises(TypeError, match=r"'head' needs one tensor\. Received: inputs of type list"):
        layers.IndependentNormal(1, name="head")([np.zeros((2, 2)), np.zeros((2, 2))])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: layers.MultivariateNormalTriL.params_size("3"),
            TypeError,
            "`event_size` must be an integer",
        ),
        (
            lambda: layers.MixtureNormal.params_size(-2),
            ValueError,
            "`num_components` must be at least 1",
        ),
        (
            lambda: layers.MixtureSameFamily.params_size(2, layers.IndependentNormal(1)),
            TypeError,
            "`component_params_size` must be an integer",
        ),
        (lambda: layers.IndependentNormal(-1), ValueError, "`event_shape` must be at least 0"),
        (lambda: layers.IndependentNormal((2.5,)), TypeError, "`event_shape` must be an integer"),
        (lambda: layers.Categorical(0), ValueError, "`num_classes` must be at least 1"),
        (lambda: layers.OneHotCategorical("3"), TypeError, "`event_size` must be an integer"),
        (lambda: layers.MixtureNormal(0), ValueError, "`num_components` must be at least 1"),
        (
            lambda: layers.MixtureSameFamily(2, tfd.Normal),
            TypeError,
            "`component_layer` must be a layer of distributions",
        ),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


COUNTS = """
import sys

import keras
import numpy as np
from keras_extras import layers, losses

x, y = np.zeros((40, 2)), np.random.default_rng(0).poisson(1.0, size=(40, 1))
for code in sys.argv[1:]:
    head = eval(code)
    size = head.num_params
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(size), head])
    model.compile("adam", losses.NegativeLogLikelihood(), jit_compile=True, metrics=["mae"])
    model.fit(x, y, epochs=1, verbose=0)
    assert model.predict(x, verbose=0).shape == (40, 1)
print("compiled")
"""


@pytest.mark.parametrize(
    "heads",
    [
        ["layers.IndependentPoisson(1)"],
        pytest.param(
            [
                "layers.IndependentNegativeBinomial(1)",
                "layers.ZeroInflated(layers.IndependentPoisson(1))",
                "layers.MixtureSameFamily(2, layers.IndependentPoisson(1))",
            ],
            marks=pytest.mark.slow,
        ),
    ],
    ids=len,
)
def test_draws_of_counts_compile_after_shapes_were_inferred(heads):
    """In a process of its own: TFP traces its sampler once for all."""
    found = subprocess.run(
        [sys.executable, "-c", COUNTS, *heads],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        capture_output=True,
        text=True,
    )
    assert "compiled" in found.stdout, found.stderr[-3000:]


@pytest.mark.parametrize(
    "three", [np.array(3), tf.constant(3), np.array([3]), tf.constant([3]), tf.TensorShape([3])]
)
def test_shapes_as_arrays_and_tensors(three):
    for name in ("IndependentNormal", "IndependentGamma", "IndependentBernoulli"):
        head = getattr(layers, name)
        assert head.params_size(three) == head.params_size(3)
        assert tuple(head(three).event_shape) == (3,)
        assert head.new(tf.zeros((2, head.params_size(3))), three).event_shape == [3]
    two = np.array(2)
    assert layers.MixtureNormal.params_size(two, three) == layers.MixtureNormal.params_size(2, 3)
    inputs = np.zeros((2, 3), "float32")
    network = layers.AutoregressiveNetwork(2, event_shape=three, input_order=np.array([2, 1, 3]))
    assert network(inputs).shape == (2, 3, 2)
    restored = layers.AutoregressiveNetwork.from_config(network.get_config())
    assert restored(inputs).shape == (2, 3, 2)


@pytest.mark.parametrize("name", ["MultivariateNormalTriL", "MultivariateNormalDiag"])
def test_sizes_as_arrays_and_tensors(name):
    head = getattr(layers, name)
    for three in (np.array(3), tf.constant(3), np.int64(3)):
        assert head.params_size(three) == head.params_size(3)
        assert head(three).get_config()["event_size"] == 3
        assert head.new(tf.zeros((2, head.params_size(3))), three).event_shape == [3]
    for wrong in (np.array(3.0), tf.constant(True), np.zeros((2, 2), int)):
        with pytest.raises(TypeError, match="`event_size` must be an integer"):
            head(wrong)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *((case.name, case.arguments) for case in CASES if case.name.startswith("Independent")),
        ("MixtureNormal", (3, 2)),
        ("MixtureLogistic", (2,)),
        ("MultivariateNormalDiag", (2,)),
        ("ZeroInflated", (layers.IndependentPoisson(2),)),
    ],
)
def test_inputs_in_the_thousands_have_a_finite_loss_and_gradient(name, arguments):
    layer = getattr(layers, name)(*arguments)
    generator = np.random.default_rng(0)
    t = ops.convert_to_tensor(generator.normal(scale=1e4, size=(64, layer.num_params)), "float32")
    distribution = layer(t)
    y = np.full(distribution.shape, 0.5 if name == "IndependentBeta" else 1.0, "float32")
    log_prob, gradient = value_and_gradient(lambda t: layer(t).log_prob(y), t)
    assert np.isfinite(log_prob).all()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "dtype", ["mixed_float16", "float16", "mixed_bfloat16", *([] if ON_JAX else ["float64"])]
)
@pytest.mark.parametrize("name", ["IndependentBeta", "IndependentGamma", "IndependentStudentT"])
def test_half_precision_as_an_argument_computes_in_single(name, dtype):
    layer = getattr(layers, name)(dtype=dtype)
    t = np.linspace(-1.0, 1.0, 2 * layer.num_params).reshape(2, -1)
    expected = getattr(layers, name)(dtype=WIDE)(t).log_prob(np.array([0.25, 0.75]))
    log_prob = layer(t.astype("float16" if "16" in dtype else dtype)).log_prob(
        np.array([0.25, 0.75], "float64" if dtype == "float64" else "float32")
    )
    np.testing.assert_allclose(log_prob, expected, rtol=1e-3)
    assert layer.compute_dtype == ("float64" if dtype == "float64" else "float32")
