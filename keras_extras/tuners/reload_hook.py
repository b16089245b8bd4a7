"""The seam to keras-tuner where a search is resumed.

A tuner that finds its project on the disk takes over the state and the space that it finds. Stock
keras-tuner then repeats the trial that ended last, forgets where a grid was, and searches the old
space even if that of the hypermodel has changed. It also writes its state in place, so that a kill
can leave half a file, which no tuner can read. `BaseTuner.__init__` is wrapped once, when the first
hypermodel of ours is constructed, by `HypergradientTuner`, and in the processes of `run_workers`.
Tuners of other hypermodels stay as they are.
"""

import os
from types import MethodType
from typing import Any

from keras_tuner.engine.base_tuner import BaseTuner

from keras_extras._core.files import whole_file
from keras_extras._core.wrapped_methods import wrap_once
from keras_extras.tuners.skip_finished_trials import skip_finished_trials

_OURS: set[type] = set()
# Files of state in these folders are written whole.
_PROJECTS: set[str] = set()


def install_reload_hook(ours: type) -> None:
    """Lets tuners write whole files and, resumed, skip finished trials and refuse another space.

    Args:
        ours: The class of hypermodels or of tuners for which they do.
    """
    _OURS.add(ours)
    wrap_once(BaseTuner, "__init__", _constructing)


def _constructing(stock_init):
    def __init__(self, oracle, hypermodel=None, *args, **kwargs):
        if not isinstance(hypermodel, tuple(_OURS)) and not isinstance(self, tuple(_OURS)):
            stock_init(self, oracle, hypermodel, *args, **kwargs)
            return
        # Of the instance, so that no other tuner is touched.
        self.reload = MethodType(_reload, self)
        stock_init(self, oracle, hypermodel, *args, **kwargs)
        _write_whole_files(self.project_dir)

    return __init__


def _reload(tuner: Any) -> None:
    given = tuner.oracle.get_space()
    type(tuner).reload(tuner)
    if "hyperparameters" not in tuner.oracle.get_state():
        # An oracle with a state of another form, which has not restored its space.
        tuner._populate_initial_space()
    differences = getattr(tuner.hypermodel, "differences", None)
    found = differences(tuner.oracle.get_space(), given) if differences else []
    if found:
        raise ValueError(
            f"The search in {tuner.project_dir} must have the space of the hypermodel that "
            f"resumes it. Received: {'; '.join(found)}. Choose another `project_name`, "
            "or `overwrite=True` to start over"
        )
    skip_finished_trials(tuner.oracle)


def _write_whole_files(folder: str) -> None:
    """Lets what keras-tuner saves below `folder` replace the file that was there in one step."""
    _PROJECTS.add(os.path.abspath(folder))
    # Tuners, oracles and trials have it in common.
    stateful = next(cls for cls in BaseTuner.__mro__[1:] if "save" in vars(cls))
    wrap_once(stateful, "save", _saving_whole)


def _saving_whole(stock_save):
    def save(self, fname):
        folder = os.path.dirname(os.path.abspath(fname))
        # Trials have folders in that of the project.
        is_ours = folder in _PROJECTS or os.path.dirname(folder) in _PROJECTS
        if not is_ours or not os.path.isdir(folder):
            return stock_save(self, fname)
        with whole_file(fname) as path:
            return stock_save(self, str(path))

    return save
