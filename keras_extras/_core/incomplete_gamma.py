"""Distribution functions by incomplete gamma functions of large shapes.

TensorFlow's series stops after 2,000 terms, too few from shapes of about 1e5, and in float32 the
terms are rounded by more than 1e-4 from shapes of about 1,000.
"""

import math
from typing import Any

import keras

from keras_extras._core.probability import tf, tfd

_LARGE = {"float64": 2e4}
_LARGE_IF_ROUNDED = 200.0
# Of the series of Temme's first correction in powers of eta.
_CORRECTION = (-1 / 3, 1 / 12, -2 / 135, 1 / 864, 1 / 2835, -139 / 777600)


def gamma_cdf(distribution: Any, y: Any) -> Any:
    """Returns the distribution function if it is one of an incomplete gamma function, or None.

    Args:
        distribution: A `tfd.Distribution` of single numbers.
        y: Tensor of values in its support.
    """
    if isinstance(distribution, tfd.Gamma | tfd.ExpGamma | tfd.InverseGamma):
        a = distribution.concentration
    elif isinstance(distribution, tfd.Chi2 | tfd.Chi):
        a = 0.5 * distribution.df
    elif isinstance(distribution, tfd.Poisson):
        a = y + 1.0
    else:
        return None
    if isinstance(distribution, tfd.InverseGamma):
        x, is_upper = distribution.scale / y, True
    elif isinstance(distribution, tfd.Poisson):
        x, is_upper = distribution.rate_parameter(), True
    elif isinstance(distribution, tfd.Chi2):
        x, is_upper = 0.5 * y, False
    elif isinstance(distribution, tfd.Chi):
        x, is_upper = 0.5 * y**2, False
    else:
        rate = distribution.rate
        rate = tf.exp(distribution.log_rate) if rate is None else rate
        x, is_upper = rate * (tf.exp(y) if isinstance(distribution, tfd.ExpGamma) else y), False
    bound = _LARGE.get(keras.backend.standardize_dtype(x.dtype), _LARGE_IF_ROUNDED)
    large = _of_large_shapes(tf.maximum(a, bound), x, is_upper)
    return tf.where(a > bound, large, distribution.cdf(y))


def _of_large_shapes(a, x, is_upper):
    """Temme's uniform expansion; Temme (1979), "The asymptotic expansion of the incomplete gamma
    functions", SIAM J. Math. Anal. 10, equation 1.4, with its first correction.
    """
    relative = (x - a) / a
    half_square = _minus_log1p(relative)
    eta = tf.sign(relative) * tf.sqrt(2.0 * tf.maximum(half_square, 0.0))
    bounded = tf.clip_by_value(eta, -0.3, 0.3)  # Beyond it nothing is left to correct.
    series = tf.math.polyval([tf.constant(c, a.dtype) for c in reversed(_CORRECTION)], bounded)
    correction = tf.exp(-a * half_square) / tf.sqrt(2.0 * math.pi * a) * series
    sign = 1.0 if is_upper else -1.0
    return 0.5 * tf.math.erfc(sign * eta * tf.sqrt(0.5 * a)) + sign * correction


def _minus_log1p(x):
    """Returns `x - log1p(x)`, by its series around 0, where the difference would cancel."""
    near = tf.clip_by_value(x, -0.03, 0.03)
    terms = [tf.constant((-1.0) ** k / (k + 2), x.dtype) for k in reversed(range(10))]
    series = near**2 * tf.math.polyval(terms, near)
    return tf.where(tf.equal(near, x), series, x - tf.math.log1p(x))
