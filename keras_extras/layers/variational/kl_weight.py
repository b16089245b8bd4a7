"""By how much the divergence from the prior counts in the loss."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_number
from keras_extras._core.kl_share import add_share
from keras_extras._core.training_set_size import (
    NAME,
    current_training_set_size,
    learn_training_set_size,
    require_known_size,
    sized,
)
from keras_extras.layers.variational.weight_divergence import WeightDivergence


def check_kl_weight(kl_weight: Any) -> Any:
    """Returns `kl_weight` if it is None, "auto" or a number that is not negative."""
    if kl_weight is None or (isinstance(kl_weight, str) and kl_weight == "auto"):
        learn_training_set_size()
        return kl_weight
    if isinstance(kl_weight, str):
        raise ValueError(
            f"`kl_weight` must be 'auto', a number or None. Received: kl_weight={kl_weight!r}"
        )
    return check_number("kl_weight", kl_weight, at_least=0.0)


class KLWeightMixin:
    """The variables and the weighted divergence of layers with a `kl_weight`."""

    kl_weight: Any
    trainable: bool

    @property
    def asks_for_training_set_size(self) -> bool:
        """Whether `fit` gives the number of rows to the layer."""
        return self.kl_weight == "auto"

    @property
    def adds_full_divergence(self) -> bool:
        """Whether the divergence is trained with weight 1 because no weight is given."""
        return self.kl_weight is None and self.trainable

    def _build_kl_weight(self):
        self.kl_warm_up = add_share(self)
        self.training_set_size = None
        if self.kl_weight == "auto":
            self.training_set_size = sized(
                self.add_weight(
                    name=NAME,
                    shape=(),
                    initializer=keras.initializers.Constant(current_training_set_size()),
                    dtype="float32",
                    autocast=False,
                    trainable=False,
                )
            )

        self._weight_divergences = []
        self._unheld_divergences = []

    def _count_divergence(self, variables: Sequence[keras.Variable], divergence: Callable):
        """Makes a divergence count once in the losses of a step."""
        if variables:
            self._weight_divergences.append(WeightDivergence(variables, divergence))
        else:
            self._unheld_divergences.append([divergence, lambda: None])

    def _update_divergences(self):
        """Lets divergences count once in the losses of the present step."""
        for divergence in self._weight_divergences:
            divergence.place()
        for entry in self._unheld_divergences:
            divergence, last = entry
            if not any(loss is last() for loss in self.losses):
                loss = divergence()
                self.add_loss(loss)
                entry[1] = weakref.ref(loss)

    def _check_training_set_size(self, training):
        if training is True and self.training_set_size is not None:
            require_known_size(self.training_set_size, f"Layer {self.name!r} with kl_weight='auto'")

    def _weighted(self, divergence):
        """Returns a divergence times its weight, at least in single precision."""
        weight = ops.convert_to_tensor(self.kl_warm_up)
        if self.training_set_size is not None:
            weight = ops.divide_no_nan(weight, ops.convert_to_tensor(self.training_set_size))
        elif self.kl_weight is not None:
            weight = weight * self.kl_weight
        dtype = keras.backend.result_type(divergence.dtype, "float32")
        return ops.cast(weight, dtype) * ops.cast(divergence, dtype)
