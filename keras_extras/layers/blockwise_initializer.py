"""BlockwiseInitializer: parts of a variable that start differently."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import check_flag, check_integers
from keras_extras._core.registration import serializable


@serializable
class BlockwiseInitializer(keras.initializers.Initializer):
    """Starts blocks of a variable's last axis by initializers of their own.

    Args:
        initializers: List of initializers, or of their names, one for each block.
        sizes: List of integers, the lengths of the blocks, whose sum is the length of the
            variable's last axis.
        validate_args: Not used, as sizes are always checked; for code that was written for
            `tfp.layers`. Defaults to `False`.

    Raises:
        ValueError: If there are not as many sizes as initializers, or, when called, if the sizes
            do not sum to the length of the last axis.

    Example:

    ```python
    import keras
    import keras_extras

    initializer = keras_extras.layers.BlockwiseInitializer(
        ["zeros", keras.initializers.Constant(0.5413)], sizes=[2, 2]
    )
    initializer((1, 4))  # [[0.0, 0.0, 0.5413, 0.5413]]
    ```
    """

    def __init__(
        self, initializers: Sequence[Any], sizes: Sequence[int], validate_args: bool = False
    ):
        if not isinstance(initializers, list | tuple):
            raise TypeError(
                "`initializers` must be a list, one for each block. "
                f"Received: initializers={initializers!r}"
            )
        self.initializers = [keras.initializers.get(initializer) for initializer in initializers]
        self.sizes = list(check_integers("sizes", sizes, minimum=0))
        self.validate_args = check_flag("validate_args", validate_args)
        if len(self.initializers) != len(self.sizes):
            raise ValueError(
                "`sizes` must have one entry for each of `initializers`. "
                f"Received: {len(self.initializers)} initializers, sizes={self.sizes}"
            )

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Returns the initial value of a variable.

        Args:
            shape: Integers, the shape of the variable.
            dtype: The dtype of the variable. Defaults to `None`.
        """
        *outer, length = shape
        if sum(self.sizes) != length:
            raise ValueError(
                f"`sizes` must sum to the length of the last axis, {length}. "
                f"Received: sizes={self.sizes} for shape={tuple(shape)}"
            )
        blocks = [
            initializer((*outer, size), dtype=dtype)
            for initializer, size in zip(self.initializers, self.sizes)
        ]
        return ops.concatenate(blocks, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            "initializers": [keras.initializers.serialize(one) for one in self.initializers],
            "sizes": self.sizes,
            "validate_args": self.validate_args,
        }
