"""Whether layers with a posterior draw their weights in prediction, as `predict_distribution` asks.

Layers that always draw, such as `DenseFlipout`, do not ask.
"""

import contextlib
import contextvars
from collections.abc import Iterator

_is_drawing: contextvars.ContextVar[bool] = contextvars.ContextVar("is_drawing", default=False)


@contextlib.contextmanager
def drawing(is_drawing: bool) -> Iterator[None]:
    """Within it, layers draw their weights, or do not.

    Args:
        is_drawing: Boolean.
    """
    token = _is_drawing.set(is_drawing)
    try:
        yield
    finally:
        _is_drawing.reset(token)


def is_drawing() -> bool:
    """Returns whether layers draw their weights."""
    return _is_drawing.get()
