"""Callbacks of `fit`."""

from keras_extras.callbacks.backup_and_resume import BackupAndResume
from keras_extras.callbacks.kl_warm_up import KLWarmUp
from keras_extras.callbacks.search_monitor import SearchMonitor
from keras_extras.callbacks.stop_when_converged import StopWhenConverged
from keras_extras.callbacks.swag import SWAG

__all__ = ["SWAG", "BackupAndResume", "KLWarmUp", "SearchMonitor", "StopWhenConverged"]
