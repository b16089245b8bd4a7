"""MonteCarloOptimizer in stock `fit`, with every kind of model and loss."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from tiers import UNCOMPILED, quick

from keras_extras.optimizers import MonteCarloOptimizer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(128, 6)).astype("float32")
Y = (X @ RNG.normal(size=(6, 1)) + 0.5).astype("float32")
IMAGES = RNG.normal(size=(64, 8, 8, 1)).astype("float32")
CLASSES = (IMAGES.mean((1, 2, 3)) > 0).astype("int32")
TOKENS = RNG.integers(1, 20, (64, 7))
SUMS = (TOKENS > 10).mean(1, keepdims=True).astype("float32")


def optimizer(learning_rate=0.05, population_size=64, **kwargs):
    return MonteCarloOptimizer(learning_rate, population_size, seed=0, **kwargs)


def assert_learns(model, x, y, loss="mse", epochs=8, to=0.7, **kwargs):
    compile_names = ("jit_compile", "run_eagerly", "metrics", "loss_weights")
    compile_kwargs = {name: kwargs.pop(name) for name in compile_names if name in kwargs}
    model.compile(
        kwargs.pop("optimizer", None) or optimizer(), loss, **{**UNCOMPILED, **compile_kwargs}
    )
    history = model.fit(x, y, batch_size=32, epochs=epochs, verbose=0, **kwargs).history
    assert history["loss"][-1] < to * history["loss"][0]
    assert "nonfinite_candidates" not in history
    return history


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(8, activation="relu")
        self.head = layers.Dense(1)

    def call(self, x):
        return self.head(self.hidden(x))


def test_sequential_that_is_built_by_fit():
    assert_learns(keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(1)]), X, Y)


def test_functional():
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="tanh")(inputs)
    assert_learns(keras.Model(inputs, layers.Add()([hidden, layers.Dense(8)(inputs)])), X, Y)


def test_subclassed():
    assert_learns(Subclassed(), X, Y)


def test_several_inputs_and_outputs_with_losses_and_weights_of_their_own():
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    hidden = layers.Dense(4)(layers.Concatenate()([a, b]))
    outputs = {
        "value": layers.Dense(1, name="value")(hidden),
        "side": layers.Dense(1, activation="sigmoid", name="side")(hidden),
    }
    history = assert_learns(
        keras.Model([a, b], outputs),
        {"a": X, "b": X[::-1]},
        {"value": Y, "side": (Y > 0).astype("float32")},
        {"value": "mse", "side": "binary_crossentropy"},
        metrics={"side": "accuracy"},
        loss_weights={"value": 1.0, "side": 0.5},
    )
    total = np.add(history["value_loss"], 0.5 * np.array(history["side_loss"]))
    np.testing.assert_allclose(history["loss"], total, rtol=1e-4)


def image_model():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(momentum=0.8),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.1),
            layers.Dense(2, activation="softmax"),
        ]
    )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_convolution_batch_normalization_and_dropout(jit_compile):
    model = image_model()
    assert_learns(
        model,
        IMAGES,
        CLASSES,
        "sparse_categorical_crossentropy",
        jit_compile=jit_compile,
        epochs=12,
    )
    normalization = model.layers[1]
    assert np.abs(normalization.moving_mean.numpy()).max() > 1e-3


@pytest.mark.parametrize("cell", quick([layers.LSTM, layers.GRU], layers.LSTM))
def test_embedding_and_recurrent_layers(cell):
    model = keras.Sequential([keras.Input((7,)), layers.Embedding(20, 3), cell(4), layers.Dense(1)])
    assert_learns(model, TOKENS, SUMS, to=0.5, epochs=12)


def test_masks_reach_the_layers_that_use_them():
    """What stands behind the end of a sequence changes nothing, in no candidate."""

    def losses(padding):
        keras.utils.set_random_seed(1)
        tokens = TOKENS.copy()
        tokens[:, 4:] = 0
        model = keras.Sequential(
            [
                keras.Input((7,)),
                layers.Embedding(20, 3, mask_zero=True, name="embedding"),
                layers.GlobalAveragePooling1D(),
                layers.Dense(1),
            ]
        )
        table = model.layers[0].get_weights()[0]
        table[0] = padding
        model.layers[0].set_weights([table])
        return assert_learns(model, tokens, SUMS, to=0.9, shuffle=False)["loss"]

    np.testing.assert_allclose(losses(0.0), losses(50.0), rtol=1e-4)


def test_masked_time_steps_are_left_out_of_the_loss():
    x = RNG.normal(size=(32, 5, 3)).astype("float32")
    x[:, 3:] = 0.0
    y = np.where(x.any(-1, keepdims=True), x.sum(-1, keepdims=True), 1e6).astype("float32")
    model = keras.Sequential(
        [keras.Input((5, 3)), layers.Masking(), layers.TimeDistributed(layers.Dense(1))]
    )
    history = assert_learns(model, x, y, epochs=40)
    assert history["loss"][-1] < 1


@pytest.mark.parametrize("how", quick(["sample_weight", "class_weight"], "class_weight"))
def test_weights_decide_what_is_learnt(how):
    """Rows of class 1 say 5, rows of class 0 say 0; the heavier class wins."""
    x = np.ones((640, 1), "float32")
    labels = np.arange(640) % 2
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    weights = (
        {"sample_weight": np.where(labels, 9.0, 1.0)}
        if how == "sample_weight"
        else {"class_weight": {0: 1.0, 1: 9.0}}
    )
    loss = lambda y, y_pred: (5 * ops.cast(y, "float32") - y_pred) ** 2  # noqa: E731
    model.compile(optimizer(0.1), loss, **UNCOMPILED)
    model.fit(x, labels[:, None], batch_size=64, epochs=20, verbose=0, **weights)
    assert model.get_weights()[0] == pytest.approx(4.5, abs=0.2)


def test_losses_of_layers_and_regularizers_count_in_every_candidate():
    class Pull(layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight(shape=(), name="w")

        def call(self, x):
            self.add_loss((self.w - 3.0) ** 2)
            return x * 0.0 + 0.0 * self.w

    model = keras.Sequential(
        [
            keras.Input((6,)),
            Pull(),
            layers.Dense(1, kernel_regularizer=keras.regularizers.L2(1.0), use_bias=False),
        ]
    )
    model.compile(optimizer(0.1), "mse", **UNCOMPILED)
    model.fit(X, 0 * Y, batch_size=32, epochs=60, verbose=0)
    w, kernel = model.get_weights()
    assert w == pytest.approx(3.0, abs=0.1)
    assert np.abs(kernel).max() < 0.1


def test_frozen_layers_stay_as_they_are():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(6, name="frozen"), layers.Dense(1)])
    model.layers[0].trainable = False
    before = model.layers[0].get_weights()
    assert_learns(model, X, Y)
    for a, b in zip(before, model.layers[0].get_weights()):
        np.testing.assert_array_equal(a, b)


def test_a_model_without_trainable_weights_is_an_error():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(1)])
    model.trainable = False
    model.compile(optimizer(), "mse")
    with pytest.raises(ValueError, match="no trainable variables"):
        model.fit(X, Y, verbose=0)


def test_run_eagerly():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(1)])
    assert_learns(model, X[:64], Y[:64], run_eagerly=True, epochs=4, to=0.95)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(1, dtype="float32")]
    )
    assert_learns(model, X, Y)
    assert model.weights[0].dtype == "float32"


@pytest.mark.parametrize(
    "decide",
    [
        lambda score: ops.cast(score > 0, "float32"),
        lambda score: ops.round(ops.sigmoid(score)),
        lambda score: ops.cast(
            ops.argmax(ops.concatenate([-score, score], -1), -1, keepdims=True), "float32"
        ),
    ],
    ids=["0-1", "rounding", "argmax"],
)
def test_losses_without_a_gradient(decide):
    """A linear classifier on the share of wrong decisions itself."""
    labels = (Y > 0.5).astype("float32")
    model = keras.Sequential([keras.Input((6,)), layers.Dense(1)])
    model.compile(
        optimizer(0.05, 128, sigma=0.3),
        loss=lambda y, score: ops.mean(ops.abs(y - decide(score))),
    )
    model.fit(X, labels, batch_size=128, epochs=60, verbose=0)
    assert model.evaluate(X, labels, verbose=0) <= 0.06


def test_dropout_gives_every_candidate_the_same_mask():
    """With common random numbers, candidates equal in all weights that matter have equal loss."""
    model = keras.Sequential([keras.Input((6,)), layers.Dropout(0.5, seed=1)])
    with keras.name_scope("scale"):
        w = keras.Variable(1.0, name="w")
    seen = []

    class Recording(MonteCarloOptimizer):
        def search(self, loss_of, variables):
            seen.append(ops.vectorized_map(loss_of, [ops.ones(16)]))

    Recording(population_size=4).minimize(lambda: ops.sum(model(X, training=True) * w), [w])
    losses = ops.convert_to_numpy(seen[0])
    assert np.ptp(losses) == 0
