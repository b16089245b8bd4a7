"""The mathematics of layers with Bayesian weights: divergences, estimators, optima."""

import keras
import numpy as np
import pytest
from gradient_draws import gradient_draws
from keras import ops
from precision import ON_JAX
from probability import tfd
from repeated_batch import fit_repeatedly

from keras_extras import autodiff, layers

pytestmark = pytest.mark.both_backends(cases=1)

_DENSE = ("DenseReparameterization", "DenseFlipout", "DenseLocalReparameterization")
# All ranks are computed by one function of Keras; JAX takes long to compile each.
_RANKS = (2,) if ON_JAX else (1, 2, 3)
_CONVOLUTIONS = [(rank, kind) for rank in _RANKS for kind in ("Reparameterization", "Flipout")]


def softplus(values):
    return np.logaddexp(0.0, values)


def kernel_of(layer):
    """Location and scale of the kernel's posterior, in float64."""
    entries = {v.name: np.asarray(v, "float64") for v in layer.trainable_variables}
    loc = entries["kernel_posterior_loc"]
    return loc, softplus(entries["kernel_posterior_untransformed_scale"])


def normal_kl(loc, scale, prior_loc, prior_scale):
    """The closed form, summed over all entries."""
    ratio = scale / prior_scale
    z = (loc - prior_loc) / prior_scale
    return np.sum(0.5 * (ratio**2 + z**2 - 1.0) - np.log(ratio))


def built(layer, shape=(7,), spread=1.0):
    """The layer, with posteriors far from those it starts with."""
    layer.build((None, *shape))
    generator = np.random.default_rng(2)
    for variable in layer.trainable_variables:
        variable.assign(spread * generator.normal(size=variable.shape))
    return layer


def divergence(layer, shape=(7,)):
    layer(np.ones((2, *shape), "float32"))
    (value,) = layer.losses
    return float(value)


@pytest.mark.parametrize("name", _DENSE)
@pytest.mark.parametrize(
    ("prior", "loc", "scale"),
    [
        ("standard_normal", 0.0, 1.0),
        (tfd.Normal(0.0, 0.3), 0.0, 0.3),
        (tfd.Normal(-1.0, 2.0), -1.0, 2.0),
    ],
    ids=["standard_normal", "narrow", "shifted"],
)
def test_divergence_of_normals_is_exact_and_summed(name, prior, loc, scale):
    layer = built(getattr(layers, name)(5, kernel_prior_fn=prior))
    expected = normal_kl(*kernel_of(layer), loc, scale)
    np.testing.assert_allclose(divergence(layer), expected, rtol=1e-5)


def test_divergence_from_the_default_prior_function_and_from_a_trained_prior():
    layer = built(layers.DenseFlipout(5, kernel_prior_fn=layers.default_multivariate_normal_fn))
    np.testing.assert_allclose(divergence(layer), normal_kl(*kernel_of(layer), 0, 1), rtol=1e-5)
    layer = built(layers.DenseFlipout(5, kernel_prior_fn="trainable"))
    prior = {v.name: float(v) for v in layer.trainable_variables if "kernel_prior" in v.name}
    scale = softplus(prior["kernel_prior_untransformed_scale"])
    expected = normal_kl(*kernel_of(layer), prior["kernel_prior_loc"], scale)
    np.testing.assert_allclose(divergence(layer), expected, rtol=1e-5)


def test_the_bias_counts_if_it_has_a_prior():
    layer = built(layers.DenseFlipout(5, posterior="mean_field", prior="standard_normal"))
    bias = {v.name: np.asarray(v, "float64") for v in layer.trainable_variables}
    of_bias = normal_kl(
        bias["bias_posterior_loc"], softplus(bias["bias_posterior_untransformed_scale"]), 0, 1
    )
    expected = [normal_kl(*kernel_of(layer), 0, 1), of_bias]
    np.testing.assert_allclose(layer.losses, expected, rtol=1e-5)


def test_divergence_of_a_full_covariance_is_exact():
    scale = 0.5
    layer = built(
        layers.DenseReparameterization(
            2, kernel_posterior_fn="multivariate_normal", kernel_prior_fn=tfd.Normal(0.0, scale)
        ),
        (3,),
        spread=0.5,
    )
    inner = layer.kernel_posterior.distribution
    loc, covariance = (np.asarray(v, "float64") for v in (inner.mean(), inner.covariance()))
    _, log_determinant = np.linalg.slogdet(covariance)
    trace = (np.trace(covariance) + loc @ loc) / scale**2
    expected = 0.5 * (trace - 6 - log_determinant + 12 * np.log(scale))
    np.testing.assert_allclose(divergence(layer, (3,)), expected, rtol=1e-4)


