"""IndependentHead: the base of heads whose entries are independent of each other."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from keras_extras._core.docstrings import fill_text
from keras_extras._core.probability import tfd
from keras_extras.layers.distribution_layer import HEAD_ARGUMENTS
from keras_extras.layers.heads.head import Head, event_dims, example


def sections(head: str, inputs: str, result: str) -> str:
    """Returns the end of the docstring of a head, with what `example` takes."""
    return fill_text(
        """
        Args:
            event_shape: Integer or integers, the shape of one draw. Defaults to `()`, a number.
            {head_arguments}

        Input shape:
            `(..., params_size(event_shape))`.

        Output shape:
            `(..., *event_shape)` for draws.

        {example}
        """,
        head_arguments=HEAD_ARGUMENTS,
        example=example(f"{head}()", inputs, result),
    )


class IndependentHead(Head):
    """A head of independent entries, each with its own parameters.

    The last axis of the inputs is split into `params_per_entry` equal parts, and each part is
    reshaped to the event shape. A child makes a batch of single numbers of the parts, in
    `entries`.

    Args:
        event_shape: Integer or integers, the shape of one draw. Defaults to `()`, a number.
        convert_to_tensor_fn: What stands for the distribution where a tensor is wanted, as in
            `DistributionLambda`. Defaults to `"sample"`.
        validate_args: Boolean, whether to check parameters. Defaults to `False`.
        **kwargs: `seed` and `dtype`, and arguments of `keras.layers.Layer`.
    """

    params_per_entry = 2
    arguments: tuple[str, ...] = ("event_shape",)

    def __init__(
        self,
        event_shape: int | Sequence[int] = (),
        convert_to_tensor_fn: str | Callable[[Any], Any] = "sample",
        validate_args: bool = False,
        **kwargs: Any,
    ):
        super().__init__(convert_to_tensor_fn, validate_args=validate_args, **kwargs)
        self.event_shape = event_dims(event_shape)
        self.num_params: int = self.params_size(self.event_shape)

    @staticmethod
    def entries(*args: Any, **kwargs: Any) -> Any:
        """Returns the distribution of the entries, of event shape `()`.

        Args:
            *args: The parts.
            **kwargs: `validate_args`, and what a child's `new` hands to `independent`.
        """
        raise NotImplementedError

    @classmethod
    def params_size(cls, event_shape: int | Sequence[int] = (), name: str | None = None) -> int:
        """Returns how many parameters one distribution needs.

        Args:
            event_shape: Integer or integers, the shape of one draw. Defaults to `()`.
            name: Not used; for code that was written for `tfp.layers`. Defaults to `None`.
        """
        return cls.params_per_entry * math.prod(event_dims(event_shape))

    @classmethod
    def new(
        cls,
        params: Any,
        event_shape: int | Sequence[int] = (),
        validate_args: bool = False,
        name: str | None = None,
    ) -> Any:
        """Returns the distribution that belongs to parameters.

        Args:
            params: Tensor of shape `(..., params_size(event_shape))`.
            event_shape: Integer or integers, the shape of one draw. Defaults to `()`.
            validate_args: Boolean, whether to check parameters. Defaults to `False`.
            name: Not used; for code that was written for `tfp.layers`. Defaults to `None`.

        Returns:
            A `tfd.Independent` distribution.
        """
        return cls.independent(params, event_shape, validate_args=validate_args)

    @classmethod
    def independent(
        cls, params: Any, event_shape: int | Sequence[int], validate_args: bool, **arguments: Any
    ) -> Any:
        """Returns `new` with further arguments of `entries`."""
        params = ops.convert_to_tensor(params)
        dims = event_dims(event_shape)
        parts = [
            ops.reshape(part, (*ops.shape(part)[:-1], *dims))
            for part in ops.split(params, cls.params_per_entry, axis=-1)
        ]
        return tfd.Independent(
            cls.entries(*parts, validate_args=validate_args, **arguments),
            reinterpreted_batch_ndims=len(dims),
            validate_args=validate_args,
        )
