"""Draws of the weights of random layers, as weights of plain ones.

In prediction a draw is one function of the inputs, so what it makes of a row depends on that row
alone, whatever rows are beside it.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_extras._core.stateless import substituted


def draw_variational(
    network: keras.Model,
    variables: Sequence[keras.Variable],
    values: Sequence[np.ndarray],
    num_samples: int,
    generator: np.random.Generator,
) -> list[np.ndarray]:
    """Returns kernels and biases drawn from the posteriors of variational layers.

    Args:
        network: A model of dense variational layers with normal posteriors.
        variables: Its trainable variables.
        values: Arrays, what these stand at.
        num_samples: Integer.
        generator: Source of the noise.

    Returns:
        Arrays of shape `(num_samples, *shape)`, a kernel and a bias for each layer, and the values
        of other variables, repeated.
    """
    found = []
    state = [(variable, ops.convert_to_tensor(value)) for variable, value in zip(variables, values)]
    with substituted(state):
        for layer in network.layers:
            if hasattr(layer, "kernel_posterior"):
                posteriors = (layer.kernel_posterior, layer.bias_posterior)
                found += [(np.asarray(p.mean()), np.asarray(p.stddev())) for p in posteriors]
            else:
                found += [
                    (np.asarray(v), np.zeros(v.shape))
                    for v in map(ops.convert_to_tensor, layer.trainable_variables)
                ]
    return [
        (loc + scale * generator.normal(size=(num_samples, *loc.shape))).astype("float32")
        for loc, scale in found
    ]


def draw_dropout(
    values: Sequence[np.ndarray], rate: float, num_samples: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """Returns the weights of a perceptron with hidden units dropped before each later kernel.

    Args:
        values: Arrays, kernels and biases in turn, and what follows them.
        rate: Float, the share that is dropped.
        num_samples: Integer.
        generator: Source of the masks.

    Returns:
        Arrays of shape `(num_samples, *shape)`.
    """
    drawn = []
    for number, value in enumerate(values):
        repeated = np.repeat(value[None], num_samples, axis=0)
        if number > 0 and value.ndim == 2:
            kept = generator.uniform(size=(num_samples, len(value), 1)) >= rate
            repeated = (repeated * kept / (1.0 - rate)).astype(value.dtype)
        drawn.append(repeated)
    return drawn