@pytest.mark.slow
def test_divergence_from_a_scale_mixture_is_estimated_without_bias():
    layer = built(
        layers.DenseReparameterization(2, kernel_prior_fn="scale_mixture", seed=1), (3,), 0.3
    )
    estimates = np.array([divergence(layer, (3,)) for _ in range(400)])
    loc, scale = kernel_of(layer)
    draws = np.random.default_rng(0).normal(loc, scale, size=(200_000, *loc.shape))

    def log_normal(values, loc, scale):
        return -0.5 * ((values - loc) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)

    prior = np.logaddexp(log_normal(draws, 0, 1), log_normal(draws, 0, np.exp(-6.0))) - np.log(2)
    expected = np.sum(np.mean(log_normal(draws, loc, scale) - prior, axis=0))
    z = (estimates.mean() - expected) / (estimates.std() / np.sqrt(len(estimates)))
    assert abs(z) < 4.0, f"z = {z}"


@pytest.mark.parametrize("weight", [None, 0.0, 0.25])
def test_kl_weight_multiplies_the_divergence(weight):
    layer = built(layers.DenseFlipout(5, kl_weight=weight))
    factor = 1.0 if weight is None else weight
    np.testing.assert_allclose(
        divergence(layer), factor * normal_kl(*kernel_of(layer), 0, 1), rtol=1e-5
    )


def test_a_prior_of_all_weights_without_a_bias_is_that_of_the_kernel():
    layer = built(layers.DenseFlipout(5, bias_posterior_fn=None, prior="standard_normal"))
    np.testing.assert_allclose(divergence(layer), normal_kl(*kernel_of(layer), 0, 1), rtol=1e-5)


@pytest.mark.parametrize("name", [*_DENSE, "DenseVariational"])
def test_dense_layers_without_spread_are_dense(name):
    arguments = {"posterior": "deterministic"} if name == "DenseVariational" else {}
    layer = getattr(layers, name)(4, activation="tanh", **arguments)
    x = np.random.default_rng(0).normal(size=(6, 2, 3)).astype("float32")
    layer(x)
    plain = keras.layers.Dense(4, activation="tanh")
    plain.build(x.shape)
    if name == "DenseVariational":
        weights = np.random.default_rng(1).normal(size=16).astype("float32")
        layer.trainable_variables[0].assign(weights)
        plain.set_weights([weights[:12].reshape(3, 4), weights[12:]])
    else:
        _without_spread(layer, plain)
    np.testing.assert_allclose(layer(x), plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("rank", "kind"), _CONVOLUTIONS)
@pytest.mark.parametrize(
    "arguments",
    [{}, {"padding": "same", "strides": 2}, {"dilation_rate": 2}],
    ids=["valid", "same, strides", "dilation"],
)
def test_convolutions_without_spread_are_convolutions(rank, kind, arguments):
    x = np.random.default_rng(0).normal(size=(3, *(6,) * rank, 2)).astype("float32")
    layer = getattr(layers, f"Convolution{rank}D{kind}")(4, 3, **arguments)
    plain = getattr(keras.layers, f"Conv{rank}D")(4, 3, **arguments)
    layer(x)
    plain(x)
    _without_spread(layer, plain)
    np.testing.assert_allclose(layer(x), plain(x), rtol=1e-4, atol=1e-4)
    assert layer.compute_output_shape(x.shape) == tuple(plain(x).shape)


def test_a_causal_convolution_looks_back_only():
    x = np.random.default_rng(0).normal(size=(3, 6, 2)).astype("float32")
    layer = layers.Convolution1DReparameterization(4, 3, padding="causal", dilation_rate=2)
    plain = keras.layers.Conv1D(4, 3, padding="causal", dilation_rate=2)
    layer(x)
    plain(x)
    _without_spread(layer, plain)
    np.testing.assert_allclose(layer(x), plain(x), rtol=1e-4, atol=1e-4)


def _without_spread(layer, plain):
    """Gives the layer a posterior that is nearly a point, and the plain layer this point."""
    point = {}
    for variable in layer.trainable_variables:
        is_scale = variable.name.endswith("untransformed_scale")
        value = np.full(variable.shape, -30.0) if is_scale else np.asarray(variable)
        variable.assign(value)
        point[variable.name] = value
    plain.set_weights([point["kernel_posterior_loc"], point["bias_posterior_loc"]])


