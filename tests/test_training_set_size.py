"""How layers learn the size of the training set, and the warm-up of the divergence."""

import keras
import numpy as np
import pytest
from contract_support import saved_and_loaded
from keras import ops
from precision import ON_JAX, needs_tensorflow
from probability import tf

import keras_extras
from keras_extras import layers
from keras_extras._core.training_set_size import training_set_size
from keras_extras._seams.wrapped_methods import _ours

pytestmark = pytest.mark.both_backends(cases=0)

_X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
_Y = _X[:, :1]


def make_model(is_built=True, **arguments):
    model = keras.Sequential(
        [
            *([keras.Input((3,))] if is_built else []),
            layers.DenseFlipout(2, kl_weight="auto", **arguments),
            layers.IndependentNormal(1),
        ]
    )
    model.compile("sgd", loss=_loss)
    return model


@keras.saving.register_keras_serializable(__name__)
def _loss(y, rv_y):
    return -rv_y.log_prob(y)


def size_of(model):
    return float(model.layers[0].training_set_size)


class _Batches(keras.utils.PyDataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        return _X[8 * index : 8 * index + 8], _Y[8 * index : 8 * index + 8]


def _forever():
    while True:
        yield _X[:8], _Y[:8]


def _dataset():
    return _rows().batch(8)


def _rows():
    return tf.data.Dataset.from_tensor_slices((_X, _Y))


def _endless():
    spec = (tf.TensorSpec((8, 3)), tf.TensorSpec((8, 1)))
    return tf.data.Dataset.from_generator(_forever, output_signature=spec)


SOURCES = {
    "arrays": (lambda: {"x": _X, "y": _Y}, 40),
    "arrays and a validation split": (lambda: {"x": _X, "y": _Y, "validation_split": 0.25}, 30),
    "arrays and fewer steps": (lambda: {"x": _X, "y": _Y, "steps_per_epoch": 1}, 40),
    "a split beside validation data": (
        lambda: {"x": _X, "y": _Y, "validation_split": 0.25, "validation_data": (_X, _Y)},
        40,
    ),
    "dataset and fewer steps": (
        lambda: {"x": _dataset(), "steps_per_epoch": 2, "shuffle": False},
        40,
    ),
    "PyDataset and fewer steps": (lambda: {"x": _Batches(), "steps_per_epoch": 2}, 40),
    "tensors": (lambda: {"x": ops.convert_to_tensor(_X), "y": ops.convert_to_tensor(_Y)}, 40),
    "dataset": (lambda: {"x": _dataset(), "shuffle": False}, 40),
    "endless dataset": (
        lambda: {"x": _endless(), "steps_per_epoch": 3, "shuffle": False},
        24,
    ),
    "endless dataset of known length": (
        lambda: {"x": _dataset().repeat(), "steps_per_epoch": 3, "shuffle": False},
        40,
    ),
    "PyDataset": (lambda: {"x": _Batches()}, 40),
    "generator": (lambda: {"x": _forever(), "steps_per_epoch": 6, "shuffle": False}, 48),
}


@pytest.mark.parametrize("is_built", [True, False], ids=["built", "unbuilt"])
@pytest.mark.parametrize(
    "source",
    [pytest.param(s, marks=needs_tensorflow) if "dataset" in s else s for s in SOURCES],
)
def test_fit_tells_the_size(source, is_built):
    arguments, expected = SOURCES[source]
    model = make_model(is_built)
    model.fit(verbose=0, **arguments())
    assert size_of(model) == expected


def _indices():
    return tf.data.Dataset.range(10**6)


REPEATED = {
    "batches": lambda: _dataset().repeat(12_000),
    "rows": lambda: _rows().repeat(12_000).batch(8),
    "twice": lambda: _rows().repeat(3).batch(16).repeat(5),
    "shuffled rows": lambda: _rows().shuffle(40).repeat(3).batch(16).prefetch(1),
    "padded": lambda: _rows().cache().repeat(3).padded_batch(4).map(lambda x, y: (x + 1.0, y)),
    "batched again": lambda: _dataset().repeat(3).unbatch().batch(5),
    "one batch of all": lambda: _rows().batch(40).repeat(7),
    "zipped": lambda: (
        tf.data.Dataset.zip((_rows().repeat(), _indices())).map(lambda rows, i: rows).batch(8)
    ),
    "with options": lambda: _rows().repeat(3).batch(8).with_options(tf.data.Options()),
    "numbered": lambda: _rows().repeat(3).enumerate().map(lambda i, rows: rows).batch(8),
    "ragged": lambda: _rows().repeat(3).ragged_batch(8),
    "rebatched": lambda: _dataset().repeat(3).rebatch(5),
    "one batch of all, zipped": lambda: tf.data.Dataset.zip(
        _rows().batch(40).repeat(3), _rows().batch(40).repeat(3)
    ),
    "batches made of indices": lambda: (
        tf.data.Dataset.range(5).repeat(9).map(lambda i: tf.zeros((8, 3)) + tf.cast(i, tf.float32))
    ),
    "a constant beside the rows": lambda: tf.data.Dataset.zip(
        _rows(), tf.data.Dataset.from_tensors(1.0).repeat()
    ).batch(8),
    "endless": lambda: _rows().shuffle(40).repeat().batch(8),
    "taken": lambda: _rows().repeat().batch(8).take(100),
}


@needs_tensorflow
@pytest.mark.parametrize("pipeline", REPEATED)
def test_rows_that_a_dataset_repeats_count_once(pipeline):
    dataset = REPEATED[pipeline]()
    assert training_set_size(dataset, 0.0, 12_000 * 5) == 40


@needs_tensorflow
def test_a_part_of_the_first_pass_counts_as_a_part():
    assert training_set_size(_dataset().repeat().take(2), 0.0, None) == 16


@needs_tensorflow
@pytest.mark.parametrize(
    "dataset",
    [
        lambda: _rows().filter(lambda x, y: x[0] > 0).repeat().batch(8),
        lambda: _rows().repeat(2).concatenate(_rows()).batch(8),
        lambda: _rows().repeat(2).batch(2).batch(4),
        lambda: _rows().repeat(2).shard(2, 0).batch(4),
        lambda: tf.data.Dataset.zip(_rows(), _rows().take(7).repeat()).batch(4),
        lambda: _rows().repeat(2).bucket_by_sequence_length(lambda x, y: 1, [2], [8, 8]),
        lambda: _dataset().repeat(2).flat_map(lambda x, y: tf.data.Dataset.range(8)).batch(4),
    ],
    ids=["filtered", "concatenated", "batched twice", "shard", "zipped", "bucket", "flat map"],
)
def test_an_unknown_period_warns(dataset):
    with pytest.warns(UserWarning, match=r"repeated, and its number of rows is unknown because"):
        assert training_set_size(dataset(), 0.0, 10) > 0


@needs_tensorflow
@pytest.mark.parametrize(
    "start", [lambda: tf.data.Dataset.from_tensors(0).repeat(), lambda: tf.data.Dataset.counter()]
)
def test_rows_that_are_made_on_the_way_are_no_repetition(start):
    dataset = start().map(lambda i: tf.random.normal((3,))).batch(8)
    assert training_set_size(dataset, 0.0, 7) == 56
    assert training_set_size(start().map(lambda i: tf.random.normal((8, 3))), 0.0, 7) == 56


@needs_tensorflow
def test_the_size_of_an_empty_dataset_is_unknown():
    assert training_set_size(_dataset().repeat(0), 0.0, None) == 0.0


def test_a_generator_loses_no_batch():
    seen = []

    def batches():
        for number in range(4):
            seen.append(number)
            yield _X[:8] + 100.0 * number, _Y[:8]

    model = make_model()
    inputs = []
    model.layers[0].call = _spy(model.layers[0].call, inputs)
    model.run_eagerly = True
    model.fit(batches(), steps_per_epoch=4, verbose=0, shuffle=False)
    means = [round(float(ops.mean(x)) / 100.0) for x in inputs[-4:]]
    assert means == [0, 1, 2, 3]


def _spy(call, inputs):
    def spying(x, *arguments, **keywords):
        inputs.append(x)
        return call(x, *arguments, **keywords)

    return spying


def test_the_loss_is_that_of_the_weight_written_out():
    model = make_model(kernel_posterior_fn="mean_field")
    model.fit(_X, _Y, verbose=0)
    model(_X)
    by_hand = layers.DenseFlipout(2, kl_weight=1 / 40)
    by_hand.build((None, 3))
    for mine, theirs in zip(by_hand.trainable_variables, model.trainable_variables, strict=True):
        mine.assign(theirs)
    by_hand(_X)
    np.testing.assert_allclose(model.layers[0].losses[0], by_hand.losses[0], rtol=1e-6)


def test_fitting_again_learns_the_size_again():
    model = make_model()
    model.fit(_X, _Y, verbose=0)
    model.fit(_X[:16], _Y[:16], verbose=0)
    assert size_of(model) == 16


def test_a_fit_within_a_fit_has_its_own_size():
    outer, inner = make_model(), make_model(is_built=False)
    train = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: inner.fit(_X[:10], _Y[:10], verbose=0)
    )
    outer.fit(_X, _Y, callbacks=[train], verbose=0)
    assert (size_of(outer), size_of(inner)) == (40, 10)


