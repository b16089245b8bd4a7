"""The construction of keras-tuner's tuners, where a search takes over what is on the disk.

Wrapped is the public `BaseTuner.__init__`, which reads and deletes the folder of a search before it
returns; a hypermodel is not asked. Known to hold since keras-tuner 1.4.8. A method of hypermodels
that a tuner calls before it opens its folder would make it unnecessary.
"""

from collections.abc import Callable
from typing import Any

from keras_tuner.engine.base_tuner import BaseTuner

from keras_extras._seams.wrapped_methods import wrap_once


def construct_tuners(is_ours: Callable[[Any, Any], bool], construct: Callable[..., None]) -> None:
    """Lets a function construct the tuners of ours, once.

    Args:
        is_ours: Function of a tuner, which is not constructed, and its hypermodel; of others all
            is as before.
        construct: Function in place of `__init__`: of keras-tuner's own, the tuner, the oracle, the
            hypermodel, and the arguments `directory`, `project_name` and `overwrite` and others, as
            keywords.
    """

    def constructing(stock_init):
        def __init__(self, oracle, hypermodel=None, *args, **kwargs):
            if not is_ours(self, hypermodel):
                stock_init(self, oracle, hypermodel, *args, **kwargs)
                return
            kwargs.update(zip(("directory", "project_name", "overwrite"), args))
            construct(stock_init, self, oracle, hypermodel, **kwargs)

        return __init__

    wrap_once(BaseTuner, "__init__", constructing)
