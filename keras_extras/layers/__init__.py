"""Keras layers."""

from keras_extras.layers.autoregressive_network import AutoregressiveNetwork
from keras_extras.layers.autoregressive_transform import AutoregressiveTransform
from keras_extras.layers.blockwise_initializer import BlockwiseInitializer
from keras_extras.layers.default_loc_scale_fn import (
    default_loc_scale_fn,
    default_mean_field_normal_fn,
    default_multivariate_normal_fn,
)
from keras_extras.layers.derivative_objectives.gradient_penalty import GradientPenalty
from keras_extras.layers.derivative_objectives.sensitivity_penalty import SensitivityPenalty
from keras_extras.layers.derivative_objectives.sobolev_training import SobolevTraining
from keras_extras.layers.distribution_lambda import DistributionLambda
from keras_extras.layers.einstein_latent import EinsteinLatent
from keras_extras.layers.exponentiated_quadratic_kernel import ExponentiatedQuadraticKernel
from keras_extras.layers.heads.categorical import Categorical
from keras_extras.layers.heads.categorical_mixture_of_one_hot_categorical import (
    CategoricalMixtureOfOneHotCategorical,
)
from keras_extras.layers.heads.independent_bernoulli import IndependentBernoulli
from keras_extras.layers.heads.independent_beta import IndependentBeta
from keras_extras.layers.heads.independent_gamma import IndependentGamma
from keras_extras.layers.heads.independent_laplace import IndependentLaplace
from keras_extras.layers.heads.independent_logistic import IndependentLogistic
from keras_extras.layers.heads.independent_negative_binomial import IndependentNegativeBinomial
from keras_extras.layers.heads.independent_normal import IndependentNormal
from keras_extras.layers.heads.independent_poisson import IndependentPoisson
from keras_extras.layers.heads.independent_student_t import IndependentStudentT
from keras_extras.layers.heads.mixture_logistic import MixtureLogistic
from keras_extras.layers.heads.mixture_normal import MixtureNormal
from keras_extras.layers.heads.mixture_same_family import MixtureSameFamily
from keras_extras.layers.heads.multivariate_normal_diag import MultivariateNormalDiag
from keras_extras.layers.heads.multivariate_normal_tri_l import MultivariateNormalTriL
from keras_extras.layers.heads.one_hot_categorical import OneHotCategorical
from keras_extras.layers.heads.zero_inflated import ZeroInflated
from keras_extras.layers.kl_divergence_add_loss import KLDivergenceAddLoss
from keras_extras.layers.kl_divergence_regularizer import KLDivergenceRegularizer
from keras_extras.layers.mc_dropout import MCDropout
from keras_extras.layers.missing_value_imputer import MissingValueImputer
from keras_extras.layers.random_feature_gaussian_process import RandomFeatureGaussianProcess
from keras_extras.layers.scale_shift import ScaleShift
from keras_extras.layers.temperature_scaling import TemperatureScaling
from keras_extras.layers.variable_layer import VariableLayer
from keras_extras.layers.variational.convolution_flipout import (
    Convolution1DFlipout,
    Convolution2DFlipout,
    Convolution3DFlipout,
)
from keras_extras.layers.variational.convolution_reparameterization import (
    Convolution1DReparameterization,
    Convolution2DReparameterization,
    Convolution3DReparameterization,
)
from keras_extras.layers.variational.dense_flipout import DenseFlipout
from keras_extras.layers.variational.dense_local_reparameterization import (
    DenseLocalReparameterization,
)
from keras_extras.layers.variational.dense_reparameterization import DenseReparameterization
from keras_extras.layers.variational.dense_variational import DenseVariational
from keras_extras.layers.variational.variational import Variational
from keras_extras.layers.variational_gaussian_process import VariationalGaussianProcess

__all__ = [
    "AutoregressiveNetwork",
    "AutoregressiveTransform",
    "BlockwiseInitializer",
    "Categorical",
    "CategoricalMixtureOfOneHotCategorical",
    "Convolution1DFlipout",
    "Convolution1DReparameterization",
    "Convolution2DFlipout",
    "Convolution2DReparameterization",
    "Convolution3DFlipout",
    "Convolution3DReparameterization",
    "DenseFlipout",
    "DenseLocalReparameterization",
    "DenseReparameterization",
    "DenseVariational",
    "DistributionLambda",
    "EinsteinLatent",
    "ExponentiatedQuadraticKernel",
    "GradientPenalty",
    "IndependentBernoulli",
    "IndependentBeta",
    "IndependentGamma",
    "IndependentLaplace",
    "IndependentLogistic",
    "IndependentNegativeBinomial",
    "IndependentNormal",
    "IndependentPoisson",
    "IndependentStudentT",
    "KLDivergenceAddLoss",
    "KLDivergenceRegularizer",
    "MCDropout",
    "MissingValueImputer",
    "MixtureLogistic",
    "MixtureNormal",
    "MixtureSameFamily",
    "MultivariateNormalDiag",
    "MultivariateNormalTriL",
    "OneHotCategorical",
    "RandomFeatureGaussianProcess",
    "ScaleShift",
    "SensitivityPenalty",
    "SobolevTraining",
    "TemperatureScaling",
    "VariableLayer",
    "Variational",
    "VariationalGaussianProcess",
    "ZeroInflated",
    "default_loc_scale_fn",
    "default_mean_field_normal_fn",
    "default_multivariate_normal_fn",
]
