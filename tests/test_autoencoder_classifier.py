import json

import keras
import numpy as np
import pytest

from keras_extras.pipelines import AutoencoderClassifier, StageHistories

D, UNITS, N = 6, 2, 512
layers = keras.layers


@pytest.fixture(scope="module")
def events():
    """Two strong directions out of six, and a class that depends on the first."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(N, UNITS)) * [3.0, 2.0]
    directions = np.linalg.qr(rng.normal(size=(D, UNITS)))[0].T
    x = factors @ directions + 0.5 * rng.normal(size=(N, D))
    return x.astype("float32"), (factors[:, 0] > 0).astype("int64")


def make_pipeline(**arguments):
    arguments = {
        "encoder": layers.Dense(UNITS),
        "decoder": layers.Dense(D),
        "classifier": keras.Sequential(
            [layers.Dense(8, activation="relu"), layers.Dense(1, activation="sigmoid")]
        ),
        "seed": 1,
        **arguments,
    }
    return AutoencoderClassifier(**arguments)


def make_compiled(run_eagerly=False, **arguments):
    pipeline = make_pipeline(**arguments)
    pipeline.compile(
        run_eagerly=run_eagerly,
        autoencoder_optimizer=keras.optimizers.Adam(0.05),
        classifier_optimizer=keras.optimizers.Adam(0.02),
        metrics=[keras.metrics.AUC(name="auc")],
    )
    return pipeline


def fit(pipeline, x, y, **arguments):
    arguments = {"autoencoder_epochs": 2, "classifier_epochs": 2, "batch_size": 64, **arguments}
    return pipeline.fit(x, y, verbose=0, **arguments)


def as_json(config):
    return json.loads(json.dumps(config))


def pca_floor(x, units):
    """Mean squared error of the best linear reconstruction."""
    singular = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
    return np.sum(singular[units:] ** 2) / x.size


@pytest.mark.both_backends
def test_a_linear_autoencoder_reaches_the_pca_floor_and_the_classifier_learns(events):
    x, y = events
    pipeline = make_compiled()
    histories = fit(pipeline, x, y, autoencoder_epochs=30, classifier_epochs=10)

    assert isinstance(histories, StageHistories)
    assert len(histories.autoencoder) == 1
    loss = histories.autoencoder[0].history["loss"]
    assert len(loss) == 30
    assert loss[-1] < 0.1 * loss[0]
    error = np.mean((pipeline.reconstruct(x) - x) ** 2)
    assert pca_floor(x, UNITS) <= error < 1.02 * pca_floor(x, UNITS)

    assert list(histories.classifier.history) == ["auc", "loss"]
    evaluated = pipeline.evaluate(x, y, verbose=0, return_dict=True)
    assert evaluated["auc"] > 0.97
    assert evaluated["auc"] == pytest.approx(histories.classifier.history["auc"][-1], abs=0.02)


def test_predictions_are_the_composition_of_the_parts(events):
    x, y = events
    scale = layers.Normalization()
    scale.adapt(x)
    pipeline = make_compiled(preprocessor=scale, features="input+latent", realizations=2)
    fit(pipeline, x, y)

    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    np.testing.assert_allclose(pipeline.preprocess(x), scaled, atol=1e-5)
    latents = [
        scaled @ encoder.kernel.numpy() + encoder.bias.numpy() for encoder in pipeline.encoders
    ]
    np.testing.assert_allclose(pipeline.encode(x), np.hstack(latents), atol=1e-4)
    features = np.hstack([scaled, *latents])
    np.testing.assert_allclose(pipeline.features_of(x), features, atol=1e-4)
    for realization, decoder in enumerate(pipeline.decoders):
        decoded = latents[realization] @ decoder.kernel.numpy() + decoder.bias.numpy()
        np.testing.assert_allclose(pipeline.reconstruct(x, realization), decoded, atol=1e-4)
    predicted = pipeline.predict(x, verbose=0)
    assert predicted.shape == (N, 1)
    np.testing.assert_allclose(
        predicted, pipeline.classifier.predict(features, verbose=0), atol=1e-5
    )
    np.testing.assert_allclose(predicted, keras.ops.convert_to_numpy(pipeline(x)), atol=1e-6)
    np.testing.assert_array_equal(pipeline.encode(x, batch_size=7), pipeline.encode(x, 7))
    np.testing.assert_allclose(pipeline.encode(x, batch_size=7), pipeline.encode(x), atol=1e-6)


def test_realizations_differ_and_are_stacked(events):
    x, y = events
    pipeline = make_compiled(realizations=3)
    histories = fit(pipeline, x, y)
    assert len(histories.autoencoder) == 3
    assert len({history.history["loss"][0] for history in histories.autoencoder}) == 3
    latents = pipeline.encode(x).reshape(N, 3, UNITS)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not np.allclose(latents[:, one], latents[:, other], atol=0.1)
    assert pipeline.classifier.layers[0].kernel.shape == (3 * UNITS, 8)
    paths = [weight.path for weight in pipeline.weights]
    assert len(set(paths)) == len(paths) == 3 * 4 + 4
    assert sum("autoencoder_1/" in path for path in paths) == 4


@pytest.mark.parametrize("kind", ["layer", "sequential", "functional"])
def test_any_kind_of_part(events, kind):
    x, y = events
    if kind == "layer":
        encoder, decoder = layers.Dense(UNITS), layers.Dense(D)
        classifier = layers.Dense(1, activation="sigmoid")
    elif kind == "sequential":
        encoder = keras.Sequential([layers.Dense(4, activation="tanh"), layers.Dense(UNITS)])
        decoder = keras.Sequential([keras.Input((UNITS,)), layers.Dense(D)])
        classifier = keras.Sequential([layers.Dropout(0.1), layers.Dense(1, "sigmoid")])
    else:
        inputs = keras.Input((D,))
        encoder = keras.Model(inputs, layers.Dense(UNITS)(inputs))
        inputs = keras.Input((UNITS,))
        decoder = keras.Model(inputs, layers.Dense(D)(inputs))
        inputs = keras.Input((D + 2 * UNITS,))
        classifier = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(inputs))
    pipeline = make_compiled(
        encoder=encoder,
        decoder=decoder,
        classifier=classifier,
        features="input+latent",
        realizations=2,
    )
    fit(pipeline, x, y)
    assert pipeline.encode(x).shape == (N, 2 * UNITS)
    assert len({weight.path for weight in pipeline.weights}) == len(pipeline.weights)


def test_parts_are_copied_trainable_weights_drawn_anew_others_kept(events):
    x, y = events
    scale, dense = layers.Normalization(), layers.Dense(UNITS)
    scale.adapt(x)
    encoder = keras.Sequential([keras.Input((D,)), scale, dense])
    decoder = layers.Dense(D)
    decoder.build((None, UNITS))
    decoder.trainable = False
    before = dense.kernel.numpy()

    first = make_compiled(encoder=encoder, decoder=decoder, realizations=2)
    second = make_compiled(encoder=encoder, decoder=decoder, seed=2)
    fit(first, x, y)
    np.testing.assert_array_equal(dense.kernel.numpy(), before)
    second.build((None, D))
    kernels = [
        encoder.layers[1].kernel.numpy()
        for pipeline in (first, second)
        for encoder in pipeline.encoders
    ]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not np.allclose(kernels[one], kernels[other])
    for pipeline in (first, second):
        for copied_encoder, copied_decoder in zip(pipeline.encoders, pipeline.decoders):
            np.testing.assert_allclose(copied_encoder.layers[0](x), scale(x))
            np.testing.assert_array_equal(copied_decoder.kernel.numpy(), decoder.kernel.numpy())


def test_the_seed_repeats_the_initial_weights_and_the_training(events):
    x, y = events

    def train(seed, global_seed):
        keras.utils.set_random_seed(global_seed)
        pipeline = make_pipeline(seed=seed, realizations=2)
        pipeline.compile(run_eagerly=True)
        options = {"batch_size": 256, "shuffle": False, "verbose": 0}
        pipeline.fit_autoencoder(x, **options)
        pipeline.fit_classifier(x, y, **options)
        return keras.ops.convert_to_numpy(pipeline(x))

    once = train(seed=5, global_seed=1)
    np.testing.assert_array_equal(train(seed=5, global_seed=2), once)
    assert not np.allclose(train(seed=6, global_seed=1), once)
    np.testing.assert_array_equal(train(None, global_seed=1), train(None, global_seed=1))


def test_seeds_that_parts_and_optimizers_bring_are_kept_then_counted_on():
    class Seeded(keras.optimizers.SGD):
        def __init__(self, seed=None, **kwargs):
            super().__init__(**kwargs)
            self.seed = seed

        def get_config(self):
            return {**super().get_config(), "seed": self.seed}

    def seeds_of(seed, part_seed, optimizer_seed):
        initializer = keras.initializers.GlorotUniform(seed=part_seed)
        pipeline = make_pipeline(
            encoder=layers.Dense(UNITS, kernel_initializer=initializer), realizations=2, seed=seed
        )
        pipeline.compile(autoencoder_optimizer=Seeded(optimizer_seed))
        parts = [encoder.kernel_initializer.get_config()["seed"] for encoder in pipeline.encoders]
        return parts + [autoencoder.optimizer.seed for autoencoder in pipeline.autoencoders]

    assert seeds_of(None, 7, 9) == [7, 8, 9, 10]
    drawn = seeds_of(3, None, None)
    assert len(set(drawn)) == 4
    assert seeds_of(3, None, None) == drawn


def test_callbacks_and_validation_of_both_stages(events):
    x, y = events

    class Recorder(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seen = []

        def on_epoch_end(self, epoch, logs=None):
            self.seen.append((self.model.name, epoch, sorted(logs)))

    pipeline = make_compiled(realizations=2)
    one, two = Recorder(), Recorder()
    stop = keras.callbacks.EarlyStopping("val_loss", min_delta=1e9, patience=0)
    histories = fit(
        pipeline,
        x,
        y,
        autoencoder_epochs=3,
        validation_data=(x[:100], y[:100], np.ones(100)),
        autoencoder_callbacks=[one],
        classifier_epochs=9,
        classifier_callbacks=[two, stop],
    )
    assert one.seen == [
        (f"autoencoder_{realization}", epoch, ["loss", "val_loss"])
        for realization in range(2)
        for epoch in range(3)
    ]
    assert [epoch for _, epoch, _ in two.seen] == [0, 1]
    expected = np.mean((pipeline.reconstruct(x[:100], 1) - x[:100]) ** 2)
    val_loss = histories.autoencoder[1].history["val_loss"][-1]
    assert val_loss == pytest.approx(expected, rel=1e-4)
    evaluated = pipeline.evaluate(x[:100], y[:100], verbose=0, return_dict=True)
    assert histories.classifier.history["val_auc"][-1] == pytest.approx(evaluated["auc"], abs=1e-4)

    histories = fit(pipeline, x, y, validation_split=0.25)
    assert "val_loss" in histories.autoencoder[0].history
    assert "val_loss" in histories.classifier.history


def test_sample_weight_reaches_stage_two_alone(events):
    x, y = events
    flipped = y.copy()
    flipped[: N // 2] = 1 - flipped[: N // 2]
    weight = np.repeat([0.0, 1.0], N // 2)
    pipeline = make_pipeline()
    pipeline.compile(classifier_optimizer=keras.optimizers.Adam(0.02), weighted_metrics=["AUC"])
    histories = fit(
        pipeline, x, flipped, sample_weight=weight, autoencoder_epochs=20, classifier_epochs=20
    )
    error = np.mean((pipeline.reconstruct(x) - x) ** 2)
    assert histories.autoencoder[0].history["loss"][-1] == pytest.approx(error, rel=0.1)
    weighted = pipeline.evaluate(x, flipped, sample_weight=weight, verbose=0, return_dict=True)
    assert weighted["AUC"] > 0.9
    unweighted = pipeline.evaluate(x, flipped, verbose=0, return_dict=True)
    assert unweighted["AUC"] < 0.7


def test_saved_loaded_and_continued_as_if_never_interrupted(events, tmp_path):
    x, y = events
    scale = layers.Normalization()
    scale.adapt(x)
    pipeline = make_compiled(
        preprocessor=scale,
        encoder=keras.Sequential([keras.Input((D,)), layers.Dense(UNITS)]),
        features="input+latent",
        realizations=2,
        name="higgs",
    )
    fit(pipeline, x, y)
    pipeline.save(tmp_path / "pipeline.keras")
    loaded = keras.models.load_model(tmp_path / "pipeline.keras")

    assert isinstance(loaded, AutoencoderClassifier)
    assert as_json(loaded.get_config()) == as_json(pipeline.get_config())
    assert [w.path for w in loaded.weights] == [w.path for w in pipeline.weights]
    for method in ("preprocess", "encode", "features_of", "reconstruct"):
        np.testing.assert_array_equal(getattr(loaded, method)(x), getattr(pipeline, method)(x))
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), pipeline.predict(x, verbose=0))
    assert loaded.evaluate(x, y, verbose=0) == pipeline.evaluate(x, y, verbose=0)

    for model in (pipeline, loaded):
        model.fit_autoencoder(x, epochs=2, batch_size=64, shuffle=False, verbose=0)
        model.fit_classifier(x, y, batch_size=64, shuffle=False, verbose=0)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), pipeline.predict(x, verbose=0))
    for one, other in zip(loaded.autoencoders, pipeline.autoencoders):
        assert int(one.optimizer.iterations.numpy()) == 4 * N // 64
        np.testing.assert_array_equal(one.get_weights()[0], other.get_weights()[0])


def test_saving_before_training(events, tmp_path):
    x, y = events
    pipeline = make_compiled()
    with pytest.warns(UserWarning, match="not yet been built"):
        pipeline.save(tmp_path / "untrained.keras")
    loaded = keras.models.load_model(tmp_path / "untrained.keras")
    keras.utils.set_random_seed(4)
    fit(pipeline, x, y)
    keras.utils.set_random_seed(4)
    fit(loaded, x, y)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), pipeline.predict(x, verbose=0))


def test_images_and_many_classes():
    rng = np.random.default_rng(1)
    x, y = rng.uniform(size=(64, 4, 4, 1)), rng.integers(0, 3, 64)
    pipeline = make_pipeline(
        encoder=keras.Sequential([layers.Flatten(), layers.Dense(3)]),
        decoder=keras.Sequential([layers.Dense(16), layers.Reshape((4, 4, 1))]),
        classifier=layers.Dense(3, activation="softmax"),
    )
    pipeline.compile(
        classifier_loss="sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False
    )
    fit(pipeline, x, y)
    assert pipeline.encode(x).shape == (64, 3)
    assert pipeline.reconstruct(x).shape == x.shape
    assert pipeline.predict(x, verbose=0).shape == (64, 3)


def test_mixed_precision_keeps_the_inputs_in_full(events):
    x, y = events
    keras.config.set_dtype_policy("mixed_float16")
    scale = layers.Normalization(dtype="float32")
    scale.adapt(1e5 * x)
    pipeline = make_compiled(preprocessor=scale, features="input+latent")
    fit(pipeline, 1e5 * x, y)
    assert pipeline.encode(1e5 * x).dtype == "float32"
    assert np.isfinite(pipeline.predict(1e5 * x, verbose=0)).all()


def test_errors_in_the_parts(events):
    x, y = events
    with pytest.raises(ValueError, match=r"`features` must be one of 'latent', 'input\+latent'"):
        make_pipeline(features="both")
    with pytest.raises(ValueError, match="`realizations` must be at least 1"):
        make_pipeline(realizations=0)
    with pytest.raises(TypeError, match="`decoder` must be a Keras layer or model"):
        make_pipeline(decoder="dense")
    with pytest.raises(TypeError, match="`preprocessor` must be a Keras layer or model"):
        make_pipeline(preprocessor=len)
    with pytest.raises(ValueError, match=r"gives \(None, 5\) for inputs of shape \(None, 6\)"):
        fit(make_compiled(decoder=layers.Dense(5)), x, y)
    with pytest.raises(ValueError, match=r"`encoder` must give latents of shape \(n, units\)"):
        fit(make_compiled(encoder=layers.Reshape((2, 3))), x, y)
    with pytest.raises(ValueError, match="needs inputs of shape"):
        fit(make_compiled(features="input+latent"), x[:, None], y)


def test_errors_before_training(events):
    x, y = events
    pipeline = make_pipeline()
    for method in (pipeline.predict, pipeline.encode, pipeline.reconstruct, pipeline.features_of):
        with pytest.raises(ValueError, match="Call `fit` first"):
            method(x)
    with pytest.raises(ValueError, match="Call `compile`"):
        fit(pipeline, x, y)
    with pytest.raises(ValueError, match="`classifier_optimizer` must be a Keras optimizer"):
        pipeline.compile(classifier_optimizer=None)
    with pytest.raises(TypeError, match="optimizer"):
        pipeline.compile(optimizer="adam")


def test_errors_in_the_data_show_before_the_first_epoch(events):
    x, y = events
    pipeline = make_compiled()

    class Untouched(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            pytest.fail("training began")

    def refused(error, match, x, y, **arguments):
        with pytest.raises(error, match=match):
            fit(pipeline, x, y, autoencoder_callbacks=[Untouched()], **arguments)

    refused(ValueError, r"one row for each event.*len\(x\)=512, len\(y\)=500", x, y[:500])
    refused(ValueError, r"len\(sample_weight\)=3", x, y, sample_weight=np.ones(3))
    refused(ValueError, r"len\(y_val\)=9", x, y, validation_data=(x[:10], y[:9]))
    refused(TypeError, "`y` must hold numbers", x, np.where(y, "s", "b"))
    refused(TypeError, "`x` must be an array of numbers", iter(x), y)
    refused(ValueError, r"`x` must have shape \(n, d\).*\(6,\)", x[0], y)
    refused(ValueError, "at least one row", x[:0], y[:0])
    missing = x.copy()
    missing[3, 2] = np.nan
    refused(ValueError, r"first at index \(3, 2\).*preprocessor", missing, y)
    holed = np.where(np.arange(N) == 5, np.nan, y)
    refused(ValueError, r"`y` must be finite.* first at index \(5,\). Leave", x, holed)
    refused(ValueError, "`sample_weight` must be finite", x, y, sample_weight=holed)
    refused(ValueError, "`y_val` must be finite", x, y, validation_data=(x, holed))
    refused(ValueError, "`sample_weight_val` must be finite", x, y, validation_data=(x, y, holed))
    refused(ValueError, "(?s)shape", x, np.stack([y, y, y], axis=1))
    with pytest.raises(ValueError, match="`realization` must be one of 0"):
        pipeline.reconstruct(x, realization=1)
