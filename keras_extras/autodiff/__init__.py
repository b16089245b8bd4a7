"""Derivatives of models, and of their training."""

from keras_extras.autodiff.check_gradients import check_gradients
from keras_extras.autodiff.gauss_newton_vector_product import gauss_newton_vector_product
from keras_extras.autodiff.gradient import gradient
from keras_extras.autodiff.gradient_check import GradientCheck
from keras_extras.autodiff.gradient_entry import GradientEntry
from keras_extras.autodiff.hessian import hessian
from keras_extras.autodiff.hessian_vector_product import hessian_vector_product
from keras_extras.autodiff.jacobian import jacobian
from keras_extras.autodiff.jacobian_vector_product import jacobian_vector_product
from keras_extras.autodiff.per_step import PerStep
from keras_extras.autodiff.per_weight import PerWeight
from keras_extras.autodiff.unrolled_training import UnrolledTraining
from keras_extras.autodiff.vector_jacobian_product import vector_jacobian_product
from keras_extras.autodiff.weights_and_inputs import WeightsAndInputs

__all__ = [
    "GradientCheck",
    "GradientEntry",
    "PerStep",
    "PerWeight",
    "UnrolledTraining",
    "WeightsAndInputs",
    "check_gradients",
    "gauss_newton_vector_product",
    "gradient",
    "hessian",
    "hessian_vector_product",
    "jacobian",
    "jacobian_vector_product",
    "vector_jacobian_product",
]
