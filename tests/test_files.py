"""Files are replaced whole, and are afterwards what they were before: links stay, modes too."""

import stat

import keras
import numpy as np
import pytest

from keras_extras._core.files import whole_file
from keras_extras.callbacks import BackupAndResume


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o644])
def test_modes_stay(tmp_path, mode):
    path = tmp_path / "file.txt"
    path.write_text("before")
    path.chmod(mode)
    with whole_file(path) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        temporary.write_text("after")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("after", mode)
    with pytest.raises(KeyError), whole_file(path):
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("exists", [True, False])
def test_links_stay(tmp_path, exists):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "file.txt", tmp_path / "link.txt"
    if exists:
        target.write_text("before")
    link.symlink_to(target)
    with whole_file(link) as temporary:
        temporary.write_text("after")
    assert link.is_symlink()
    assert target.read_text() == "after"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    "name", ["x" * 251 + ".npz", "ä" * 120 + ".weights.h5", ".".join("x" * 125)]
)
def test_long_names(tmp_path, name):
    with whole_file(tmp_path / name) as temporary:
        assert temporary.name.endswith(".weights.h5" if name.endswith(".h5") else name[-4:])
        temporary.write_text("content")
    assert (tmp_path / name).read_text() == "content"


def test_folders_that_cannot_be_written_to_are_told_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    before = model.get_weights()
    callbacks = [BackupAndResume(tmp_path / "file" / "backup")]
    with pytest.raises(OSError, match="`backup_dir` must be a folder that can be made"):
        model.fit(np.ones((4, 2)), np.ones((4, 1)), callbacks=callbacks, verbose=0)
    np.testing.assert_array_equal(before[0], model.get_weights()[0])
