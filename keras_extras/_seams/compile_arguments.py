"""When a model is compiled, and whether `compile` was given `jit_compile` or left it to Keras.

Wrapped are the public `compile` of Keras' trainer and its `_resolve_auto_jit_compile`, which is
private: `compile` calls it for `"auto"` and keeps, also in `get_compile_config`, no more than what
it returns, so that a choice of Keras looks like one of the user. In
`model.compile(optimizer=Optimizer())` the first such optimizer comes too late for its `compile` to
be wrapped, but not for what that calls. Nor does an optimizer learn of its model, for which Keras'
loader builds it before it reads its state. Known to hold since Keras 3.12. A compile config that
keeps `"auto"`, and a hook of optimizers, would make it unnecessary.
"""

import inspect
import weakref
from collections.abc import Callable
from typing import Any

import keras

from keras_extras._seams.wrapped_methods import wrap_once

# The models whose last `compile` had `jit_compile="auto"`.
_open: weakref.WeakSet = weakref.WeakSet()


def remember_jit_compile() -> None:
    """Lets `leaves_compilation_open` know of every later `compile`."""
    wrap_once(keras.Model, "_resolve_auto_jit_compile", _noting, __name__)
    wrap_once(keras.Model, "compile", _forgetting, __name__)


def after_compile(key: str, function: Callable[[Any], None]) -> None:
    """Lets a function be called with each model that has been compiled.

    Args:
        key: String, the name of the module that asks; a second call with it does nothing.
        function: Function of the model.
    """

    def followed(stock):
        def compile(self, *args: Any, **kwargs: Any):
            result = stock(self, *args, **kwargs)
            function(self)
            return result

        return compile

    wrap_once(keras.Model, "compile", followed, key)


def leaves_compilation_open(model: keras.Model) -> bool:
    """Returns whether the last `compile` of a model was called with `jit_compile="auto"`."""
    return model in _open


def _noting(stock):
    def resolve_auto_jit_compile(self):
        # The getter of `jit_compile` calls it, too, for a model that was never compiled.
        caller = inspect.currentframe().f_back
        if caller.f_code.co_name == "compile":
            _open.add(self)
        return stock(self)

    return resolve_auto_jit_compile


def _forgetting(stock):
    def compile(self, *args: Any, **kwargs: Any):
        _open.discard(self)
        return stock(self, *args, **kwargs)

    return compile
