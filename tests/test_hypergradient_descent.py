"""HypergradientSGD and HypergradientAdam: the paper's algorithms in NumPy, and life in `fit`."""

import keras
import numpy as np
import pytest
from contract_support import saved_and_loaded
from keras import ops
from precision import tf
from sklearn.datasets import load_digits

from keras_extras.optimizers import HypergradientAdam, HypergradientSGD

MATRIX = np.array([[2.0, 0.3], [0.3, 0.5]])
START = np.array([1.0, -3.0])


def _adam(t, gradient, state, beta_1=0.9, beta_2=0.999):
    state["m"] = beta_1 * state.get("m", 0.0) + (1 - beta_1) * gradient
    state["s"] = beta_2 * state.get("s", 0.0) + (1 - beta_2) * gradient**2
    corrected = np.sqrt(state["s"] / (1 - beta_2**t))
    return state["m"] / (1 - beta_1**t) / corrected


def _momentum(t, gradient, state):
    state["v"] = 0.9 * state.get("v", 0.0) + gradient
    return state["v"]


CASES = {
    "SGD": (HypergradientSGD, {}, lambda t, gradient, state: gradient),
    "momentum": (HypergradientSGD, {"momentum": 0.9}, _momentum),
    "nesterov": (
        HypergradientSGD,
        {"momentum": 0.9, "nesterov": True},
        lambda t, gradient, state: gradient + 0.9 * _momentum(t, gradient, state),
    ),
    "Adam": (HypergradientAdam, {"epsilon": 1e-12}, _adam),
}


@pytest.mark.parametrize("rule", ["additive", "multiplicative"])
@pytest.mark.parametrize("name", CASES)
def test_updates_are_those_of_the_paper(name, rule):
    optimizer_class, arguments, direction_of = CASES[name]
    optimizer = optimizer_class(
        0.01, hypergradient_learning_rate=0.002, rule=rule, clipvalue=1e3, **arguments
    )
    # Two variables, so that the product is seen to be taken over both.
    variables = [keras.Variable(START[i : i + 1], dtype="float64") for i in range(2)]
    w, rate, last, state = START.copy(), 0.01, np.zeros(2), {}
    for t in range(1, 21):
        gradient = MATRIX @ w
        if rule == "additive":
            rate += 0.002 * gradient @ last
        elif t > 1:
            cosine = gradient @ last / np.linalg.norm(gradient) / np.linalg.norm(last)
            rate *= 1 + 0.002 * cosine
        last = direction_of(t, gradient, state)
        w = w - rate * last
        here = np.concatenate([v.numpy() for v in variables])
        parts = [ops.convert_to_tensor((MATRIX @ here)[i : i + 1]) for i in range(2)]
        optimizer.apply(parts, variables)
        assert float(optimizer.learning_rate) == pytest.approx(rate, rel=1e-5)
    np.testing.assert_allclose(np.concatenate([v.numpy() for v in variables]), w, rtol=1e-4)
    assert abs(rate - 0.01) > 1e-4


@pytest.mark.parametrize(
    ("ours", "plain"),
    [
        (HypergradientSGD, keras.optimizers.SGD),
        (HypergradientAdam, keras.optimizers.Adam),
    ],
)
@pytest.mark.parametrize("arguments", [{}, {"clipnorm": 0.5}, {"weight_decay": 0.1}])
def test_without_adaptation_all_is_as_in_keras(ours, plain, arguments):
    if ours is HypergradientSGD and arguments:
        arguments = {**arguments, "momentum": 0.9, "nesterov": True}
    ours = ours(0.1, hypergradient_learning_rate=0.0, **arguments)
    plain = plain(0.1, **arguments)
    mine, theirs = keras.Variable(START), keras.Variable(START)
    for _ in range(10):
        for optimizer, w in ((ours, mine), (plain, theirs)):
            gradient = ops.matmul(ops.convert_to_tensor(MATRIX, "float32"), w)
            optimizer.apply([gradient], [w])
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), atol=1e-5)
    assert float(ours.learning_rate) == pytest.approx(0.1)


