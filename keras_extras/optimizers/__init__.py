"""Optimizers that search, sample or adapt their rate, in stock `compile` and `fit`."""

from keras_extras.optimizers import priors, schedules, transforms
from keras_extras.optimizers.cma_es import CMAES
from keras_extras.optimizers.cyclical_sgld import CyclicalSGLD
from keras_extras.optimizers.hypergradient_adam import HypergradientAdam
from keras_extras.optimizers.hypergradient_sgd import HypergradientSGD
from keras_extras.optimizers.ivon import IVON
from keras_extras.optimizers.lbfgs import LBFGS
from keras_extras.optimizers.levenberg_marquardt import LevenbergMarquardt
from keras_extras.optimizers.loss_evaluating import LossEvaluatingOptimizer
from keras_extras.optimizers.monte_carlo import MonteCarloOptimizer
from keras_extras.optimizers.newton_cg import NewtonCG
from keras_extras.optimizers.partitioned import PartitionedOptimizer
from keras_extras.optimizers.population_optimizer import PopulationOptimizer
from keras_extras.optimizers.quantized_search import QuantizedSearch
from keras_extras.optimizers.sgld import SGLD
from keras_extras.optimizers.spsa import SPSA
from keras_extras.optimizers.ss_broyden import SSBroyden

__all__ = [
    "CMAES",
    "IVON",
    "LBFGS",
    "SGLD",
    "SPSA",
    "CyclicalSGLD",
    "HypergradientAdam",
    "HypergradientSGD",
    "LevenbergMarquardt",
    "LossEvaluatingOptimizer",
    "MonteCarloOptimizer",
    "NewtonCG",
    "PartitionedOptimizer",
    "PopulationOptimizer",
    "QuantizedSearch",
    "SSBroyden",
    "priors",
    "schedules",
    "transforms",
]
