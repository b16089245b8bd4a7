"""FullBatch: what optimizers have that are made for all rows as one batch."""

import warnings
from typing import Any

from keras import ops

from keras_extras._core.training_set_size import learn_training_set_size
from keras_extras._core.user_frames import user_stacklevel


class FullBatch:
    """A mixin for optimizers that go to the minimum of a batch, or compare losses of several.

    On small batches that minimum is another one for each batch, which the loss in the logs hides.
    """

    name: str
    learning_rate: Any

    def __init__(self, *args: Any, **kwargs: Any):
        learn_training_set_size()
        super().__init__(*args, **kwargs)

    def check_batches(self, batches: int) -> None:
        """Warns if an epoch of `fit` has several batches and each is followed all the way."""
        if batches > 1 and float(ops.convert_to_numpy(self.learning_rate)) >= 1.0:
            warnings.warn(
                f"{type(self).__name__} is made for full batches: it follows the loss of each "
                "batch to its own minimum, so that the logged loss is lower than that of all rows. "
                "Give `fit` all rows as one batch, `batch_size=len(x)`, take a `learning_rate` "
                "below 1 to average over batches, or train with MonteCarloOptimizer or Adam. "
                f"Received: {batches} batches in an epoch",
                stacklevel=user_stacklevel(),
            )
