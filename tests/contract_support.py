"""What the checks of the contract have in common: configuration, files, policies, comparisons."""

import copy
import inspect
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np


def check_config(thing: Any) -> None:
    """The configuration holds every argument and makes the same thing again, also through JSON."""
    config = thing.get_config()
    parameters = inspect.signature(type(thing).__init__).parameters.values()
    named = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    lost = named - {"self"} - set(config)
    assert not lost, f"`get_config` leaves out {sorted(lost)}"

    rebuilt = type(thing).from_config(copy.deepcopy(config))
    assert rebuilt.get_config() == config, "`from_config` makes something of another config"
    document = json.dumps(keras.saving.serialize_keras_object(thing))
    restored = keras.saving.deserialize_keras_object(json.loads(document), safe_mode=True)
    assert type(restored) is type(thing), f"Deserialized as {type(restored)}"
    assert restored.get_config() == config, "Deserialized with another config"


def saved_and_loaded(model: keras.Model) -> keras.Model:
    """The model after a trip through a `.keras` file in safe mode."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return keras.saving.load_model(path, safe_mode=True)


@contextmanager
def policy(name: str) -> Iterator[None]:
    """Another global dtype policy inside a `with` block."""
    outer = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(outer)


def assert_equal(actual: Any, expected: Any, message: str) -> None:
    """Values are equal to the precision of sums in `float32`."""
    np.testing.assert_allclose(
        np.asarray(actual), np.asarray(expected), rtol=1e-5, atol=1e-6, err_msg=message
    )


def assert_all_equal(actual: list, expected: list, message: str, rtol: float = 1e-6) -> None:
    """Variables are equal, one by one; with `rtol=0.0` to the last bit."""
    # Paths are not compared: Keras itself changes them when it loads a model.
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(
            np.asarray(one), np.asarray(other), rtol=rtol, err_msg=f"{message}: {one.path}"
        )
