"""Optimizers that evaluate the loss themselves, in stock `compile` and `fit`."""

from keras_extras.optimizers import priors, transforms
from keras_extras.optimizers.loss_evaluating import LossEvaluatingOptimizer
from keras_extras.optimizers.monte_carlo import MonteCarloOptimizer

__all__ = ["LossEvaluatingOptimizer", "MonteCarloOptimizer", "priors", "transforms"]
