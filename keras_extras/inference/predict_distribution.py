"""predict_distribution: what a model with uncertain weights predicts."""

import random
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.checks import check_integer
from keras_extras._core.compiled import any_of, compiled_for_any_length
from keras_extras._core.epochs import accumulating_layers, check_current
from keras_extras._core.probability import require_probability
from keras_extras._core.vectorized_map import vectorized_map
from keras_extras.inference.weight_function import WeightFunction


def predict_distribution(
    model: Any,
    x: Any,
    num_samples: int = 100,
    batch_size: int = 256,
    seed: int | None = None,
    likelihood: Callable | None = None,
) -> Any:
    """Returns the posterior predictive distribution of a model, a mixture over draws of weights.

    ```
    p(y | x) = 1/S sum over s of p(y | x, w_s)
    ```

    The weights `w_s` are drawn by the model's own layers, such as `DenseFlipout` and `MCDropout`,
    or are those of the members of an ensemble, or samples of a posterior. All draws are computed
    in one vectorized and compiled call for each batch of rows.

    Args:
        model: A Keras model; or a list of models, an ensemble; or an object with a method
            `predict_distribution`, such as a `Posterior`. Layers that draw at random only in
            training, such as `keras.layers.Dropout`, are as in prediction.
        x: Inputs, an array of shape `(n, ...)` or a structure of arrays.
        num_samples: Integer, the number of draws, of an ensemble that of each member. A model in
            which no layer draws random numbers is computed once. Defaults to `100`.
        batch_size: Integer, rows to compute at once. Memory grows with `num_samples * batch_size`.
            Defaults to `256`.
        seed: Integer seed of the draws; `None` follows `keras.utils.set_random_seed`. Defaults to
            `None`.
        likelihood: Function from the outputs of a model to a `tfd.Distribution`, for a model whose
            last layer is no distribution. Without it such outputs are taken as points, which have
            no aleatoric variance. Defaults to `None`.

    Returns:
        A `keras_extras.inference.PosteriorPredictive`: a `tfd.MixtureSameFamily` of batch shape
        `(n,)` that also has `aleatoric_variance()`, `epistemic_variance()`, `quantile(value)`,
        `interval(level)` and, of classes, `epistemic_entropy()`, `aleatoric_entropy()` and
        `predictive_entropy()`.

    Raises:
        TypeError: If `model` has another type.
        ValueError: If `x` is empty, or the model has several outputs or was never built.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras
    from keras_extras import layers

    model = keras.Sequential([
        keras.Input((1,)),
        layers.DenseFlipout(8, activation="relu"),
        keras.layers.Dense(2),
        layers.IndependentNormal(1),
    ])
    prediction = keras_extras.predict_distribution(model, np.zeros((4, 1)), num_samples=50)
    prediction.mean()  # shape (4, 1)
    prediction.interval(0.9)  # lower and upper ends, each of shape (4, 1)
    prediction.aleatoric_variance() + prediction.epistemic_variance()  # prediction.variance()
    ```
    """
    require_probability()
    if hasattr(model, "predict_distribution"):
        if likelihood is not None:
            raise ValueError(
                f"`likelihood` is for models; {type(model).__name__} has its own. "
                f"Received: likelihood={likelihood!r}"
            )
        return model.predict_distribution(
            x, num_samples=num_samples, batch_size=batch_size, seed=seed
        )
    from keras_extras.inference.conformal_prediction import remember_predictor
    from keras_extras.inference.posterior_predictive import predictive_of

    num_samples = check_integer("num_samples", num_samples)
    seed = known_seed(seed)
    members = list(model) if isinstance(model, list | tuple) else [model]
    if not members:
        raise ValueError("`model` must be a model or a list of models. Received: an empty list")
    functions = [
        WeightFunction(member, x, likelihood, require_likelihood=False) for member in members
    ]
    if len({(type(f.head), f.row_shape) for f in functions}) > 1:
        raise ValueError(
            "The models of an ensemble must end in the same layer and have outputs of one shape. "
            f"Received: {[(type(f.head).__name__, f.row_shape) for f in functions]}"
        )
    generator = numpy_generator(seed)
    parameters = [
        draw_parameters(f, x, None, num_samples, batch_size, generator) for f in functions
    ]
    return remember_predictor(
        predictive_of(functions[0], ops.concatenate(parameters, axis=0)),
        partial(
            predict_distribution,
            model,
            num_samples=num_samples,
            batch_size=batch_size,
            seed=seed,
            likelihood=likelihood,
        ),
        x,
    )