def test_a_loaded_model_keeps_its_size_and_trains_on_batches():
    model = make_model()
    model.fit(_X, _Y, verbose=0)
    loaded = saved_and_loaded(model)
    assert size_of(loaded) == 40
    assert np.isfinite(loaded.train_on_batch(_X, _Y))


def test_before_training_models_predict_and_evaluate_without_the_divergence():
    model = make_model()
    assert np.isfinite(model.predict(_X, verbose=0)).all()
    assert np.isfinite(model.evaluate(_X, _Y, verbose=0))
    model(_X)
    assert float(model.layers[0].losses[0]) == 0.0


@pytest.mark.parametrize(
    "train",
    [
        lambda model: model.fit(_forever_once(), verbose=0, shuffle=False),
        lambda model: model.train_on_batch(_X, _Y),
        lambda model: model(_X, training=True),
    ],
    ids=["generator", "train_on_batch", "own loop"],
)
@pytest.mark.parametrize("is_built", [True, False], ids=["built", "unbuilt"])
def test_an_unknown_size_is_an_error_that_says_what_to_do(train, is_built):
    with pytest.raises(ValueError, match=r"(?s)unknown.*steps_per_epoch.*`training_set_size`"):
        train(make_model(is_built))


def _forever_once():
    yield _X[:8], _Y[:8]
    yield _X[8:16], _Y[8:16]


