"""A kernel or bias that has a distribution, and the arguments that choose it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from keras_extras._core.checks import check_choice
from keras_extras._core.compile_time import at_compile_time
from keras_extras._core.functions import deserialize_function
from keras_extras._core.probability import tfd
from keras_extras.layers.prior_config import deserialize_prior
from keras_extras.layers.variational.ready_made import POSTERIORS, PRIORS, make_distribution
from keras_extras.layers.variational.weight_divergence import EXACT


@dataclasses.dataclass
class RandomWeight:
    """A weight with a posterior, a prior, and the variables of both.

    Args:
        posterior: A `tfd.Distribution`; None for no weight.
        prior: A `tfd.Distribution`; None for no prior.
        variables: The variables of posterior and prior, in the order in which they were added.
    """

    posterior: Any
    prior: Any
    variables: list[keras.Variable]


def make_random_weight(
    layer: keras.layers.Layer,
    name: str,
    shape: Sequence[int],
    posterior_fn: Any,
    prior_fn: Any,
) -> RandomWeight:
    """Adds the variables of a weight to a layer, and makes its distributions.

    Args:
        layer: The layer, which is being built.
        name: `"kernel"` or `"bias"`, the start of the names of the variables.
        shape: Integers, the shape of the weight.
        posterior_fn: As `check_posterior` returns it.
        prior_fn: As `check_prior` returns it.

    Raises:
        ValueError: If a function does not return a distribution of that shape.
    """
    dtype = keras.backend.result_type(layer.variable_dtype, "float32")
    variables: list[keras.Variable] = []

    def add_variable(**arguments):
        variables.append(layer.add_weight(autocast=False, **arguments))
        return variables[-1]

    def make(kind, choice, ready_made):
        argument, variable_name = f"{name}_{kind}_fn", f"{name}_{kind}"
        return make_distribution(
            choice, ready_made, argument, dtype, shape, variable_name, True, add_variable
        )

    # Constants must outlive the graph of a build; variables keep their precision.
    with at_compile_time():
        posterior = make("posterior", posterior_fn, POSTERIORS)
        prior = None if posterior is None else make("prior", prior_fn, PRIORS)
    return RandomWeight(posterior, prior, variables)


def check_posterior(name: str, choice: Any) -> Any:
    """Returns the name or the function that an argument gives, or None."""
    choice = deserialize_prior(choice)
    if isinstance(choice, tfd.Distribution):
        raise _not_a_choice(name, choice, POSTERIORS)
    return _name_or_function(name, choice, POSTERIORS)


def check_prior(name: str, choice: Any) -> Any:
    """Returns the name, the function or the distribution that an argument gives, or None."""
    choice = deserialize_prior(choice)
    return (
        choice if isinstance(choice, tfd.Distribution) else _name_or_function(name, choice, PRIORS)
    )


def _name_or_function(name, choice, ready_made):
    if isinstance(choice, str):
        return check_choice(name, choice, ready_made)
    if not (choice is None or callable(choice)):
        raise _not_a_choice(name, choice, ready_made)
    return choice


def _not_a_choice(name, choice, ready_made):
    return TypeError(
        f"`{name}` must be one of {', '.join(map(repr, ready_made))}, or a function "
        f"like `default_mean_field_normal_fn()`. Received: {name}={choice!r}"
    )


def check_tensor_fn(name: str, function: Any) -> Any:
    """Returns "sample", or the function of a distribution that an argument gives."""
    return _check_function(name, deserialize_function(function), "sample")


def check_divergence_fn(name: str, function: Any) -> Any:
    """Returns "kl_divergence", or the function that an argument gives, or None."""
    function = deserialize_function(function)
    return None if function is None else _check_function(name, function, EXACT)


def _check_function(name, function, ready_made):
    if isinstance(function, str):
        return check_choice(name, function, [ready_made])
    if not callable(function):
        raise TypeError(
            f"`{name}` must be {ready_made!r} or a function. Received: {name}={function!r}"
        )
    return function
