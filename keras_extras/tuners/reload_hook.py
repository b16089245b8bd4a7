"""The seam to keras-tuner where a search is constructed, resumed and begun.

A tuner that finds its project on the disk takes over the state and the space that it finds. Stock
keras-tuner then repeats the trial that ended last, forgets where a grid was, and searches the old
space even if that of the hypermodel has changed. It lets several processes search in one folder,
and lets a worker that is started with `overwrite=True` delete what others have found.
`BaseTuner.__init__` is wrapped once, when the first hypermodel of ours is constructed, by
`HypergradientTuner`, and in the processes of `run_workers`. Tuners of other hypermodels stay as
they are.
"""

import os
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

from keras_tuner.engine.base_tuner import BaseTuner

from keras_extras._core.wrapped_methods import wrap_once
from keras_extras.tuners import project, roles
from keras_extras.tuners.chief import guard_oracle
from keras_extras.tuners.skip_finished_trials import skip_finished_trials
from keras_extras.tuners.whole_states import write_whole_states

_OURS: set[type] = set()
# Seconds for a chief whose parent was killed, and which is about to follow.
_PATIENCE = 10.0


def install_reload_hook(ours: type) -> None:
    """Lets tuners write whole files, be alone in their folder and, resumed, go on where they were.

    Resumed, they skip finished trials and refuse another space.

    Args:
        ours: The class of hypermodels or of tuners for which they do.
    """
    _OURS.add(ours)
    wrap_once(BaseTuner, "__init__", _constructing)


def _constructing(stock_init: Callable) -> Callable:
    def __init__(self, oracle, hypermodel=None, *args, **kwargs):
        if not isinstance(hypermodel, tuple(_OURS)) and not isinstance(self, tuple(_OURS)):
            stock_init(self, oracle, hypermodel, *args, **kwargs)
            return
        kwargs.update(zip(("directory", "project_name", "overwrite"), args))
        folder = project.project_folder(**kwargs)
        if roles.is_worker():
            kwargs["overwrite"] = False  # The chief has done that.
        elif kwargs.get("overwrite"):
            project.refuse_if_searched(folder, _patience())
        else:
            project.take_over_state(folder, os.environ.get("KERASTUNER_TUNER_ID", "tuner0"))
        # All of the instance, so that no other tuner is touched.
        self.reload = MethodType(_reload, self)
        stock_init(self, oracle, hypermodel, **kwargs)
        write_whole_states(self, oracle)
        if roles.is_chief():
            project.lock_until_the_end(folder, _patience())
            guard_oracle(oracle)
            self.save = MethodType(_save, self)
        elif not roles.is_worker():
            self._state_seen = project.state_on_disk(folder)
            self.search = MethodType(_search, self)

    return __init__


def _patience():
    return _PATIENCE if roles.is_chief() else 0.0


def _reload(tuner: Any) -> None:
    given = tuner.oracle.get_space()
    type(tuner).reload(tuner)
    if roles.is_worker():
        return  # It will ask the chief, who has compared spaces.
    state = tuner.oracle.get_state()
    if not isinstance(state, dict) or "hyperparameters" not in state:
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


def _search(tuner: Any, *args: Any, **kwargs: Any) -> Any:
    """Searches while no other process does, from where the last one has ended."""
    folder = Path(tuner.project_dir)
    with project.lock_search(folder):
        if project.state_on_disk(folder) != tuner._state_seen and project.has_state(
            folder, tuner.tuner_id
        ):
            tuner.reload()
        try:
            return type(tuner).search(tuner, *args, **kwargs)
        finally:
            tuner._state_seen = project.state_on_disk(folder)


def _save(chief: Any) -> None:
    """Saves the state under the name by which tuners in one process look for it, too."""
    type(chief).save(chief)
    project.share_state(Path(chief.project_dir))
