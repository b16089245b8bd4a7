"""TensorFlow Probability of the backend that the tests run on."""

from keras_extras._core.probability import require_probability
from keras_extras._core.probability import tf as tf

tfp = require_probability()
tfd = tfp.distributions
tfb = tfp.bijectors
