"""Where a file cannot be written: errors are clear, and what was there stays whole."""

import errno
import hashlib
import os
import resource

import keras
import numpy as np
import pytest

from keras_extras._core.files import whole_file, whole_folder
from keras_extras.callbacks import BackupAndResume
from keras_extras.datasets.higgs.download import download_atlas_file
from keras_extras.inference import Posterior

_CONTENT = os.urandom(200_000)
_SHA1 = hashlib.sha1(_CONTENT).hexdigest()


@pytest.fixture
def little_room():
    """No file can become longer than some kilobytes, as on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source" / "events.csv"
    path.parent.mkdir()
    path.write_bytes(_CONTENT)
    return path


def model_of(width):
    model = keras.Sequential([keras.Input((width,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("adam", "mse", jit_compile=False)
    return model


def posterior_of(width):
    return Posterior(model_of(width), [np.ones((1, 1, width, 1), "float32")])


def test_a_posterior_is_saved_whole_or_not_at_all(tmp_path, request):
    path = tmp_path / "posterior.npz"
    posterior_of(3).save(path)
    before = path.read_bytes()
    large = posterior_of(5000)
    request.getfixturevalue("little_room")
    with pytest.raises(OSError, match="File too large"):
        large.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_backup_is_whole_or_not_there(tmp_path, monkeypatch):
    """With a write that fails in Python: where HDF5 itself cannot write, it ends the process."""

    def write_half(model, filepath, **options):
        with open(filepath, "wb") as file:
            file.write(_CONTENT)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), filepath)

    model = model_of(3)
    x, y = np.ones((2, 3)), np.ones((2, 1))
    model.fit(x, y, verbose=0, callbacks=[BackupAndResume(tmp_path / "b", delete_backup=False)])
    monkeypatch.setattr(keras.Model, "save_weights", write_half)
    with pytest.raises(OSError, match="No space left on device"):
        model.fit(x, y, epochs=2, verbose=0, callbacks=[BackupAndResume(tmp_path / "b")])
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["epoch_000001"]


def test_a_download_without_room(source, tmp_path, little_room):
    with pytest.raises(OSError, match=r"Could not write to the folder .*datasets: .*KERAS_HOME"):
        download_atlas_file(source.as_uri(), _SHA1, tmp_path)
    assert list((tmp_path / "datasets").iterdir()) == []


def test_a_cache_that_can_only_be_read(source, tmp_path, monkeypatch):
    cached = download_atlas_file(source.as_uri(), _SHA1, tmp_path / "full")

    def refuse(path, *arguments, **keywords):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "mkdir", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    assert download_atlas_file(source.as_uri(), _SHA1, tmp_path / "full") == cached
    with pytest.raises(PermissionError, match=r"Could not write to .*KERAS_HOME to a folder"):
        download_atlas_file(source.as_uri(), _SHA1, tmp_path / "empty")


def test_what_a_killed_download_left_is_removed_after_a_while(source, tmp_path):
    folder = tmp_path / "datasets"
    folder.mkdir()
    old, new = (folder / f".events.csv.{name}.part.csv" for name in ("0a", "0b"))
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    download_atlas_file(source.as_uri(), _SHA1, tmp_path)
    assert {path.name for path in folder.iterdir()} == {"events.csv", new.name}


def half_a_file(path):
    with whole_file(path) as temporary:
        temporary.write_text("half")
        assert temporary.name.endswith(".part.b.txt")
        raise KeyError


def half_a_folder(path):
    with whole_folder(path) as temporary:
        (temporary / "half").touch()
        raise KeyError


def test_files_and_folders_appear_when_they_are_whole(tmp_path):
    with pytest.raises(KeyError):
        half_a_file(tmp_path / "a.b.txt")
    with pytest.raises(KeyError):
        half_a_folder(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []
    with whole_folder(tmp_path / "folder") as path:
        (path / "all").touch()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["all"]
