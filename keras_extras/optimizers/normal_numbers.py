"""Standard normal numbers for many weights in each step, in little time.

To draw them afresh takes as long as the rest of a step of a perceptron. For large models they are
drawn once, as a table. A step takes for each variable a stretch of it, from a random place on and
with a random sign: within a step the numbers are independent, and the same stretch comes again
after hundreds of thousands of steps. Tables of noise are an idea of Salimans et al. (2017),
"Evolution strategies as a scalable alternative to reinforcement learning".
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

# Up to which it costs little to draw them afresh.
_FEW_NUMBERS = 2**14
# Where stretches begin.
_PLACES = 2**18


def add_table(
    optimizer: keras.optimizers.Optimizer, sizes: Sequence[int], seed: keras.random.SeedGenerator
) -> keras.Variable | None:
    """Adds the table to an optimizer's variables, with which it is saved.

    Args:
        optimizer: The optimizer.
        sizes: Integers, the numbers of weights of each variable.
        seed: What is drawn with.

    Returns:
        The table; `None` for so few weights that they need none.
    """
    if sum(sizes) <= _FEW_NUMBERS:
        return None
    normal = keras.initializers.RandomNormal(0.0, 1.0, seed=seed)
    return optimizer.add_variable((_PLACES + max(sizes),), normal, "float32", name="normal_numbers")


def normal_numbers(
    shapes: Sequence[tuple[int, ...]],
    table: keras.Variable | None,
    seed: keras.random.SeedGenerator,
) -> list[Any]:
    """Returns a tensor of float32 for each shape."""
    if table is None:
        return [keras.random.normal(shape, dtype="float32", seed=seed) for shape in shapes]
    places = keras.random.randint((len(shapes),), 0, 2 * _PLACES, dtype="int32", seed=seed)
    starts, signs = places // 2, 1.0 - 2.0 * ops.cast(places % 2, "float32")
    table = ops.convert_to_tensor(table)
    return [
        ops.reshape(ops.slice(table, (starts[n],), (math.prod(shape),)), shape) * signs[n]
        for n, shape in enumerate(shapes)
    ]
