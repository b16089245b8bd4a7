"""Several trainings as one model."""

from keras_extras.pipelines.autoencoder_classifier import AutoencoderClassifier
from keras_extras.pipelines.two_stage_trainer import StageHistories

__all__ = ["AutoencoderClassifier", "StageHistories"]
