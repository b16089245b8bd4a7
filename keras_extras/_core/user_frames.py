"""Where in a user's program a warning belongs."""

import inspect

_LIBRARIES = ("keras_extras", "keras", "contextlib")


def user_stacklevel() -> int:
    """Returns the `stacklevel` by which a warning names the line that called into Keras.

    How many calls lie between depends on what wraps `fit`. To be called where the warning is given.
    """
    frames = inspect.stack(context=0)[1:]
    names = [info.frame.f_globals.get("__name__", "") for info in frames]
    return next((k for k, name in enumerate(names, 1) if not _is_library(name)), len(names))


def _is_library(module):
    return module.split(".")[0] in _LIBRARIES
