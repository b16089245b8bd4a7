"""The seam to keras-tuner where a search is taken up again.

A tuner that finds its project on the disk takes over the state and the space that it finds. Stock
keras-tuner then repeats the trial that ended last, and searches the old space even if that of the
hypermodel has changed. Here `BaseTuner.reload` gets a wrapper, once, when the first hypermodel of
ours is constructed, by `HypergradientTuner`, and in the processes of `run_workers`.
"""

import functools

from keras_tuner.engine.base_tuner import BaseTuner

from keras_extras.tuners.skip_finished_trials import skip_finished_trials


def install_reload_hook(hypermodel_class: type) -> None:
    """Lets tuners that are taken up skip finished trials and refuse another space.

    Args:
        hypermodel_class: The class of hypermodels whose `differences` tells of the space.
    """
    stock_reload = BaseTuner.reload
    if hasattr(stock_reload, "__wrapped__"):
        return

    @functools.wraps(stock_reload)
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

    BaseTuner.reload = reload
