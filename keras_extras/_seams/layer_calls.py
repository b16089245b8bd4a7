"""The calls of layers of one model, replaced for a block of one thread.

Replaced is the public `call`, on the objects. Keras has no hook that sees or changes what goes
through a layer of a model as it runs; a copy of the model would have other weights and, where it is
subclassed, cannot be made. Known to hold since Keras 3.12. Forward hooks of layers would make it
unnecessary.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

import keras

_lock = threading.RLock()


@contextlib.contextmanager
def replaced_calls(
    layers: Sequence[keras.layers.Layer],
    replacement: Callable[[keras.layers.Layer, Callable], Callable],
) -> Iterator[None]:
    """Within it, layers have other calls for this thread.

    Args:
        layers: The layers. Other threads that replace calls wait, because layers may be those of
            another model, too.
        replacement: Function from a layer and its call to the call in its place.
    """
    with _lock:
        own_calls = [vars(layer).get("call") for layer in layers]
        try:
            for layer in layers:
                layer.call = _for_this_thread(layer.call, replacement(layer, layer.call))
            yield
        finally:
            for layer, call in zip(layers, own_calls):
                if call is not None:
                    layer.call = call
                elif "call" in vars(layer):
                    del layer.call  # Its class has one.


def _for_this_thread(call, replacement):
    thread = threading.get_ident()

    def called(*args, **kwargs):
        function = replacement if threading.get_ident() == thread else call
        return function(*args, **kwargs)

    return called
