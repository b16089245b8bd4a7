"""A population that devices share out under a `keras.distribution` of JAX.

Keras shares out the rows of a batch, and each device evaluates all candidates on its own. Here each
evaluates its own candidates on all rows, and what is exchanged are batches, losses and directions.
"""

import math
from typing import Any

import keras
from keras import distribution


def chunk_for_devices(pairs: int, population_size: int) -> int:
    """Returns the least number of pairs, from `pairs` on, that gives devices equal shares.

    Raises:
        ValueError: If the population itself cannot be shared out in equal parts.
    """
    current = distribution.distribution()
    if current is None:
        return pairs
    mesh = current.device_mesh
    devices = mesh.shape[mesh.axis_names.index(current.batch_dim_name)]
    if population_size % devices:
        raise ValueError(
            "With `shard='population'`, `population_size` must be a multiple of the number of "
            f"devices. Received: population_size={population_size}, {devices} devices"
        )
    unit = math.lcm(2, devices) // 2
    return -(-pairs // unit) * unit


def shared_out(candidates: Any) -> Any:
    """Returns tensors of shape `(population, ...)`, a share of the population on each device."""
    return _placed(candidates, lambda name, tensor: (name, *[None] * (tensor.ndim - 1)))


def on_all_devices(data: Any) -> Any:
    """Returns tensors, whole on each device."""
    return _placed(data, lambda name, tensor: (None,) * tensor.ndim)


def _placed(tensors, axes_of):
    current = distribution.distribution()
    if current is None:
        return tensors

    def place(tensor):
        axes = axes_of(current.batch_dim_name, tensor)
        layout = distribution.TensorLayout(axes, current.device_mesh)
        return distribution.distribute_tensor(tensor, layout)

    return keras.tree.map_structure(lambda t: None if t is None else place(t), tensors)
