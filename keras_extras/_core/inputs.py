"""One of several inputs of a model, by its name or position."""

from typing import Any

import keras


def input_place(wrt: Any, inputs: Any, model: Any, others: tuple[str, ...] = ()) -> int:
    """Returns the place of an input among all, in the order of `keras.tree.flatten`.

    Args:
        wrt: String, a key of a dict of inputs or the name of a `keras.Input`, or integer.
        inputs: Structure of tensors.
        model: The model that takes them.
        others: Further values of `wrt`, for the message. Defaults to `()`.

    Raises:
        ValueError: If there is no such input.
    """
    count = len(keras.tree.flatten(inputs))
    tensors = keras.tree.flatten(getattr(model, "inputs", None) or [])
    of_model = [tensor.name for tensor in tensors] if len(tensors) == count else []
    of_dict: list[str] = []
    if isinstance(inputs, dict):
        of_dict = [str(path[-1]) for path, _ in keras.tree.flatten_with_path(inputs)]
    for names in (of_dict, of_model, list(range(count))):
        if type(wrt) in (str, int) and wrt in names:
            return names.index(wrt)
    listed = ", ".join(map(repr, [*(of_dict or of_model), *range(count)]))
    rule = f"one of {', '.join(map(repr, others))}, or " if others else ""
    raise ValueError(
        f"`wrt` must be {rule}the name or position of an input, {listed}. Received: wrt={wrt!r}"
    )
