"""Files that were damaged, or made to do harm, are refused; ours need no leave to run code."""

import io
import json
import re
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import keras_extras

_X = np.linspace(-1.0, 1.0, 12).reshape(4, 3).astype("float32")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model of ours, with its optimizer, and what it predicts."""
    path = tmp_path_factory.mktemp("models") / "model.keras"
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras_extras.layers.EinsteinLatent(2),
            keras_extras.layers.MissingValueImputer(sentinel=None),
            keras.layers.Dense(2),
            keras_extras.layers.IndependentNormal(1, convert_to_tensor_fn="mean"),
        ]
    )
    model.layers[1].adapt(np.zeros((4, 2)))
    optimizer = keras_extras.optimizers.MonteCarloOptimizer(0.02, 8, seed=1)
    model.compile(optimizer, keras_extras.losses.NegativeLogLikelihood(), jit_compile=False)
    optimizer.build(model.trainable_variables)
    model.save(path)
    return path.read_bytes(), np.asarray(keras.ops.convert_to_tensor(model(_X)))


def load(content, folder):
    path = folder / "model.keras"
    path.write_bytes(content)
    return keras.saving.load_model(path, safe_mode=True)


def changed(content, change):
    """The file with another configuration."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            member = old.read(name)
            if name == "config.json":
                config = json.loads(member)
                change(config)
                member = json.dumps(config).encode()
            new.writestr(name, member)
    return buffer.getvalue()


def layer_of(config):
    return config["config"]["layers"][1]


def test_cut_off_or_changed_files(saved, tmp_path):
    content, expected = saved
    rng = np.random.default_rng(0)
    for length in rng.integers(0, len(content), 10):
        with pytest.raises((ValueError, OSError)):
            load(content[:length], tmp_path)
    refused = 0
    for place in rng.integers(0, len(content), 30):
        flipped = content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]
        try:
            model = load(flipped, tmp_path)
        except (ValueError, OSError, TypeError, KeyError, NotImplementedError, zipfile.BadZipFile):
            refused += 1
        else:  # a byte that nothing depends on
            outputs = keras.ops.convert_to_tensor(model(_X))
            np.testing.assert_array_equal(outputs, expected)
    assert refused > 15


@pytest.mark.parametrize(
    ("module", "name"),
    [("subprocess", "Popen"), ("os", "system"), ("builtins", "eval"), ("pickle", "loads")],
)
def test_foreign_classes(saved, tmp_path, module, name):
    def change(config):
        layer_of(config).update(module=module, class_name=name, registered_name=None)

    with pytest.raises((ValueError, TypeError), match=name):
        load(changed(saved[0], change), tmp_path)


def test_code_in_the_configuration(saved, tmp_path):
    def change(config):
        function = {"class_name": "__lambda__", "config": {"value": "4wAA"}}
        layer_of(config)["config"]["activation"] = function

    with pytest.raises((ValueError, TypeError), match="lambda"):
        load(changed(saved[0], change), tmp_path)


def test_arguments_that_nobody_knows(saved, tmp_path):
    with pytest.raises((ValueError, TypeError), match="no_such_argument"):
        load(
            changed(saved[0], lambda c: layer_of(c)["config"].update(no_such_argument=1)), tmp_path
        )
    with pytest.raises((ValueError, TypeError), match=r"`form` must be one of.*'nonsense'"):
        load(changed(saved[0], lambda c: layer_of(c)["config"].update(form="nonsense")), tmp_path)


def test_what_is_written_holds_numbers_and_json(saved):
    with zipfile.ZipFile(io.BytesIO(saved[0])) as file:
        assert set(file.namelist()) == {"config.json", "metadata.json", "model.weights.h5"}
        assert "__lambda__" not in file.read("config.json").decode()
        kinds = set()
        with h5py.File(io.BytesIO(file.read("model.weights.h5"))) as weights:
            weights.visititems(
                lambda _, item: kinds.add(getattr(item, "dtype", np.dtype("b")).kind)
            )
        assert kinds <= set("biuf")


def test_nothing_unpickles_or_leaves_safe_mode():
    unsafe = re.compile(
        r"pickle\.(?!dumps\(|PicklingError)|from pickle|import pickle as"
        r"|allow_pickle=True|enable_unsafe|joblib|marshal"
    )
    sources = Path(keras_extras.__file__).parent.rglob("*.py")
    found = [path.name for path in sources if unsafe.search(path.read_text())]
    # Its parent sends it what to run through a pipe, as multiprocessing does.
    assert found == ["worker_program.py"]
