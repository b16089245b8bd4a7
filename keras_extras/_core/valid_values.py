"""Checks of values, which only eager code can read."""

from typing import Any

from keras import ops

from keras_extras._core.backend import is_traced


def require_values(valid: Any, value: Any, rule: str, **received: Any) -> Any:
    """Returns `value` if all entries of `valid` are true.

    A compiled program cannot raise; there the result is NaN instead.

    Args:
        valid: Boolean tensor.
        value: Tensor of floats.
        rule: The start of the error's message.
        **received: Tensors by name, whose leading axes are those of `valid`. The error shows the
            first entries that are not valid.

    Raises:
        ValueError: In eager code, if an entry of `valid` is false.
    """
    if is_traced(valid):
        return ops.where(ops.all(valid), value, ops.full_like(value, float("nan")))
    wrong = ~ops.convert_to_numpy(valid)
    if wrong.any():
        shown = ", ".join(
            f"{name}={ops.convert_to_numpy(tensor)[wrong][:3].tolist()}"
            for name, tensor in received.items()
        )
        raise ValueError(f"{rule} Received: {shown} among {wrong.size} rows")
    return value