def test_the_product_is_the_derivative_of_the_loss_by_the_rate():
    """The rate moves by minus its rate times d loss(w0 - a d) / d a, here by differences."""
    w = keras.Variable(START, dtype="float64")
    optimizer = HypergradientSGD(0.05, hypergradient_learning_rate=0.01)

    def loss(values):
        return 0.5 * values @ MATRIX @ values + np.cos(values).sum()

    def gradient(values):
        return MATRIX @ values - np.sin(values)

    optimizer.apply([ops.convert_to_tensor(gradient(START))], [w])
    moved = [loss(START - (0.05 + e) * gradient(START)) for e in (1e-5, -1e-5)]
    optimizer.apply([ops.convert_to_tensor(gradient(w.numpy()))], [w])
    expected = 0.05 - 0.01 * (moved[0] - moved[1]) / 2e-5
    assert float(optimizer.learning_rate) == pytest.approx(expected, rel=1e-5)


def test_the_rate_falls_to_zero_and_no_further():
    w = keras.Variable([1.0])
    optimizer = HypergradientSGD(0.1, hypergradient_learning_rate=1.0)
    for gradient in ([1.0], [-1.0]):
        optimizer.apply([ops.convert_to_tensor(gradient)], [w])
    assert float(optimizer.learning_rate) == 0.0
    np.testing.assert_allclose(w.numpy(), [0.9])


def _digits_model(optimizer, **arguments):
    x, y = load_digits(return_X_y=True)
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **arguments)
    return model, (x / 16.0).astype("float32"), y


@pytest.mark.parametrize("learning_rate", [1e-6, 1e-2])
@pytest.mark.parametrize(
    ("ours", "plain"),
    [
        (HypergradientSGD, keras.optimizers.SGD),
        (HypergradientAdam, keras.optimizers.Adam),
    ],
)
def test_digits_train_no_worse_than_with_the_plain_optimizer(ours, plain, learning_rate):
    losses = []
    for optimizer in (ours(learning_rate), plain(learning_rate)):
        model, x, y = _digits_model(optimizer)
        model.fit(x, y, batch_size=128, epochs=3, verbose=0)
        losses.append(model.evaluate(x, y, batch_size=2000, verbose=0))
    assert losses[0] < losses[1]


@pytest.mark.both_backends
@pytest.mark.parametrize(
    "arguments", [{"jit_compile": True}, {"jit_compile": False, "steps_per_execution": 4}]
)
def test_the_rate_is_in_the_logs(arguments):
    optimizer = HypergradientSGD(1e-3, 0.9)
    model, x, y = _digits_model(optimizer, metrics=["accuracy"], **arguments)
    x, y = x[:640], y[:640]
    history = model.fit(*(x, y), batch_size=128, epochs=3, validation_split=0.2, verbose=0).history
    rates = history["learning_rate"]
    assert 1e-3 < rates[0] < rates[1] < rates[2]
    assert rates[2] == pytest.approx(float(optimizer.learning_rate))
    assert len(history["val_accuracy"]) == 3
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert "learning_rate" not in model.fit(x, y, verbose=0).history


@pytest.mark.both_backends
def test_a_resumed_run_equals_an_uninterrupted_one():
    model, x, y = _digits_model(HypergradientAdam(1e-3, hypergradient_learning_rate=1e-5))
    model.fit(x, y, batch_size=256, epochs=2, shuffle=False, verbose=0)
    loaded = saved_and_loaded(model)
    for one in (model, loaded):
        one.fit(x, y, batch_size=256, epochs=2, shuffle=False, verbose=0)
    assert float(loaded.optimizer.learning_rate) == float(model.optimizer.learning_rate) > 1e-3
    for mine, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.both_backends
