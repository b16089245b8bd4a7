"""Derivatives of models, their check against central differences, and differentiable minima."""

from keras_extras.autodiff.checking.check_gradients import check_gradients
from keras_extras.autodiff.checking.gradient_check import GradientCheck, GradientEntry
from keras_extras.autodiff.data import WeightsAndInputs
from keras_extras.autodiff.fixed_point import fixed_point
from keras_extras.autodiff.gauss_newton_vector_product import gauss_newton_vector_product
from keras_extras.autodiff.gradient import gradient
from keras_extras.autodiff.hessian import hessian
from keras_extras.autodiff.hessian_vector_product import hessian_vector_product
from keras_extras.autodiff.jacobian import jacobian
from keras_extras.autodiff.jacobian_vector_product import jacobian_vector_product
from keras_extras.autodiff.minimize import minimize
from keras_extras.autodiff.minimum import FixedPoint, Minimum
from keras_extras.autodiff.vector_jacobian_product import vector_jacobian_product

__all__ = [
    "FixedPoint",
    "GradientCheck",
    "GradientEntry",
    "Minimum",
    "WeightsAndInputs",
    "check_gradients",
    "fixed_point",
    "gauss_newton_vector_product",
    "gradient",
    "hessian",
    "hessian_vector_product",
    "jacobian",
    "jacobian_vector_product",
    "minimize",
    "vector_jacobian_product",
]
