"""What models are made of."""

from keras_extras.layers.distribution_lambda import DistributionLambda
from keras_extras.layers.einstein_latent import EinsteinLatent
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
from keras_extras.layers.missing_value_imputer import MissingValueImputer
from keras_extras.layers.scale_shift import ScaleShift

__all__ = [
    "Categorical",
    "CategoricalMixtureOfOneHotCategorical",
    "DistributionLambda",
    "EinsteinLatent",
    "IndependentBernoulli",
    "IndependentBeta",
    "IndependentGamma",
    "IndependentLaplace",
    "IndependentLogistic",
    "IndependentNegativeBinomial",
    "IndependentNormal",
    "IndependentPoisson",
    "IndependentStudentT",
    "MissingValueImputer",
    "MixtureLogistic",
    "MixtureNormal",
    "MixtureSameFamily",
    "MultivariateNormalDiag",
    "MultivariateNormalTriL",
    "OneHotCategorical",
    "ScaleShift",
    "ZeroInflated",
]
