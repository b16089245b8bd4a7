"""How learning rates change during training."""

from keras_extras.optimizers.schedules.power_decay import PowerDecay

__all__ = ["PowerDecay"]
