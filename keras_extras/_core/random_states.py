"""The global generators of `random` and `numpy.random`: Keras draws orders of batches from them."""

import random
from typing import Any

import numpy as np


def global_random_states() -> dict[str, Any]:
    """Returns the states of both, as JSON takes them."""
    numpy_state: Any = np.random.get_state(legacy=False)
    return {"random": random.getstate(), "numpy": _as_lists(numpy_state)}


def set_global_random_states(states: dict[str, Any]) -> None:
    """Sets both to what `global_random_states` returned."""
    version, internal, gauss = states["random"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(states["numpy"])


def _as_lists(state):
    if isinstance(state, dict):
        return {name: _as_lists(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state
