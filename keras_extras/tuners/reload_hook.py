"""A search that is constructed, resumed and begun.

A tuner that finds its project on the disk takes over the state and the space that it finds. Stock
keras-tuner then repeats the trial that ended last, forgets where a grid was, and searches the old
space even if that of the hypermodel has changed. It lets several processes search in one folder,
and lets a worker that is started with `overwrite=True` delete what others have found. Tuners of
hypermodels of ours do not, from the first one on, nor do those in the processes of `run_workers`.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_extras._seams.tuner_construction import construct_tuners
from keras_extras._seams.tuner_state import find_space_again
from keras_extras._seams.whole_states import write_whole_states
from keras_extras._seams.wrapped_methods import wrap_on_object
from keras_extras.tuners import project, roles
from keras_extras.tuners.chief import guard_oracle
from keras_extras.tuners.skip_finished_trials import skip_finished_trials

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
    construct_tuners(_is_ours, _construct)


def _is_ours(tuner, hypermodel):
    return isinstance(hypermodel, tuple(_OURS)) or isinstance(tuner, tuple(_OURS))


def _construct(stock_init, tuner, oracle, hypermodel, **kwargs):
    folder = project.project_folder(**kwargs)
    if roles.is_worker():
        kwargs["overwrite"] = False  # The chief has done that.
    elif kwargs.get("overwrite"):
        project.refuse_if_searched(folder, _patience())
    else:
        project.take_over_state(folder, os.environ.get("KERASTUNER_TUNER_ID", "tuner0"))
    # All on the object, so that no other tuner is touched.
    wrap_on_object(tuner, "reload", lambda stock: lambda: _reload(tuner, stock))
    stock_init(tuner, oracle, hypermodel, **kwargs)
    write_whole_states(tuner, oracle)
    if roles.is_chief():
        project.lock_until_the_end(folder, _patience())
        guard_oracle(oracle)
        wrap_on_object(tuner, "save", lambda stock: lambda: _save(tuner, stock))
    elif not roles.is_worker():
        wrap_on_object(tuner, "search", lambda stock: _searching(tuner, stock))


def _patience():
    return _PATIENCE if roles.is_chief() else 0.0


def _reload(tuner: Any, stock_reload: Callable) -> None:
    given = tuner.oracle.get_space()
    stock_reload()
    if roles.is_worker():
        return  # It will ask the chief, who has compared spaces.
    state = tuner.oracle.get_state()
    if not isinstance(state, dict) or "hyperparameters" not in state:
        # An oracle with a state of another form, which has not restored its space.
        find_space_again(tuner)
    differences = getattr(tuner.hypermodel, "differences", None)
    found = differences(tuner.oracle.get_space(), given) if differences else []
    if found:
        raise ValueError(
            f"The search in {tuner.project_dir} must have the space of the hypermodel that "
            f"resumes it. Received: {'; '.join(found)}. Choose another `project_name`, "
            "or `overwrite=True` to start over"
        )
    skip_finished_trials(tuner.oracle)


def _searching(tuner: Any, stock_search: Callable) -> Callable:
    """Searches while no other process does, from where the last one has ended."""
    folder = Path(tuner.project_dir)
    seen = project.state_on_disk(folder)

    def search(*args, **kwargs):
        nonlocal seen
        with project.lock_search(folder):
            if project.state_on_disk(folder) != seen and project.has_state(folder, tuner.tuner_id):
                tuner.reload()
            try:
                return stock_search(*args, **kwargs)
            finally:
                seen = project.state_on_disk(folder)

    return search


def _save(chief: Any, stock_save: Callable) -> None:
    """Saves the state under the name by which tuners in one process look for it, too."""
    stock_save()
    project.share_state(Path(chief.project_dir))
