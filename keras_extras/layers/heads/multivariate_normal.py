"""MultivariateNormal: the base of heads that are multivariate normal distributions."""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_extras._core.checks import check_integer
from keras_extras._core.docstrings import fill_text
from keras_extras.layers.distribution_layer import HEAD_ARGUMENTS
from keras_extras.layers.heads.head import Head

# Of the docstrings of its children.
SECTIONS = fill_text(
    """
    Args:
        event_size: Integer `d`, the number of entries.
        {head_arguments}

    Input shape:
        `(..., params_size(event_size))`.
    """,
    head_arguments=HEAD_ARGUMENTS,
)


class MultivariateNormal(Head):
    """A multivariate normal distribution, whose scale a child makes in `with_scale`."""

    arguments = ("event_size",)

    def __init__(
        self,
        event_size: int,
        convert_to_tensor_fn: str | Callable[[Any], Any] = "sample",
        validate_args: bool = False,
        **kwargs: Any,
    ):
        super().__init__(convert_to_tensor_fn, validate_args=validate_args, **kwargs)
        self.event_size = check_integer("event_size", event_size)
        self.num_params: int = self.params_size(self.event_size)

    @staticmethod
    def scale_size(event_size: int) -> int:
        """Returns how many of the parameters are of the scale."""
        raise NotImplementedError

    @staticmethod
    def with_scale(loc: Any, raw_scale: Any, validate_args: bool) -> Any:
        """Returns the distribution of a mean and the parameters of the scale."""
        raise NotImplementedError

    @classmethod
    def params_size(cls, event_size: int, name: str | None = None) -> int:
        """Returns how many parameters one distribution needs.

        Args:
            event_size: Integer, as in the constructor.
            name: Not used; for code that was written for `tfp.layers`. Defaults to `None`.
        """
        event_size = check_integer("event_size", event_size)
        return event_size + cls.scale_size(event_size)

    @classmethod
    def new(
        cls,
        params: Any,
        event_size: int,
        validate_args: bool = False,
        name: str | None = None,
    ) -> Any:
        """Returns the distribution that belongs to parameters.

        Args:
            params: Tensor of shape `(..., params_size(event_size))`.
            event_size: Integer, as in the constructor.
            validate_args: Boolean, whether to check parameters. Defaults to `False`.
            name: Not used; for code that was written for `tfp.layers`. Defaults to `None`.

        Returns:
            A `tfd.Distribution` of the class's name.
        """
        event_size = check_integer("event_size", event_size)
        params = ops.convert_to_tensor(params)
        loc, raw_scale = params[..., :event_size], params[..., event_size:]
        return cls.with_scale(loc, raw_scale, validate_args)
