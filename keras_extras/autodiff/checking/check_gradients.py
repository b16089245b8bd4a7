"""check_gradients: backpropagation against central differences."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.checks import check_choice, check_integer, check_number
from keras_extras._core.data import check_numbers
from keras_extras._core.differentiation import value_and_gradients
from keras_extras.autodiff.blocking_layers import blocking_layers
from keras_extras.autodiff.checking.central_differences import compare_with_differences, has_steps
from keras_extras.autodiff.checking.gradient_check import GradientCheck, GradientEntry
from keras_extras.autodiff.data import Data, leaves
from keras_extras.autodiff.dense_derivatives import inner_product, zeros_where_none
from keras_extras.autodiff.differentiated_model import DifferentiatedModel
from keras_extras.autodiff.second_derivatives import check_second_derivatives

# By the dtype in which values are computed: what passes.
_TOLERANCES = {"float64": 1e-6, "float32": 1e-2}
# How many random moves are tried before a value counts as constant.
_NUM_MOVES = 4


def check_gradients(
    target: Any,
    x: Any,
    y: Any = None,
    *,
    loss: Any = None,
    penalties: bool = True,
    wrt: str | int = "both",
    sample_weight: Any = None,
    training: bool = False,
    entries: int = 10,
    directions: int = 1,
    order: int = 1,
    step: float | None = None,
    tolerance: float | None = None,
    seed: int = 0,
) -> GradientCheck:
    """Compares the gradients of a model, a layer or a loss with central differences.

    ```
    (f(v + h d) - f(v - h d)) / (2 h)  against  the gradient of f times d
    ```

    for randomly chosen entries of each weight and input, and for random directions that move all
    entries of one at once. Of a model, `f` is its loss; of a layer, or a model without a loss, a
    sum of its outputs with random factors, and of what it adds to the loss. Outputs that are
    distributions count as the tensors that they convert to. Moving statistics and the states of
    random layers are held fixed: every evaluation sees the same random numbers.

    The step `h` balances the error of the formula, which grows as `h^2`, against that of rounding,
    which grows as `1 / h`: the cube root of the dtype's precision, 6e-6 in `float64` and 5e-3 in
    `float32`, times the entry if that is more than 1. Check in `float64`, by
    `keras.config.set_floatx("float64")` or layers with `dtype="float64"`: `float32` shows gross
    errors only.

    With `order=2` it is the second derivatives that are compared, those of the gradient along a
    random direction with differences of it, which `hessian`, `NewtonCG`, hypergradients and
    penalties of derivatives need: an operation with a wrong gradient of its gradient fails.

    An entry at which slopes to both sides differ, with the gradient between them, is a kink, and
    no failure. A gradient that is missing, or zero while the value changes in steps, as behind
    `round`, is one.

    Args:
        target: Keras model, layer or `keras.losses.Loss`.
        x: Inputs, an array or a structure of arrays; of a loss, the predictions. Integers are held
            fixed.
        y: Targets, for a loss or a model with one. Defaults to `None`.
        loss: The loss of a model, in any form that `model.compile` takes; `None` for the loss that
            the model was compiled with, if it was. Defaults to `None`.
        penalties: Boolean, whether regularizers and losses that layers add count where `loss` is
            given. Defaults to `True`.
        wrt: With respect to what: `"weights"`, those that are trained, `"inputs"`, `"both"`, or one
            of several inputs, by its name or position. Defaults to `"both"`.
        sample_weight: Weights of the rows for the loss. Defaults to `None`.
        training: Boolean, whether layers behave as in training. Defaults to `False`.
        entries: Integer, how many entries of each weight and input to compare. Defaults to `10`.
        directions: Integer, how many directions for each of them. Defaults to `1`.
        order: 1 for first derivatives, 2 for second ones. Defaults to `1`.
        step: Float, the step `h`; `None` for that of the dtype. Defaults to `None`.
        tolerance: Float, the greatest relative error that passes; `None` for 1e-6 in `float64` and
            1e-2 in `float32`. Defaults to `None`.
        seed: Integer seed of what is chosen at random. Defaults to `0`.

    Returns:
        A `GradientCheck`.

    Raises:
        TypeError: If `target` is none of the above.
        ValueError: If the value is not finite, differs between two evaluations, is computed in
            half precision, there is nothing to differentiate, or with `order=2` an operation has no
            second derivative at all.

    Example:

    ```python
    import keras
    import numpy as np
    from keras_extras import autodiff

    layer = keras.layers.Dense(3, "tanh", dtype="float64")
    report = autodiff.check_gradients(layer, np.random.default_rng(0).normal(size=(4, 2)))
    print(report)
    assert report.passed
    ```
    """
    entries = check_integer("entries", entries, minimum=0)
    directions = check_integer("directions", directions, minimum=0)
    if entries + directions == 0:
        raise ValueError(
            "`entries` or `directions` must be at least 1; otherwise nothing is compared. "
            "Received: entries=0, directions=0"
        )
    check_choice("order", order, (1, 2))
    generator = np.random.default_rng(check_integer("seed", seed, minimum=0))
    function = _function_of(
        target, Data(x, y, sample_weight), loss, penalties, wrt, training, generator
    )
    is_loss = isinstance(target, keras.losses.Loss)
    names = ["y_pred" if is_loss else name for name in function.names]
    values = function.values

    def scalar(values):
        return function.loss(values, function.data)

    along_gradient = [
        ops.convert_to_tensor(generator.normal(size=v.shape), v.dtype) for v in values
    ]

    def slope(values):
        gradients = zeros_where_none(value_and_gradients(scalar, values)[1], values)
        return inner_product(gradients, along_gradient)

    differentiated = scalar if order == 1 else slope

    def evaluate(values):
        # As where derivatives are taken: differentiation replaces some functions of TensorFlow.
        return value_and_gradients(lambda _: differentiated(values), [])[0]

    try:
        value, gradients = value_and_gradients(differentiated, values)
    except LookupError:  # TensorFlow has no such derivative.
        check_second_derivatives(function)
        raise
    _check_reproducible(float(value), float(evaluate(values)), target)
    dtypes = {keras.backend.standardize_dtype(t.dtype) for t in (value, *values)}
    dtype = min(dtypes, key=lambda name: np.finfo(name).bits)
    epsilon = float(np.finfo(dtype).eps)
    tolerance = _TOLERANCES[dtype] if tolerance is None else tolerance
    tolerance = check_number("tolerance", tolerance, above=0.0)
    step = check_number("step", epsilon ** (1 / 3) if step is None else step, above=0.0)

    compared: list[GradientEntry] = []
    kinks: list[GradientEntry] = []
    without_gradient = []
    for number, (name, gradient, dense) in enumerate(
        zip(names, gradients, zeros_where_none(gradients, values))
    ):

        def along(direction, number=number):
            return _along(evaluate, values, number, direction)

        dense = np.asarray(dense, "float64")
        if not dense.any() and _lacks_gradient(along, dense, gradient is None, epsilon, generator):
            without_gradient.append(name)
            continue
        for index, direction, size in _moves(values[number], entries, directions, generator):
            analytic = float(np.sum(dense * direction))
            numeric, error, is_kink = compare_with_differences(
                along(direction), analytic, step * size, epsilon, tolerance
            )
            entry = GradientEntry(name, index, analytic, numeric, error)
            (kinks if is_kink else compared).append(entry)

    seeds, statistics = function.state_changes()
    is_wrong = any(entry.error > tolerance for entry in compared)
    is_blocked = bool(without_gradient) or (order == 2 and is_wrong)
    return GradientCheck(
        entries=sorted(compared, key=lambda entry: -entry.error),
        kinks=kinks,
        without_gradient=without_gradient,
        blocking_layers=(
            blocking_layers(target, function.data.x, training, order) if is_blocked else []
        ),
        held_fixed=[variable.path for variable in (*statistics, *seeds)],
        tolerance=tolerance,
    )


def _function_of(target, data, loss, penalties, wrt, training, generator):
    """The function that is differentiated, with a scalar `loss`."""
    if isinstance(target, keras.losses.Loss):
        if loss is not None:
            raise ValueError(f"`loss` is for models; `target` is one. Received: loss={loss!r}")
        predictions = keras.layers.Identity(dtype=target.dtype)
        return DifferentiatedModel(predictions, data, target, "inputs", training)
    if not isinstance(target, keras.layers.Layer):
        raise TypeError(
            "`target` must be a Keras model, a layer or a `keras.losses.Loss`. "
            f"Received: target={target!r}"
        )
    if target.compute_dtype in ("float16", "bfloat16"):
        raise ValueError(
            "Differences need `float32`, or better `float64`. "
            f"Received: {target.name!r}, which computes in {target.compute_dtype}"
        )
    if wrt == "both":
        wrt = _what_has_derivatives(target, data)
    if loss is not None or getattr(target, "compiled", False):
        return DifferentiatedModel(target, data, loss, wrt, training, penalties=penalties)
    if data.y is not None:
        raise ValueError(
            f"`y` needs a loss: give `loss`, or compile the model. Received: {target.name!r} "
            "without a loss"
        )
    function = DifferentiatedModel(
        target, data, wrt=wrt, training=training, needs_loss=False, penalties=penalties
    )
    outputs = function.outputs(function.values, function.data)
    function.project(
        [ops.convert_to_tensor(generator.normal(size=output.shape)) for output in outputs]
    )
    return function


def _what_has_derivatives(target, data):
    check_numbers("x", data.x, may_be_missing=True)
    floating = [np.issubdtype(np.asarray(part).dtype, np.floating) for part in leaves(data.x)]
    if not all(floating):
        return "weights"
    if not target.built:
        target(data.x)
    return "both" if target.trainable_variables else "inputs"


def _check_reproducible(first, second, target):
    if not np.isfinite(first):
        raise ValueError(f"The value to differentiate must be finite. Received: {first}")
    if first != second:
        raise ValueError(
            "Two evaluations on the same inputs differ: something draws random numbers that do not "
            "come from a `keras.random.SeedGenerator`. Give it one. "
            f"Received: target={target!r}, values {first} and {second}"
        )


def _along(evaluate, values, number, direction) -> Callable[[float], float]:
    """The value as a function of how far one of the tensors moves along a direction."""

    def at(distance):
        moved = list(values)
        move = ops.convert_to_tensor(distance * direction, values[number].dtype)
        moved[number] = values[number] + move
        return float(evaluate(moved))

    return at


def _moves(tensor, entries, directions, generator):
    """Yields places, directions of the tensor's shape, and by what to multiply the step."""
    array = np.asarray(tensor, "float64")
    for place in sorted(generator.permutation(array.size)[:entries].tolist()):
        direction = np.zeros(array.size)
        direction[place] = 1.0
        index = tuple(int(n) for n in np.unravel_index(place, array.shape))
        size = max(1.0, float(np.nan_to_num(abs(array[index]))))
        yield index, direction.reshape(array.shape), size
    for _ in range(directions):
        yield None, generator.choice([-1.0, 1.0], size=array.shape), 1.0


def _lacks_gradient(along, dense, is_missing, epsilon, generator):
    """Whether the value changes where there is no gradient, or in steps where it is zero."""
    for _ in range(_NUM_MOVES):
        function = along(generator.normal(size=dense.shape))
        if function(1.0) != function(0.0) and (is_missing or has_steps(function, epsilon)):
            return True
    return False
