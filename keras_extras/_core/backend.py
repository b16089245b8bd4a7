"""What works on one Keras backend only."""

import keras


def require_tensorflow(owner: str) -> None:
    """Raises if Keras stands on another backend.

    Args:
        owner: What needs it, the start of the error's sentence.

    Raises:
        ImportError: On a Keras backend other than TensorFlow.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ImportError(
            f"{owner} needs Keras' TensorFlow backend. Received: backend={backend!r}. "
            "Set the environment variable KERAS_BACKEND=tensorflow before importing keras."
        )