def test_mixed_float16_clipping_and_moving_averages():
    keras.config.set_dtype_policy("mixed_float16")
    optimizer = HypergradientSGD(1e-2, 0.9, global_clipnorm=1.0, use_ema=True, weight_decay=1e-4)
    model, x, y = _digits_model(optimizer)
    history = model.fit(x, y, batch_size=128, epochs=4, verbose=0).history
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    # Gradients come unscaled: else the rate would be 2 ** 15 times as far.
    assert 1e-2 < history["learning_rate"][-1] < 0.2


def test_a_loss_scale_leaves_the_rate_as_it_is():
    rates = []
    for scale in (None, 1024.0):
        optimizer = HypergradientSGD(0.01, loss_scale_factor=scale)
        w = keras.Variable([1.0, 2.0])
        for _ in range(3):
            optimizer.apply([ops.copy(w) * (scale or 1.0)], [w])
        rates.append(float(optimizer.learning_rate))
    assert rates[0] == pytest.approx(rates[1], rel=1e-6) != 0.01


def test_gradients_of_embeddings_and_variables_without_one():
    rows = np.arange(32) % 4
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Embedding(4, 3), keras.layers.GlobalAveragePooling1D()]
    )
    model.compile(HypergradientSGD(0.1), "mse")
    targets = np.eye(4, 3)[rows]
    losses = model.fit(rows[:, None], targets, epochs=3, verbose=0).history["loss"]
    assert losses[2] < losses[1] < losses[0]

    used, unused = keras.Variable([1.0]), keras.Variable([1.0])
    optimizer = HypergradientAdam(0.1)
    optimizer.build([used, unused])
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([ops.convert_to_tensor([1.0]), None], [used, unused])
    np.testing.assert_allclose(unused.numpy(), [1.0])
    assert used.numpy() < 0.91


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: HypergradientSGD(rule="other"), ValueError, "`rule` must be one of"),
        (lambda: HypergradientSGD(momentum=1.5), ValueError, "`momentum` must be at least 0"),
        (lambda: HypergradientSGD(nesterov=True), ValueError, "`nesterov=True` needs"),
        (lambda: HypergradientAdam(beta_1=1.0), ValueError, r"`beta_1` must lie in \(0, 1\)"),
        (
            lambda: HypergradientSGD(hypergradient_learning_rate=-1.0),
            ValueError,
            "`hypergradient_learning_rate` must be at least 0",
        ),
        (
            lambda: HypergradientSGD(gradient_accumulation_steps=2),
            ValueError,
            "`gradient_accumulation_steps` does not apply to HypergradientSGD",
        ),
        (
            lambda: HypergradientAdam(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)),
            ValueError,
            "`learning_rate` must be a number",
        ),
        (
            lambda: setattr(HypergradientAdam(), "learning_rate", lambda: 0.1),
            ValueError,
            "`learning_rate` must be a number",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_several_replicas_are_refused(monkeypatch):
    class Two:
        num_replicas_in_sync = 2

    monkeypatch.setattr(tf.distribute, "get_strategy", Two)
    with pytest.raises(ValueError, match="works with one replica"):
        HypergradientSGD().apply([ops.ones((1,))], [keras.Variable([1.0])])


def test_a_callback_may_set_the_rate():
    model, x, y = _digits_model(HypergradientSGD(1e-3))
    reset = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.05 if epoch else rate)
    rates = model.fit(*(x, y), batch_size=256, epochs=2, callbacks=[reset], verbose=0).history[
        "learning_rate"
    ]
    assert rates[0] < 0.01 < 0.05 < rates[1]


@pytest.mark.parametrize("rule", ["additive", "multiplicative"])
def test_no_gradients_at_all_are_what_they_are_in_keras(rule):
    optimizer, w = HypergradientSGD(0.1, rule=rule), keras.Variable([1.0])
    optimizer.apply([ops.ones(1)], [w])
    with pytest.raises(ValueError, match="No gradients provided"):
        optimizer.apply([None], [w])
