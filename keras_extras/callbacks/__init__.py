"""What accompanies `fit`."""

from keras_extras.callbacks.kl_warm_up import KLWarmUp
from keras_extras.callbacks.search_monitor import SearchMonitor
from keras_extras.callbacks.stop_when_converged import StopWhenConverged

__all__ = ["KLWarmUp", "SearchMonitor", "StopWhenConverged"]
