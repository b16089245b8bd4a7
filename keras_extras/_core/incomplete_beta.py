"""Distribution functions by incomplete beta functions, of which single precision has few.

TFP's of float32 errs by less than 1e-3 up to parameters of a sum of 1,000, by 0.5 at 1e6. Programs
that JAX compiles have no other.
"""

from typing import Any

import keras
import numpy as np

from keras_extras._core.probability import tf, tfd

_LARGEST_SUM = 1e3


def beta_cdf(distribution: Any, y: Any) -> Any:
    """Returns the distribution function if it is one of an incomplete beta function, or None.

    It is NaN where single precision is too coarse.

    Args:
        distribution: A `tfd.Distribution` of single numbers.
        y: Tensor of values in its support.
    """
    if isinstance(distribution, tfd.Beta | tfd.SigmoidBeta):
        total = distribution.concentration0 + distribution.concentration1
    elif isinstance(distribution, tfd.Binomial):
        total = distribution.total_count
    elif isinstance(distribution, tfd.NegativeBinomial):
        total = distribution.total_count + y
    elif isinstance(distribution, tfd.HalfStudentT):
        total = 0.5 * distribution.df
    else:
        return None
    values = distribution.cdf(y)
    if keras.backend.standardize_dtype(values.dtype) == "float64":
        return values
    return tf.where(total > _LARGEST_SUM, tf.constant(np.nan, values.dtype), values)
