"""Whether a training goes on with the optimizer that it began with."""

import json
import warnings
from typing import Any

import keras


def optimizer_config(optimizer: keras.Optimizer) -> dict[str, Any]:
    """Returns the class and arguments for JSON; no arguments if they cannot be serialized."""
    try:
        return json.loads(json.dumps(keras.saving.serialize_keras_object(optimizer)))
    except (TypeError, ValueError, NotImplementedError):
        return {"class_name": type(optimizer).__name__, "config": {}}


def check_optimizer(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Warns of arguments that differ from those that training began with.

    Raises:
        ValueError: If the class differs.
    """
    if saved["class_name"] != now["class_name"]:
        raise ValueError(
            "`model` must be compiled with the optimizer that training began with, "
            f"{saved['class_name']}; delete `backup_dir` to start again. Received: "
            f"optimizer={now['class_name']}"
        )
    before, after = saved["config"], now["config"]
    names = sorted({*before, *after} - {"name"})
    differ = [
        f"{name}={before.get(name)!r}, not {after.get(name)!r}"
        for name in names
        if before.get(name) != after.get(name)
    ]
    if differ:
        warnings.warn(
            f"Training goes on from a backup in which {saved['class_name']} began with "
            f"{'; '.join(differ)}. Its state, with the learning rate, is that of the backup. Set "
            "`model.optimizer.learning_rate` in a callback, or delete `backup_dir` to start again.",
            stacklevel=3,
        )