def gradients(make, inputs, targets, draws):
    """The gradients of many draws, of shape `(draws, weights)`, at the same posterior."""
    keras.utils.set_random_seed(3)
    layer = make()
    layer.build(inputs.shape)
    generator = np.random.default_rng(4)
    for variable in layer.trainable_variables:
        is_scale = variable.name.endswith("untransformed_scale")
        loc = -1.0 if is_scale else 0.0
        variable.assign(loc + 0.3 * generator.normal(size=variable.shape))

    def loss(outputs):
        return ops.mean(ops.square(ops.tanh(outputs) - targets))

    return gradient_draws(layer, inputs, loss, draws)


@pytest.fixture(scope="module")
def dense_gradients():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(32, 4)).astype("float32")
    y = generator.normal(size=(32, 3)).astype("float32")
    return {
        name: gradients(
            lambda name=name: getattr(layers, name)(3, bias_posterior_fn=None, seed=1), x, y, 2000
        )
        for name in _DENSE
    }


@pytest.mark.parametrize("name", _DENSE[1:])
def test_estimators_agree_in_the_mean_and_vary_less_than_the_shared_draw(dense_gradients, name):
    shared, other = dense_gradients[_DENSE[0]], dense_gradients[name]
    _check_estimators(shared, other)


def test_flipout_of_convolutions_agrees_in_the_mean_and_varies_less():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(32, 5, 5, 2)).astype("float32")
    y = generator.normal(size=(32, 3, 3, 3)).astype("float32")
    both = [
        gradients(lambda cls=cls: cls(3, 3, bias_posterior_fn=None, seed=1), x, y, 600)
        for cls in (layers.Convolution2DReparameterization, layers.Convolution2DFlipout)
    ]
    _check_estimators(*both)


def _check_estimators(shared, other):
    error = np.sqrt(shared.var(0) / len(shared) + other.var(0) / len(other))
    z = np.max(np.abs(shared.mean(0) - other.mean(0)) / error)
    assert z < 5.0, f"the largest |z| is {z}"
    ratio = other.var(0).sum() / shared.var(0).sum()
    assert ratio < 0.9, f"the variance is {ratio} of that of the shared draw"


def linear_gaussian(rows=64, noise=0.5):
    """Data of a linear model, and the mean and precision of its posterior for prior N(0, 1)."""
    generator = np.random.default_rng(5)
    x = generator.normal(size=(rows, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0.3], [0, 0, 1]])
    y = x @ [[1.0], [-2.0], [0.5]] + noise * generator.normal(size=(rows, 1))
    precision = x.T @ x / noise**2 + np.eye(3)
    mean = np.linalg.solve(precision, x.T @ y / noise**2)
    return x.astype("float32"), y.astype("float32"), mean[:, 0], precision


@pytest.mark.parametrize(
    ("name", "steps", "tolerance"),
    [("DenseLocalReparameterization", 3000, 0.01), ("DenseFlipout", 10_000, 0.02)],
)
def test_mean_field_reaches_its_known_optimum(name, steps, tolerance):
    """Mean of the posterior, and one over the diagonal of its precision as variances.

    A step of Flipout has one draw of the sizes of the noise, and its scales end less exactly.
    """
    x, y, mean, precision = linear_gaussian()
    layer = getattr(layers, name)(1, bias_posterior_fn=None, kl_weight=1 / len(x), seed=2)
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(0.02, steps),
            use_ema=name == "DenseFlipout",
            ema_momentum=0.999,
        ),
        loss=lambda y, outputs: ops.square(y - outputs) / (2 * 0.5**2),
        steps_per_execution=500,
    )
    # One batch is 32 copies of the data, which are so many draws of the noise.
    fit_repeatedly(model, np.tile(x, (32, 1)), np.tile(y, (32, 1)), steps)
    loc, scale = kernel_of(layer)
    np.testing.assert_allclose(loc[:, 0], mean, rtol=tolerance)
    np.testing.assert_allclose(scale[:, 0], np.diag(precision) ** -0.5, rtol=tolerance)


def test_a_full_covariance_reaches_the_posterior():
    x, y, mean, precision = linear_gaussian()
    layer = layers.DenseVariational(
        1, posterior="multivariate_normal", kl_weight=1 / len(x), kl_use_exact=True, use_bias=False
    )
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), layer])
    steps = 6000
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.02, steps)),
        loss=lambda y, outputs: ops.square(y - outputs) / (2 * 0.5**2),
        steps_per_execution=500,
    )
    fit_repeatedly(model, x, y, steps)
    posterior = layer.posterior.distribution
    covariance = np.linalg.inv(precision)
    spread = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(posterior.mean(), mean, atol=0.1 * spread.min())
    error = np.asarray(posterior.covariance()) - covariance
    assert np.abs(error).max() < 0.1 * spread.max() ** 2, error / spread.max() ** 2


