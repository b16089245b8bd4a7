"""Members: networks alike that train side by side, as one Keras model."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.targets import match_targets
from keras_extras._core.vectorized_map import vectorized_map
from keras_extras.inference.weight_function import WeightFunction


class Members(keras.Model):
    """Copies of a network in one vectorized model, which trains in stock `fit`.

    The weights of all members are stacked along a first axis, and a product of matrices is one for
    all members. The loss is that of the posterior mode, or of the variational posterior of random
    layers, averaged over members:

    ```
    mean over rows of -log p(y | x, w) + (KL divergences + sum w^2 / (2 s^2)) / n
    ```

    in training, with `n` the number of a member's training rows, to be assigned to `num_rows`
    before training. Weights of rows have a column for each member, so that each may leave out
    others.

    Args:
        function: The network; it must be kept alive as long as this model.
        num_members: Integer, the number of copies.
        prior_stddev: Float, the standard deviation `s` of the weights' normal prior; `None` for
            none, as for a network whose layers have priors of their own.
    """

    def __init__(
        self,
        function: WeightFunction,
        num_members: int,
        prior_stddev: float | None,
    ):
        super().__init__(name="members", dtype=keras.config.floatx())
        self._function = function
        self._num_members = num_members
        self._prior_stddev = prior_stddev
        self.stacks = [
            self.add_weight(
                shape=(num_members, *variable.shape), initializer="zeros", name=f"stack_{number}"
            )
            for number, variable in enumerate(function.variables)
        ]
        self.num_rows = self.add_weight(
            name="num_rows",
            shape=(num_members,),
            initializer="ones",
            autocast=False,
            trainable=False,
        )
        self.seed_generator = keras.random.SeedGenerator(0)
        self.built = True

    def set_members(self, weights: Sequence[Sequence[np.ndarray]]) -> None:
        """Assigns the weights of all members, a list of arrays for each."""
        for stack, values in zip(self.stacks, zip(*weights), strict=True):
            stack.assign(np.stack(values))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the parameters of all members' distributions, of shape `(n, members, ...)`."""
        seeds = [self._seeds(state) for state in self._function.seed_states]
        stacks = [ops.convert_to_tensor(stack) for stack in self.stacks]
        parameters, penalties = vectorized_map(
            lambda draw: self._function.parameters_and_penalty(draw[0], draw[1], inputs),
            (stacks, seeds),
        )
        if self._prior_stddev is not None:
            squares = sum(
                ops.sum(ops.square(s), axis=tuple(range(1, len(s.shape)))) for s in stacks
            )
            penalties += squares / (2.0 * self._prior_stddev**2)
        self.add_loss(ops.mean(penalties / self.num_rows))
        return ops.swapaxes(parameters, 0, 1)

    def _seeds(self, state):
        seeds = keras.random.randint(
            (self._num_members, 2), 0, 2**31 - 1, dtype="int32", seed=self.seed_generator
        )
        return ops.cast(seeds, state.dtype)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True) -> Any:
        distribution = self._function.distribution(y_pred)
        y = match_targets(y, self._function.distribution(y_pred[:, 0]), "Training")
        values = -distribution.log_prob(y[:, None])
        if sample_weight is not None:
            values *= ops.cast(sample_weight, values.dtype)
        # Held-out rows are judged by their likelihood alone.
        return ops.mean(values) + (sum(self.losses) if training else 0.0)
