"""PairedDistribution: a prediction whose targets hold more than the value that it is of."""

from typing import Any

from keras import ops

from keras_extras._core.backend import backend_module
from keras_extras._core.probability import static_shape
from keras_extras._core.targets import match_targets
from keras_extras.layers.tensor_distribution import TensorDistribution


class PairedDistribution(TensorDistribution):
    """The prediction passed to a loss or metric if targets do not have the shape of a draw.

    A function of the user's may take the value from the columns that the targets have, and hand it
    to `log_prob` and the like. What has not the shape of a draw there is refused, as TFP would
    broadcast it.

    Args:
        output: The `TensorDistribution` that the model returned.
    """

    def __new__(cls, output: TensorDistribution) -> "PairedDistribution":
        paired = object.__new__(cls)
        paired.__dict__.update(vars(output))
        return paired

    def __init__(self, output: TensorDistribution):
        pass  # Its state is that of the output.

    def check_losses(self, values: Any) -> None:
        """Refuses losses that came of columns of shape `(n,)` and densities of shape `(n, 1)`."""
        actual = static_shape(ops.convert_to_tensor(values))
        expected = self.batch_shape.concatenate(self.event_shape)
        if actual.rank is None or actual.rank < expected.rank:
            return
        ends_in_one = expected[-1:] == [1]
        if actual.rank > expected.rank or (ends_in_one and actual[-1:] != [1]):
            raise ValueError(
                f"The loss must return one number for each row, and returned shape {actual} for "
                f"densities of shape {self.batch_shape}. Take columns of the targets in the shape "
                "of the densities: `y[:, 0]` for shape (n,), `y[:, :1]` for shape (n, 1)"
            )


def _of_values(name):
    def method(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if static_shape(ops.convert_to_tensor(value)).rank != 0:
            value = match_targets(value, self, "The loss")
        return getattr(super(PairedDistribution, self), name)(value, *args, **kwargs)

    return method


for _name in (
    "cdf",
    "log_cdf",
    "log_prob",
    "log_survival_function",
    "prob",
    "survival_function",
    "unnormalized_log_prob",
):
    setattr(PairedDistribution, _name, _of_values(_name))

# JAX knows trees by their class, not by those that it derives from.
backend_module("keras_extras.layers.tensor_likeness", "A distribution").register(PairedDistribution)