def test_the_spread_of_inputs_of_zeros_has_finite_gradients():
    layer = layers.DenseLocalReparameterization(3)
    x = np.zeros((4, 2), "float32")
    parts = autodiff.gradient(layer, x, x[:, :1], loss=lambda y, outputs: outputs**2)
    assert all(np.isfinite(part).all() for part in parts)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.DenseFlipout(2, posterior="wide"), "`posterior` must be one of"),
        (
            lambda: layers.DenseFlipout(2, kernel_prior_fn="wide"),
            "`kernel_prior_fn` must be one of",
        ),
        (lambda: layers.DenseFlipout(2, kl_weight="automatic"), "`kl_weight` must be 'auto'"),
        (lambda: layers.DenseFlipout(2, kl_weight=-1.0), "`kl_weight` must be at least 0"),
        (lambda: layers.DenseFlipout(0), "`units` must be at least 1"),
        (
            lambda: layers.DenseFlipout(2, posterior="multivariate_normal").build((None, 3)),
            "needs a kernel whose entries are independent and normal",
        ),
        (
            lambda: layers.DenseFlipout(2, prior=tfd.Normal([0.0, 1.0], 1.0)).build((None, 3)),
            "one of a single number",
        ),
        (
            lambda: layers.DenseReparameterization(
                2, kernel_posterior_fn=lambda *_: tfd.Normal(np.zeros(5, "float32"), 1.0)
            ).build((None, 3)),
            r"event shape \(3, 2\)",
        ),
        (lambda: layers.DenseFlipout(2).build((None, None)), "last axis has a known length"),
        (
            lambda: layers.Convolution2DFlipout(2, 3).build((None, 4, 4, None)),
            "channel axis has a known length",
        ),
        (
            lambda: layers.Convolution2DFlipout(2, 3, strides=2, dilation_rate=2),
            "cannot both be greater than 1",
        ),
        (
            lambda: layers.Convolution2DFlipout(2, (3, 3, 3)),
            "`kernel_size` must be an integer or 2",
        ),
        (lambda: layers.Convolution2DFlipout(2, 3, padding="causal"), "`padding` must be one of"),
        (
            lambda: layers.DenseVariational(2, "mean_field", posterior="mean_field"),
            "two words for one argument",
        ),
        (lambda: layers.DenseVariational(2, posterior="wide"), "`posterior` must be one of"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_posterior_function_of_the_wrong_size_is_named():
    def make_posterior(kernel_size, bias_size, dtype=None):
        return keras.Sequential(
            [layers.VariableLayer(2 * kernel_size), layers.IndependentNormal(kernel_size)]
        )

    layer = layers.DenseVariational(2, make_posterior, "standard_normal")
    with pytest.raises(ValueError, match=r"`make_posterior_fn`.*event shape \(8,\)"):
        layer(np.zeros((4, 3), "float32"))


@pytest.mark.parametrize(
    "make",
    [
        lambda **options: layers.DenseReparameterization(2, **options),
        lambda **options: layers.DenseVariational(2, posterior="mean_field", **options),
    ],
)
def test_what_was_built_frozen_can_be_trained_later(make):
    layer, always = make(trainable=False), make()
    for one in (layer, always):
        one(np.ones((1, 3), "float32"))
    assert layer.trainable_variables == []
    layer.trainable = True
    assert len(layer.trainable_variables) == len(always.trainable_variables) > 0


def test_a_posterior_that_depends_on_the_inputs_has_a_kernel_for_each_row():
    def posterior(kernel_size, bias_size, dtype):
        size = kernel_size + bias_size
        return keras.Sequential(
            [keras.layers.Dense(size), layers.DistributionLambda(as_point, "mean")]
        )

    def as_point(t):
        return tfd.Independent(tfd.Normal(t, 1.0), 1)

    layer = layers.DenseVariational(2, posterior, "standard_normal")
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    outputs = layer(x)
    weights = np.asarray(layer.posterior.layers[0](x))
    kernels, biases = weights[:, :6].reshape(5, 3, 2), weights[:, 6:]
    np.testing.assert_allclose(outputs, np.einsum("ni,nij->nj", x, kernels) + biases, rtol=1e-5)
