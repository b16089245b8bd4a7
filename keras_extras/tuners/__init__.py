"""Search spaces for keras-tuner, and searches over several processes."""

from keras_extras.tuners.autoencoder_classifier_hyper_model import (
    AutoencoderClassifierHyperModel,
)
from keras_extras.tuners.bayesian_hyper_model import BayesianHyperModel
from keras_extras.tuners.hypergradient_tuner import HypergradientTuner
from keras_extras.tuners.mixture_density_hyper_model import MixtureDensityHyperModel
from keras_extras.tuners.monte_carlo_hyper_model import MonteCarloHyperModel
from keras_extras.tuners.run_workers import run_workers
from keras_extras.tuners.search_report import SearchReport
from keras_extras.tuners.skip_finished_trials import skip_finished_trials
from keras_extras.tuners.tabular_hyper_model import TabularHyperModel
from keras_extras.tuners.trial_record import TrialRecord

__all__ = [
    "AutoencoderClassifierHyperModel",
    "BayesianHyperModel",
    "HypergradientTuner",
    "MixtureDensityHyperModel",
    "MonteCarloHyperModel",
    "SearchReport",
    "TabularHyperModel",
    "TrialRecord",
    "run_workers",
    "skip_finished_trials",
]
