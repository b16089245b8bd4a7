"""The states that tuners, oracles and trials of keras-tuner write.

keras-tuner writes its state in place, so that a kill can leave half a file, which no tuner can
read. Wrapped is the public `save` that all of them have in common; it does something else for the
tuners and oracles that were named, and for the trials of these oracles. Known to hold since
keras-tuner 1.4.8. Files that keras-tuner itself replaces in one step would make it unnecessary.
"""

import os
import weakref
from typing import Any

from keras_tuner.engine.base_tuner import BaseTuner

from keras_extras._core.files import whole_file
from keras_extras._seams.wrapped_methods import wrap_once

# By identity; a class of the user may compare its objects by what is in them.
_owners: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def write_whole_states(*owners: Any) -> None:
    """Lets what these save replace the file that was there in one step.

    Args:
        *owners: A tuner, and its oracle, whose trials are meant, too.
    """
    _owners.update({id(owner): owner for owner in owners})
    wrap_once(_stateful(), "save", _saving_whole)


def _stateful():
    """The class of all that is saved, which has no public name."""
    return next(cls for cls in BaseTuner.__mro__[1:] if "save" in vars(cls))


def _saving_whole(stock_save):
    def save(self, fname):
        is_local = os.path.isdir(os.path.dirname(os.path.abspath(fname)))
        if not is_local or not _is_ours(self):
            return stock_save(self, fname)
        with whole_file(fname) as path:
            return stock_save(self, str(path))

    return save


def _is_ours(saved):
    if _owners.get(id(saved)) is saved:
        return True
    trial_id = getattr(saved, "trial_id", None)
    return trial_id is not None and any(
        _get(getattr(owner, "trials", None), trial_id) is saved for owner in _owners.values()
    )


def _get(trials, trial_id):
    return trials.get(trial_id) if isinstance(trials, dict) else None
