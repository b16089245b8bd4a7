"""IndependentMixture: the base of mixtures whose components are independent heads."""

from collections.abc import Callable, Sequence
from typing import Any

from keras_extras._core.checks import check_integer
from keras_extras._core.docstrings import fill_text
from keras_extras.layers.distribution_layer import HEAD_ARGUMENTS
from keras_extras.layers.heads.head import Head, event_dims, example
from keras_extras.layers.heads.independent_head import IndependentHead
from keras_extras.layers.heads.mixture_same_family import REFERENCE, MixtureSameFamily


def sections(head: str, inputs: str, result: str) -> str:
    """Returns the end of the docstring of a head, with what `example` takes."""
    return fill_text(
        """
        {reference}

        Args:
            num_components: Integer, the number of components.
            event_shape: Integer or integers, the shape of one draw. Defaults to `()`, a number.
            {head_arguments}

        Input shape:
            `(..., params_size(num_components, event_shape))`.

        Output shape:
            `(..., *event_shape)` for draws.

        {example}
        """,
        reference=REFERENCE,
        head_arguments=HEAD_ARGUMENTS,
        example=example(f"{head}(2)", inputs, result),
    )


class IndependentMixture(Head):
    """A mixture of the distributions of an independent head, which a child names in `component`.

    Args:
        num_components: Integer, the number of components.
        event_shape: Integer or integers, the shape of one draw. Defaults to `()`, a number.
        convert_to_tensor_fn: What stands for the distribution where a tensor is wanted, as in
            `DistributionLambda`. Defaults to `"sample"`.
        validate_args: Boolean, whether to check parameters. Defaults to `False`.
        **kwargs: `seed` and `dtype`, and arguments of `keras.layers.Layer`.
    """

    component: type[IndependentHead]

    arguments = ("num_components", "event_shape")

    def __init__(
        self,
        num_components: int,
        event_shape: int | Sequence[int] = (),
        convert_to_tensor_fn: str | Callable[[Any], Any] = "sample",
        validate_args: bool = False,
        **kwargs: Any,
    ):
        super().__init__(convert_to_tensor_fn, validate_args=validate_args, **kwargs)
        self.num_components = check_integer("num_components", num_components)
        self.event_shape = event_dims(event_shape)
        self.num_params = self.params_size(self.num_components, self.event_shape)

    @classmethod
    def params_size(
        cls,
        num_components: int,
        event_shape: int | Sequence[int] = (),
        name: str | None = None,
    ) -> int:
        """Returns how many parameters one distribution needs.

        Args:
            num_components: Integer, the number of components.
            event_shape: Integer or integers, the shape of one draw. Defaults to `()`.
            name: Not used; for code that was written for `tfp.layers`. Defaults to `None`.
        """
        return MixtureSameFamily.params_size(num_components, cls.component.params_size(event_shape))

    @classmethod
    def new(
        cls,
        params: Any,
        num_components: int,
        event_shape: int | Sequence[int] = (),
        validate_args: bool = False,
        name: str | None = None,
    ) -> Any:
        """Returns the distribution that belongs to parameters.

        Args:
            params: Tensor of shape `(..., params_size(num_components, event_shape))`.
            num_components: Integer, the number of components.
            event_shape: Integer or integers, the shape of one draw. Defaults to `()`.
            validate_args: Boolean, whether to check parameters. Defaults to `False`.
            name: Not used; for code that was written for `tfp.layers`. Defaults to `None`.

        Returns:
            A `tfd.MixtureSameFamily` distribution.
        """

        def make_components(component_params):
            return cls.component.new(component_params, event_shape, validate_args=validate_args)

        return MixtureSameFamily.new(params, num_components, make_components, validate_args)