def test_the_variable_may_be_assigned_by_hand():
    model = make_model()
    model.layers[0].training_set_size.assign(40)
    model(_X, training=True)
    assert float(model.layers[0].losses[0]) > 0.0


def test_sizes_of_unknown_sources_are_zero():
    if not ON_JAX:
        assert training_set_size(_endless(), 0.0, None) == 0.0
    assert training_set_size(None, 0.0, None) == 0.0


def test_stock_fit_is_wrapped_once():
    make_model()
    make_model()
    keys, method = [], keras.Model.fit
    while method is not None:
        keys += [_ours[method].key] if method in _ours else []
        method = getattr(method, "__wrapped__", None)
    assert keys.count("keras_extras._core.training_set_size") == 1


def test_arguments_that_fit_does_not_know_are_keras_business():
    with pytest.raises(TypeError, match="epoch_count"):
        make_model().fit(_X, _Y, epoch_count=3)


def test_a_warm_up_leaves_nothing_behind():
    model = make_model(is_built=False)
    model.fit(_X, _Y, callbacks=[keras_extras.callbacks.KLWarmUp(epochs=10)], verbose=0)
    assert float(make_model().layers[0].kl_warm_up) == 1.0


class _Shares(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_test_end(self, logs=None):
        self.seen.append(float(self.model.layers[0].kl_warm_up))


@pytest.mark.parametrize("is_built", [True, False], ids=["built", "unbuilt"])
def test_warm_up_raises_the_share_epoch_by_epoch(is_built):
    model = make_model(is_built)
    shares = _Shares()
    warm_up = keras_extras.callbacks.KLWarmUp(epochs=4, start=0.2)
    model.fit(_X, _Y, epochs=6, validation_data=(_X, _Y), callbacks=[warm_up, shares], verbose=0)
    np.testing.assert_allclose(shares.seen, [0.2, 0.4, 0.6, 0.8, 1.0, 1.0], rtol=1e-6)
    assert float(model.layers[0].kl_warm_up) == 1.0


def test_the_share_multiplies_the_divergence():
    layer = layers.DenseFlipout(2, kl_weight=0.5)
    layer(_X)
    whole = float(layer.losses[0])
    layer.kl_warm_up.assign(0.25)
    layer(_X)
    np.testing.assert_allclose(layer.losses[0], 0.25 * whole, rtol=1e-6)


@pytest.mark.parametrize("is_built", [True, False], ids=["built", "unbuilt"])
def test_warm_up_needs_bayesian_weights(is_built):
    first = [keras.Input((3,))] if is_built else []
    model = keras.Sequential([*first, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="which has none"):
        model.fit(_X, _Y, callbacks=[keras_extras.callbacks.KLWarmUp(2)], verbose=0)


@pytest.mark.parametrize(("epochs", "start"), [(0, 0.0), (2, -0.1), (2, 1.1)])
def test_warm_up_checks_its_arguments(epochs, start):
    with pytest.raises(ValueError, match="must be at"):
        keras_extras.callbacks.KLWarmUp(epochs, start)


def test_a_warm_up_that_is_interrupted_leaves_new_layers_alone():
    class Interrupted(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    for is_built in (True, False):
        callbacks = [keras_extras.callbacks.KLWarmUp(5), Interrupted()]
        with pytest.raises(KeyboardInterrupt):
            make_model(is_built).fit(_X, _Y, callbacks=callbacks, verbose=0)
        assert float(make_model().layers[0].kl_warm_up) == 1.0


def test_a_warm_up_of_nothing_is_told_after_the_first_execution():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse", steps_per_execution=2)
    batches = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(1))
    with pytest.raises(ValueError, match="which has none"):
        model.fit(
            _X, _Y, 8, callbacks=[count, keras_extras.callbacks.KLWarmUp(2)], epochs=2, verbose=0
        )
    assert len(batches) == (0 if ON_JAX else 1)  # On JAX models are built before their first step.
