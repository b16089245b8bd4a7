"""Draws of a Poisson distribution that XLA compiles.

On TensorFlow TFP draws by one `tf.function` for the whole process. Its trace from a graph that is
not compiled, such as the one in which Keras infers shapes, is taken again under XLA, where it
fails. The function is traced once more for another `name`, which `tfd.Poisson` has no argument for:
here each graph gives its own. Called are the private `random_poisson` of TFP and
`_log_rate_parameter_no_checks`, and `_sample_n` is overridden, which TFP documents for children.
Known to hold since TensorFlow Probability 0.25. Draws that compile make it unnecessary.
"""

import functools
import itertools
import weakref
from typing import Any

import keras

from keras_extras._core.probability import tf, tfd

_numbers = itertools.count()
_names: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


@functools.cache
def poisson() -> Any:
    """Returns the class of Poisson distributions whose draws XLA compiles."""
    base: Any = tfd.Poisson
    if keras.backend.backend() != "tensorflow":
        return base
    from tensorflow_probability.python.distributions.poisson import random_poisson

    class Poisson(base):
        def _sample_n(self, n, seed=None):
            draws, _ = random_poisson(
                shape=tf.reshape(n, (1,)),
                rates=None,
                log_rates=self._log_rate_parameter_no_checks(),
                output_dtype=self.dtype,
                seed=seed,
                name=_name_of_graph(),
            )
            return draws

    return Poisson


def _name_of_graph():
    if tf.executing_eagerly():
        return None
    graph = tf.compat.v1.get_default_graph()
    if graph not in _names:
        _names[graph] = f"poisson_{next(_numbers)}"
    return _names[graph]
