"""The seam to keras-tuner where a search is taken up again.

A tuner that finds its project on the disk takes over the state and the space that it finds. Stock
keras-tuner then repeats the trial that ended last, and searches the old space even if that of the
hypermodel has changed. It also writes its state in place, so that a kill can leave half a file,
which no tuner can read. Here `BaseTuner.reload` and the `save` of its base get wrappers, once, when
the first hypermodel of ours is constructed, by `HypergradientTuner`, and in the processes of
`run_workers`.
"""

import os

from keras_tuner.engine.base_tuner import BaseTuner

from keras_extras._core.files import whole_file
from keras_extras._core.wrapped_methods import wrap_once
from keras_extras.tuners.skip_finished_trials import skip_finished_trials


def install_reload_hook(hypermodel_class: type) -> None:
    """Lets tuners write whole files and, taken up, skip finished trials and refuse another space.

    Args:
        hypermodel_class: The class of hypermodels whose `differences` tells of the space.
    """
    wrap_once(BaseTuner, "reload", lambda stock: _reloading(stock, hypermodel_class))
    # What tuners, oracles and trials have in common.
    stateful = next(cls for cls in BaseTuner.__mro__[1:] if "save" in vars(cls))
    wrap_once(stateful, "save", _saving_whole)


def _reloading(stock_reload, hypermodel_class):
    def reload(self):
        given = self.oracle.get_space()
        stock_reload(self)
        skip_finished_trials(self.oracle)
        if not isinstance(self.hypermodel, hypermodel_class):
            return
        differences = self.hypermodel.differences(self.oracle.get_space(), given)
        if differences:
            raise ValueError(
                f"The search in {self.project_dir} must have the space of the hypermodel that "
                f"takes it up. Received: {'; '.join(differences)}. Choose another `project_name`, "
                "or `overwrite=True` to begin anew"
            )

    return reload


def _saving_whole(stock_save):
    def save(self, fname):
        if not os.path.isdir(os.path.dirname(fname)):  # Not on a disk, or not there.
            return stock_save(self, fname)
        with whole_file(fname) as path:
            return stock_save(self, str(path))

    return save
