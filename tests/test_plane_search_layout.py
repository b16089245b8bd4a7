"""How a generation of MonteCarloOptimizer is shared out between pairs and planes."""

import keras
import numpy as np
from keras import ops

from keras_extras.optimizers import MonteCarloOptimizer


def test_a_population_that_chunks_do_not_divide_tries_step_sizes():
    """A long way down a slope is only left behind by candidates in planes."""
    w = keras.Variable(np.full(20, 100.0, "float32"), name="w")
    optimizer = MonteCarloOptimizer(population_size=50, keep="current", curvature=None, seed=0)
    for _ in range(20):
        optimizer.minimize(lambda: ops.sum(w**2), [w])
    assert float(ops.max(ops.abs(w))) < 50