def numpy_generator(seed: int | None) -> np.random.Generator:
    """Returns a generator of this seed, or of one that follows `keras.utils.set_random_seed`."""
    return np.random.default_rng(known_seed(seed))


def known_seed(seed: int | None) -> int:
    """Returns a seed, of `None` one that follows `keras.utils.set_random_seed`."""
    if seed is None:
        return random.randrange(2**31)  # `set_random_seed` seeds it with every version of Keras.
    return check_integer("seed", seed, minimum=0)


def draw_parameters(
    function: WeightFunction,
    x: Any,
    weights: Sequence[Any] | None,
    num_samples: int,
    batch_size: int,
    generator: np.random.Generator,
) -> Any:
    """Returns the parameters of the model's distribution for many draws of its weights.

    Args:
        function: The model.
        x: Inputs.
        weights: Arrays of shape `(num_samples, ...)` in the order of `function.variables`, or None
            for the model's own weights.
        num_samples: Integer, the number of draws.
        batch_size: Integer, rows to compute at once.
        generator: Where the seeds of the draws come from.

    Returns:
        Tensor of shape `(num_samples, n, ...)`.
    """
    batch_size = check_integer("batch_size", batch_size)
    _check_posteriors_of_layers(function.model, weights)
    x = keras.tree.map_structure(ops.convert_to_tensor, x)
    num_rows = keras.tree.flatten(x)[0].shape[0]
    # One seed for each draw, the same in all batches: a draw is one function of all rows.
    seeds = [
        ops.convert_to_tensor(
            generator.integers(2**31 - 1, size=(num_samples, 2)) * [1, 0], state.dtype
        )
        for state in function.seed_states
    ]
    compute = _compiled_for(function, x, has_weights=weights is not None)
    pairs = zip(weights, function.variables) if weights is not None else ()
    drawn = [ops.cast(values, variable.dtype) for values, variable in pairs]
    slices = [slice(first, first + batch_size) for first in range(0, num_rows, batch_size)]
    batches = [compute(drawn, seeds, rows_of(x, rows)) for rows in slices]
    return ops.concatenate(batches, axis=1)


def _check_posteriors_of_layers(model, weights):
    layers = accumulating_layers(model)
    if layers and weights is not None:
        raise ValueError(
            f"Layer {layers[0].name!r} has a posterior itself, and samples of its weights would "
            "count their uncertainty twice. Call `predict_distribution(model, x)`, or use a model "
            "with `keras.layers.Dense` in its place"
        )
    check_current(model)


def rows_of(x: Any, rows: slice) -> Any:
    """Returns some rows of all arrays of the inputs."""
    return keras.tree.map_structure(lambda values: values[rows], x)


# Compiled functions live as long as their models.
_compiled: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _compiled_for(function, x, has_weights):
    """The compiled function of all draws of a model, made once for inputs of a kind."""
    specs = keras.tree.map_structure(lambda v: (str(v.dtype), *v.shape[1:]), x)
    key = (str(specs), has_weights, id(function.head), tuple(map(id, function.variables)))
    of_model = _compiled.setdefault(function.model, {})
    if key not in of_model:
        of_model[key] = compiled_for_any_length(
            lambda weights, seeds, x: _all_draws(function, weights, seeds, x),
            [
                [any_of((None, *v.shape), v.dtype) for v in function.variables if has_weights],
                [any_of((None, 2), v.dtype) for v in function.seed_states],
                keras.tree.map_structure(lambda v: any_of((None, *v.shape[1:]), v.dtype), x),
            ],
            function.model.variables,
        )
    return of_model[key]


def _all_draws(function, weights, seeds, x):
    if not weights and not seeds:  # Nothing is random.
        return function.parameters(None, (), x)[None]
    return vectorized_map(
        lambda draw: function.parameters(draw[0] or None, draw[1], x), (weights, seeds)
    )
