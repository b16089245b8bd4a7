"""Variational and make_variational: uncertain weights for any layer, on both backends."""

import keras
import numpy as np
import pytest
from contract_support import saved_and_loaded
from keras import ops
from precision import ON_JAX
from probability import tfd

import keras_extras
from keras_extras import autodiff
from keras_extras.layers import DenseReparameterization, MCDropout, Variational

pytestmark = pytest.mark.both_backends

_ROWS = np.random.default_rng(0).normal(size=(6, 5, 4)).astype("float32")
_TINY = 1e-7


def array(tensor):
    return np.asarray(ops.convert_to_numpy(tensor))


def normal_kl(loc, scale, prior_loc=0.0, prior_scale=1.0):
    ratio, z = scale / prior_scale, (loc - prior_loc) / prior_scale
    return float(np.sum(0.5 * (z**2 + ratio**2) - np.log(ratio) - 0.5))


def softplus(values):
    return np.finfo("float32").eps + np.logaddexp(0.0, array(values))


@keras.saving.register_keras_serializable("test_variational_wrapper")
class Scaled(keras.layers.Layer):
    """A layer of a user, without `build`, with a layer inside and a loss."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = keras.layers.Dense(units)

    def call(self, inputs):
        self.add_loss(ops.mean(inputs) ** 2)
        return 2.0 * self.dense(inputs)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


LAYERS = {
    "LSTM": lambda: keras.layers.LSTM(3, return_sequences=True, dropout=0.3),
    "Bidirectional": lambda: keras.layers.Bidirectional(keras.layers.SimpleRNN(3)),
    "Conv1DTranspose": lambda: keras.layers.Conv1DTranspose(2, 2),
    "EinsumDense": lambda: keras.layers.EinsumDense("abc,cd->abd", (5, 2)),
    "LayerNormalization": keras.layers.LayerNormalization,
    "BatchNormalization": keras.layers.BatchNormalization,
    "model": lambda: keras.Sequential([keras.layers.Dense(3), keras.layers.Conv1D(2, 2)]),
    "user's": lambda: Scaled(2),
}


# Keras warns of the user's layer when it loads it.
@pytest.mark.filterwarnings("ignore:`build:UserWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_any_layer_computes_with_one_draw_trains_and_loads(name):
    layer = Variational(LAYERS[name](), seed=1)
    inputs = keras.Input((5, 4))
    outputs = layer(inputs)
    model = keras.Model(inputs, keras.layers.Flatten()(outputs))
    assert outputs.shape == layer.layer(inputs).shape
    plain, drawn = array(layer.layer(_ROWS)), array(layer(_ROWS))
    assert drawn.shape == plain.shape
    assert not np.allclose(plain, drawn, atol=1e-4)
    model.compile("adam", "mse", jit_compile=keras.backend.backend() == "jax")
    before = [array(v) for v in layer.trainable_variables]
    model.fit(_ROWS, np.ones((6, *model.output_shape[1:])), verbose=0)
    assert float(array(layer.training_set_size)) == 6.0
    for variable, old in zip(layer.trainable_variables, before, strict=True):
        assert not np.array_equal(array(variable), old), variable.path
    loaded = saved_and_loaded(model)
    for one, other in zip(model.variables, loaded.variables, strict=True):
        if one.name == "seed_generator_state":
            other.assign(one)
    np.testing.assert_allclose(array(model(_ROWS)), array(loaded(_ROWS)), rtol=1e-5, atol=1e-6)


def test_without_variance_it_is_the_plain_layer():
    for name, make in LAYERS.items():
        layer = Variational(make(), initial_stddev=_TINY)
        np.testing.assert_allclose(
            array(layer(_ROWS)), array(layer.layer(_ROWS)), atol=1e-5, err_msg=name
        )


def _pair():
    wrapped = Variational(keras.layers.Dense(3, "tanh"), kl_weight=0.01, seed=7)
    dense = DenseReparameterization(
        3, "tanh", posterior="mean_field", prior="standard_normal", kl_weight=0.01, seed=7
    )
    for layer in (wrapped, dense):
        layer.build((None, 5, 4))
    kernel_loc, kernel_scale, bias_loc, bias_scale = dense.trainable_variables
    pairs = [*zip(wrapped.trainable_variables, (kernel_scale, bias_scale, kernel_loc, bias_loc))]
    for one, other in pairs:
        one.assign(other)
    return wrapped, dense, pairs


def test_a_dense_layer_equals_dense_reparameterization():
    wrapped, dense, pairs = _pair()
    for _ in range(2):
        results = []
        for layer, variables in zip((wrapped, dense), zip(*pairs)):
            gradients = autodiff.gradient(layer, _ROWS, np.zeros((6, 5, 3)), loss="mse")
            by_variable = dict(zip(map(id, layer.trainable_variables), gradients))
            outputs = layer(_ROWS)
            results.append(
                [outputs, sum(layer.losses), *(by_variable[id(variable)] for variable in variables)]
            )
        for one, other in zip(*results, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prior", ["standard_normal", "pretrained", "trainable"])
def test_divergences_have_their_closed_form(prior):
    layer = Variational(keras.layers.Dense(3), {"*kernel": "mean_field"}, prior, kl_weight=0.5)
    layer(_ROWS)
    kernel, scale = array(layer.layer.kernel), softplus(layer.trainable_variables[0])
    assert scale == pytest.approx(
        np.maximum(0.1 * np.abs(kernel), 1e-3) if prior == "pretrained" else 0.05, rel=1e-3
    )
    layer.layer.kernel.assign(kernel + 1.0)
    center = kernel if prior == "pretrained" else 0.0
    (loss,) = layer.losses
    assert float(loss) == pytest.approx(0.5 * normal_kl(kernel + 1.0, scale, center), rel=1e-4)
    layer.reset_posterior()
    scale = softplus(layer.trainable_variables[0])
    center = kernel + 1.0 if prior == "pretrained" else 0.0
    expected = 0.5 * normal_kl(kernel + 1.0, scale, center)
    assert float(layer.losses[0]) == pytest.approx(expected, rel=1e-4)


def test_a_mixture_is_estimated_and_a_point_pays_its_density():
    layer = Variational(
        keras.layers.Dense(20, use_bias=False), prior="scale_mixture", kl_weight=1.0
    )
    layer(_ROWS)
    loc, scale = array(layer.layer.kernel), softplus(layer.trainable_variables[0])
    w = loc + scale * np.random.default_rng(0).normal(size=(4000, *loc.shape))

    def log_normal(w, loc, scale):
        return -0.5 * ((w - loc) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)

    def log_prior(w):
        return np.logaddexp(log_normal(w, 0, 1), log_normal(w, 0, np.exp(-6.0))) - np.log(2.0)

    rows = np.sum(log_normal(w, loc, scale) - log_prior(w), axis=(1, 2))
    estimates = [float(layer.losses[0]) for _ in range(200)]
    error = np.hypot(rows.std() / 4000**0.5, np.std(estimates) / 200**0.5)
    z = (np.mean(estimates) - rows.mean()) / error
    assert abs(z) < 4.0, z
    for prior, density in {
        "scale_mixture": log_prior,
        "standard_normal": lambda w: log_normal(w, 0.0, 1.0),
    }.items():
        point = Variational(keras.layers.Dense(3), "deterministic", prior, kl_weight=1.0)
        np.testing.assert_array_equal(array(point(_ROWS)), array(point.layer(_ROWS)))
        expected = -sum(np.sum(density(array(v))) for v in point.layer.weights)
        assert float(sum(point.losses)) == pytest.approx(expected, rel=1e-4)


def test_a_distribution_as_prior_by_pattern():
    prior = {"*kernel": tfd.Normal(0.5, 2.0), "*": "standard_normal"}
    layer = Variational(keras.layers.Dense(3), prior=prior, kl_weight=1.0)
    model = keras.Sequential([keras.Input((5, 4)), layer])
    scales = [softplus(v) for v in layer.trainable_variables[:2]]
    kernel, bias = map(array, layer.layer.weights)
    expected = normal_kl(kernel, scales[0], 0.5, 2.0) + normal_kl(bias, scales[1])
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-4)
    loaded = saved_and_loaded(model)
    assert float(sum(loaded.losses)) == pytest.approx(expected, rel=1e-4)


def test_states_and_masks_pass_through():
    layer = Variational(keras.layers.LSTM(3, return_state=True, return_sequences=True), seed=1)
    states = [np.full((6, 3), value, "float32") for value in (0.5, -0.5)]
    inputs = keras.Input((5, 4))
    symbols = layer(inputs, initial_state=[keras.Input((3,)), keras.Input((3,))])
    assert [symbol.shape for symbol in symbols] == [(None, 5, 3), (None, 3), (None, 3)]
    layer.seed_generator.state.assign([1, 0])
    outputs, hidden, _ = map(array, layer(_ROWS, initial_state=states))
    np.testing.assert_array_equal(outputs[:, -1], hidden)
    layer.seed_generator.state.assign([1, 0])
    assert not np.allclose(outputs, array(layer(_ROWS)[0]))

    rows = _ROWS.copy()
    rows[0, 2:] = 0.0
    plain = keras.layers.LSTM(3)
    masked = keras.Sequential([keras.layers.Masking(), Variational(plain, initial_stddev=_TINY)])
    one, other = array(masked(rows)), array(plain(rows))
    np.testing.assert_allclose(one[1:], other[1:], atol=1e-5)
    np.testing.assert_allclose(one[0], array(plain(rows[:1, :2]))[0], atol=1e-5)

    words = np.array([[1, 2, 0]])
    embedding = Variational(keras.layers.Embedding(7, 3, mask_zero=True))
    pooled = keras.layers.GlobalAveragePooling1D()
    assert embedding.supports_masking
    np.testing.assert_array_equal(array(embedding.compute_mask(words, None)), words != 0)
    embedding.build((1, 3))
    embedding.reset_posterior()
    sequence = keras.Sequential([embedding, pooled])
    for _ in range(2):
        embedding.seed_generator.state.assign([3, 0])
    short = array(sequence(words))
    embedding.seed_generator.state.assign([3, 0])
    np.testing.assert_allclose(short, array(sequence(words[:, :2])), rtol=1e-5)


def test_a_stateful_layer_keeps_its_states():
    plain = keras.layers.GRU(3, stateful=True)
    layer = Variational(plain, initial_stddev=_TINY)
    outputs = [array(layer(_ROWS)) for _ in range(2)]
    plain.reset_state()
    for expected in outputs:
        np.testing.assert_allclose(expected, array(plain(_ROWS)), atol=1e-5)


def test_several_inputs_by_position_and_name():
    layer = Variational(keras.layers.MultiHeadAttention(2, 3), initial_stddev=_TINY)
    expected = array(layer(_ROWS, _ROWS[:, :3]))
    by_name = array(layer(query=_ROWS, value=_ROWS[:, :3]))
    np.testing.assert_allclose(expected, by_name, atol=1e-5)
    query, value = keras.Input((5, 4)), keras.Input((3, 4))
    model = saved_and_loaded(keras.Model([query, value], layer(query, value)))
    np.testing.assert_allclose(expected, array(model([_ROWS, _ROWS[:, :3]])), atol=1e-5)


def test_training_reaches_the_layer_and_its_statistics():
    normalization = Variational(keras.layers.BatchNormalization(momentum=0.5), kl_weight=1.0)
    normalization(_ROWS, training=True)
    mean = array(normalization.layer.moving_mean)
    np.testing.assert_allclose(mean, 0.5 * _ROWS.mean((0, 1)), rtol=1e-4, atol=1e-6)
    normalization(_ROWS)
    np.testing.assert_array_equal(mean, array(normalization.layer.moving_mean))
    assert len(normalization.trainable_variables) == 4

    inner = keras.Sequential([keras.layers.Dense(3), keras.layers.Dropout(0.5)])
    dropout = Variational(inner, kl_weight=1.0)
    dropped = [array(dropout(_ROWS, training=True)) == 0.0 for _ in range(2)]
    assert dropped[0].any()
    assert not np.array_equal(*dropped)
    assert not (array(dropout(_ROWS)) == 0.0).any()


def test_losses_of_the_layer_and_its_divergence_count_once():
    dense = keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.1))
    layer = Variational(keras.Sequential([dense, Scaled(2)]), kl_weight=0.5)
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, layer(inputs) + layer(2.0 * inputs))
    model(_ROWS)
    weights = layer.layer.weights
    scales = layer.trainable_variables[: len(weights)]
    pairs = zip(map(array, weights), map(softplus, scales), strict=True)
    divergence = 0.5 * sum(normal_kl(loc, scale) for loc, scale in pairs)
    penalty = 0.1 * np.sum(array(dense.kernel) ** 2)
    assert len(model.losses) == len(weights) + 3  # of two calls, and the regularizer
    activity = sum(map(float, model.losses)) - divergence - penalty
    assert activity >= -1e-4
    model.compile("sgd", loss=lambda y, y_pred: 0.0 * ops.sum(y_pred), jit_compile=False)
    loss = model.evaluate(_ROWS, np.zeros((6, 5, 2)), verbose=0)
    assert loss == pytest.approx(divergence + penalty + activity, abs=0.2)


def test_what_no_pattern_matches_and_what_is_frozen():
    layer = Variational(keras.layers.Dense(3), {"*kernel": "mean_field"}, seed=1)
    layer(np.zeros((2, 4), "float32"))
    layer.layer.bias.assign([1.0, 2.0, 3.0])
    np.testing.assert_allclose(array(layer(np.zeros((1, 4), "float32"))), [[1.0, 2.0, 3.0]])
    names = [variable.name for variable in layer.trainable_variables]
    assert names == ["kernel_posterior_untransformed_scale", "kernel", "bias"]
    layer.trainable = False
    model = keras.Sequential([keras.Input((4,)), layer])
    assert not model.trainable_variables
    assert not model.losses
    assert len(model.layers[0].weights) == len(saved_and_loaded(model).weights)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_draws_keep_the_precision_of_the_weights(policy):
    keras.config.set_dtype_policy(policy)
    layer = Variational(keras.layers.Dense(3), initial_stddev=1e-6, kl_weight="auto")
    model = keras.Sequential([keras.Input((5, 4)), layer])
    outputs = layer(_ROWS)
    assert keras.backend.standardize_dtype(outputs.dtype) == policy.removeprefix("mixed_")
    assert {variable.dtype for variable in layer.weights} == {"float32"}
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(_ROWS, np.zeros((6, 5, 3)), verbose=0)
    layer.layer.kernel.assign(np.full((4, 3), 1.0 + 1e-4))  # which half precision rounds
    loc, scale = array(layer.layer.kernel), softplus(layer.trainable_variables[0])
    layer(_ROWS)
    assert float(layer.losses[0]) == pytest.approx(normal_kl(loc, scale) / 6, rel=1e-5)


def test_equal_seeds_draw_the_same_and_calls_differ():
    keras.utils.set_random_seed(1)
    one = Variational(keras.layers.Dense(3, kernel_initializer="ones"), seed=3)
    other = Variational(keras.layers.Dense(3, kernel_initializer="ones"), seed=3)
    first = array(one(_ROWS))
    np.testing.assert_array_equal(first, array(other(_ROWS)))
    assert not np.array_equal(first, array(one(_ROWS)))


def test_auto_needs_to_know_the_rows():
    model = keras.Sequential([keras.Input((5, 4)), Variational(keras.layers.Dense(1))])
    model.compile("sgd", "mse", jit_compile=False)

    def batches():
        while True:
            yield _ROWS, np.zeros((6, 5, 1))

    model.fit(batches(), steps_per_epoch=2, shuffle=False, verbose=0)
    assert float(array(model.layers[0].training_set_size)) == 12.0
    layer = Variational(keras.layers.Dense(1))
    with pytest.raises(ValueError, match="scales by the size of the training set"):
        layer(_ROWS, training=True)
    layer.training_set_size.assign(100.0)
    layer(_ROWS, training=True)


def test_warm_up_of_the_divergence():
    layer = Variational(keras.layers.Dense(1), kl_weight=1.0)
    model = keras.Sequential([keras.Input((5, 4)), layer])
    model.compile("sgd", loss=lambda y, y_pred: 0.0 * ops.sum(y_pred), jit_compile=False)
    warm_up = keras_extras.callbacks.KLWarmUp(2)
    losses = model.fit(_ROWS, np.zeros((6, 5, 1)), epochs=3, callbacks=[warm_up], verbose=0)
    first, second, third = losses.history["loss"]
    assert first == 0.0
    assert 0.0 < second < third


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (lambda: {"layer": "dense"}, TypeError, "`layer` must be a Keras layer.*'dense'"),
        (lambda: {"layer": Variational(keras.layers.Dense(2))}, ValueError, "must have plain"),
        (
            lambda: {"layer": keras.Sequential([Variational(keras.layers.Dense(2))])},
            ValueError,
            "must have plain weights",
        ),
        (lambda: {"posterior": "normal"}, ValueError, "must be one of 'mean_field', 'determin"),
        (lambda: {"posterior": {"*": "normal"}}, ValueError, "must be one of 'mean_field'"),
        (lambda: {"posterior": 1}, TypeError, "`posterior` must be one of"),
        (lambda: {"prior": "normal"}, ValueError, "must be one of 'standard_normal', 'pretr"),
        (lambda: {"prior": None}, TypeError, "`prior` must be one of"),
        (lambda: {"prior": {"*": 3.0}}, TypeError, "`prior` must be one of"),
        (lambda: {"kl_weight": "rows"}, ValueError, "`kl_weight` must be 'auto'"),
        (lambda: {"initial_stddev": 0.0}, ValueError, "`initial_stddev` must be greater than 0"),
    ],
)
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        Variational(**{"layer": keras.layers.Dense(2), **arguments()})


def test_bad_layers_and_patterns_when_built():
    with pytest.raises(ValueError, match=r"needs a layer with trainable weights.*'drop'"):
        Variational(keras.layers.Dropout(0.5, name="drop"))(_ROWS)
    with pytest.raises(ValueError, match=r"'\*/gamma', which matches none of .*/kernel'.*/bias'"):
        Variational(keras.layers.Dense(2), {"*/gamma": "mean_field"})(_ROWS)
    with pytest.raises(ValueError, match=r"must have a pattern for each weight.*bias"):
        Variational(keras.layers.Dense(2), prior={"*/kernel": "pretrained"})(_ROWS)
    with pytest.raises(ValueError, match="call it on data first"):
        Variational(keras.layers.Dense(2)).reset_posterior()


def test_bayesian_layers_are_not_wrapped():
    with pytest.raises(ValueError, match="must have plain weights"):
        Variational(DenseReparameterization(2))


def _trained():
    """A functional model with nested, shared, normalizing and random parts."""
    shared = keras.layers.Dense(4, "tanh", name="shared")
    block = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(4), keras.layers.BatchNormalization()], name="block"
    )
    one, other = keras.Input((5, 4), name="one"), keras.Input((4,), name="other")
    features = keras.layers.Flatten()(keras.layers.Conv1D(4, 5, name="conv")(one))
    joined = block(shared(features) + shared(other))
    joined = keras.layers.Dropout(0.5)(joined)
    model = keras.Model([one, other], keras.layers.Dense(1, name="last")(joined))
    model.compile(keras.optimizers.Adam(0.01), loss=lambda y, p: ops.mean((y - p) ** 2, -1))
    x = [_ROWS, _ROWS[:, 0]]
    model.fit(x, np.ones((6, 1)), epochs=2, verbose=0)
    return model, x


def test_a_trained_model_becomes_variational():
    model, x = _trained()
    before, expected = model.get_weights(), array(model(x))
    uncertain = keras_extras.make_variational(model, initial_stddev=_TINY, seed=1)
    np.testing.assert_allclose(array(uncertain(x)), expected, atol=1e-5)
    wrapped = [layer.name for layer in uncertain.layers if isinstance(layer, Variational)]
    assert sorted(wrapped) == ["conv", "last", "shared"]
    assert isinstance(uncertain.get_layer("block").layers[0], Variational)
    uncertain.compile("adam", "mse")
    uncertain.fit(x, np.ones((6, 1)), verbose=0)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(expected, array(model(x)))
    loaded = saved_and_loaded(uncertain)
    np.testing.assert_allclose(array(uncertain(x)), array(loaded(x)), atol=1e-5)


def test_the_prior_is_centered_on_the_trained_weights():
    model, _ = _trained()
    uncertain = keras_extras.make_variational(model, {"conv/*": "mean_field", "last/kernel": None})
    (wrapped,) = [layer for layer in uncertain.layers if isinstance(layer, Variational)]
    weights = model.get_layer("conv").get_weights()
    divergence = sum(normal_kl(w, np.maximum(0.1 * np.abs(w), 1e-3), w) for w in weights)
    wrapped.training_set_size.assign(10.0)
    assert float(sum(uncertain.losses)) == pytest.approx(divergence / 10.0, rel=1e-3)


def test_priors_by_pattern_of_a_model():
    model, _ = _trained()
    prior = {"last/kernel": "standard_normal", "*": "pretrained"}
    uncertain = keras_extras.make_variational(model, prior=prior, kl_weight=1.0)
    last = uncertain.get_layer("last")
    kernel, bias = model.get_layer("last").get_weights()
    scales = [softplus(variable) for variable in last.trainable_variables[:2]]
    expected = normal_kl(kernel, scales[0]) + normal_kl(bias, scales[1], bias)
    assert float(sum(last.losses)) == pytest.approx(expected, rel=1e-3)


def test_some_weights_of_a_layer_and_frozen_layers():
    model, _ = _trained()
    model.get_layer("conv").trainable = False
    uncertain = keras_extras.make_variational(model, ["*kernel"])
    assert not isinstance(uncertain.get_layer("conv"), Variational)
    assert not uncertain.get_layer("conv").trainable_variables
    names = [v.name for v in uncertain.get_layer("last").trainable_variables]
    assert names == ["kernel_posterior_untransformed_scale", "kernel", "bias"]
    with pytest.raises(ValueError, match=r"'nowhere', which matches none of .*shared/kernel"):
        keras_extras.make_variational(model, "nowhere")
    with pytest.raises(TypeError, match="`patterns` must be a pattern"):
        keras_extras.make_variational(model, [1])
    model.trainable = False
    with pytest.raises(ValueError, match="must have trainable weights"):
        keras_extras.make_variational(model)
    with pytest.raises(TypeError, match="must be a functional or Sequential"):
        keras_extras.make_variational(keras.layers.Dense(2))
    with pytest.raises(ValueError, match="`model` must be built"):
        keras_extras.make_variational(keras.Sequential([keras.layers.Dense(2)]))


def test_layers_of_a_user_and_functions_are_copied():
    model = keras.Sequential(
        [
            keras.layers.Normalization(),
            Scaled(3),
            keras.layers.Lambda(lambda t: 2.0 * t, output_shape=(5, 3)),
            MCDropout(0.5, seed=1),
        ]
    )
    model.layers[0].adapt(_ROWS)
    model.build((None, 5, 4))
    uncertain = keras_extras.make_variational(model, initial_stddev=_TINY)
    for one in (model, uncertain):
        one.layers[-1].seed_generator.state.assign([1, 0])
    np.testing.assert_allclose(array(uncertain(_ROWS)), array(model(_ROWS)), rtol=1e-4, atol=1e-4)


def test_predictions_of_a_variational_model():
    model, x = _trained()
    uncertain = keras_extras.make_variational(model, seed=1)
    prediction = keras_extras.predict_distribution(uncertain, x, num_samples=100, seed=2)
    assert np.all(np.asarray(prediction.epistemic_variance()) > 0.0)
    again = keras_extras.predict_distribution(uncertain, x, num_samples=100, seed=2)
    np.testing.assert_array_equal(prediction.mean(), again.mean())
    calls = np.array([array(uncertain(x)) for _ in range(100)])
    z = (calls.mean(0) - prediction.mean()) / (calls.std(0) * (2 / 100) ** 0.5)
    assert np.abs(z).max() < 4.5


@pytest.mark.skipif(ON_JAX, reason="one training: its draws are those of TensorFlow")
def test_intervals_of_a_time_series_cover_what_they_say():
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    noise, window, n = 0.3, 5, 700
    series = np.zeros(n + window)
    for t in range(2, len(series)):
        series[t] = 1.2 * series[t - 1] - 0.5 * series[t - 2] + noise * generator.normal()
    x = np.stack([series[i : i + window] for i in range(n)])[..., None].astype("float32")
    y = series[window:, None].astype("float32")
    model = keras.Sequential(
        [
            keras.Input((window, 1)),
            Variational(keras.layers.LSTM(8), seed=1),
            Variational(keras.layers.Dense(2), seed=2),
            keras_extras.layers.IndependentNormal(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), loss=lambda y, rv: -rv.log_prob(y))
    model.fit(x[:350], y[:350], epochs=30, batch_size=50, verbose=0)
    prediction = keras_extras.predict_distribution(model, x[350:], num_samples=20, seed=3)
    lower, upper = prediction.interval(0.9)
    coverage = np.mean((y[350:] >= lower) & (y[350:] <= upper))
    assert 0.85 <= coverage <= 0.95, coverage
