"""What is taken up again in the same folder ends as if it had never stopped."""

import keras
import numpy as np
import pytest
import tensorflow_probability as tfp
from interruptions import StopAfterEpochs

from keras_extras import inference, layers
from keras_extras.callbacks import BackupAndResume
from keras_extras.pipelines import AutoencoderClassifier

_X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
_Y = (_X[:, :1] > 0).astype("float32")


def make_model(width=3):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(width),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(1),
        ]
    )
    model.compile("adam", "mse", run_eagerly=False, jit_compile=False)
    return model


def fit(model, *callbacks, epochs=4):
    return model.fit(_X, _Y, epochs=epochs, batch_size=8, verbose=0, callbacks=list(callbacks))


@pytest.mark.both_backends
def test_fit(tmp_path):
    whole = make_model()
    fit(whole, BackupAndResume(tmp_path / "whole"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt):
        fit(make_model(), StopAfterEpochs(2), BackupAndResume(tmp_path / "backup"))
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["epoch_000002"]
    with pytest.raises(ValueError, match=r"`model` must be built, and the one that.*epoch_000002"):
        fit(make_model(width=2), BackupAndResume(tmp_path / "backup"))

    model = make_model()
    history = fit(model, BackupAndResume(tmp_path / "backup", delete_backup=False))
    assert history.epoch == [2, 3]
    for one, other in zip(whole.variables, model.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    assert fit(make_model(), BackupAndResume(tmp_path / "backup")).epoch == []
    assert fit(model, epochs=1).epoch == [0], "The next `fit` starts where the backup ended"


def make_pipeline():
    keras.utils.set_random_seed(1)
    classifier = keras.Sequential([keras.layers.Dropout(0.2), keras.layers.Dense(1, "sigmoid")])
    pipeline = AutoencoderClassifier(
        keras.layers.Dense(2), keras.layers.Dense(4), classifier, realizations=2, seed=3
    )
    pipeline.compile(jit_compile=False)
    return pipeline


def fit_pipeline(pipeline, stop_after=99, backup_dir=None):
    stop = StopAfterEpochs(stop_after)
    return pipeline.fit(
        _X,
        _Y,
        autoencoder_epochs=2,
        classifier_epochs=2,
        verbose=0,
        autoencoder_callbacks=[stop],
        classifier_callbacks=[stop],
        backup_dir=backup_dir,
    )


@pytest.mark.both_backends
def test_pipeline(tmp_path):
    whole = make_pipeline()
    fit_pipeline(whole)
    backup = tmp_path / "backup"
    for stop_after in (1, 2, 2):  # within each of three trainings
        with pytest.raises(KeyboardInterrupt):
            fit_pipeline(make_pipeline(), stop_after, backup)
    pipeline = make_pipeline()
    histories = fit_pipeline(pipeline, backup_dir=backup)
    assert [history.epoch for history in histories.autoencoder] == [[], []]
    assert histories.classifier.epoch == [1]
    for one, other in zip(whole.variables, pipeline.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*transitions diverged")
def test_chains(tmp_path):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(2), layers.IndependentNormal(1)]
    )

    def sample(x=_X, y=_Y, num_results=60, seed=1, backup_dir=tmp_path / "chains", **others):
        return inference.sample_posterior(
            model,
            x,
            y,
            kernel="hmc",
            num_chains=2,
            num_burnin_steps=100,
            num_results=num_results,
            jit_compile=False,
            seed=seed,
            verbose=0,
            backup_dir=backup_dir,
            **others,
        )

    whole = sample(backup_dir=None)
    sample()
    chunks = sorted((tmp_path / "chains").glob("chunk_*"))
    assert len(chunks) == 7
    for kept in (5, 1):  # while draws are kept, and in the warm-up
        for chunk in chunks[kept:]:
            chunk.unlink()
        resumed = sample()
        for one, other in zip(whole.samples, resumed.samples, strict=True):
            np.testing.assert_array_equal(one, other)
    longer = sample(num_results=75)
    np.testing.assert_array_equal(longer.samples[0][:, :60], whole.samples[0])
    for name, arguments in {
        "x": {"x": _X + np.float32(0.001) * (np.arange(32) == 5)[:, None]},
        "x, y": {"x": _X[::-1], "y": _Y[::-1]},
        "y": {"y": np.where(np.arange(32)[:, None] == 7, _Y + 0.5, _Y)},
        "seed": {"seed": 2},
        "initial": {"initial": "prior"},
        "density": {"prior": tfp.distributions.Normal(0.0, 1.01)},
        "num_leapfrog_steps": {"num_leapfrog_steps": 11},
    }.items():
        with pytest.raises(ValueError, match=f"`backup_dir` must be a new .* another {name}$"):
            sample(**arguments)
    chunks[0].write_bytes(chunks[0].read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"part of a backup.*chunk_000000.npz'.*not whole"):
        sample()


def test_bad_folders():
    with pytest.raises(TypeError, match="`backup_dir` must be the path of a folder"):
        BackupAndResume(3)
    with pytest.raises(TypeError, match="`backup_dir` must be the path of a folder"):
        fit_pipeline(make_pipeline(), backup_dir=3)


@pytest.mark.parametrize("content", [None, "", "[]", "{}"])
def test_backups_that_are_none(tmp_path, content):
    (tmp_path / "epoch_000001").mkdir()
    if content is not None:
        (tmp_path / "epoch_000001/training.json").write_text(content)
    with pytest.raises(ValueError, match=r"must (hold|be).*Received: '.*epoch_000001"):
        fit(make_model(), BackupAndResume(tmp_path))


@pytest.mark.parametrize("delete_backup", [True, False])
def test_what_else_is_in_the_folder_stays(tmp_path, delete_backup):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    (tmp_path / ".DS_Store").write_text("")
    fit(make_model(), BackupAndResume(tmp_path, delete_backup=delete_backup))
    assert (tmp_path / "mine" / "notes.txt").read_text() == "precious"
    backups = {path.name for path in tmp_path.iterdir()} - {"mine", ".DS_Store"}
    assert len(backups) == (not delete_backup)
