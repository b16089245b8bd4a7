"""Warnings name the line of the user, whatever wraps `fit`."""

import warnings

import keras
import numpy as np

from keras_extras import layers
from keras_extras.optimizers import SPSA


def test_a_warning_of_fit_names_this_file_with_one_more_wrapper_around():
    SPSA()  # A search wraps `fit`.
    model = keras.Sequential([layers.DenseFlipout(2), layers.IndependentNormal(1)])
    model.compile("sgd", lambda y, rv_y: -rv_y.log_prob(y))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(np.zeros((8, 2)), np.zeros((8, 1)), verbose=0)
    (warning,) = [w for w in caught if "divergence" in str(w.message)]
    assert warning.filename == __file__
