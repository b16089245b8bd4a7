"""LevenbergMarquardt: damped Gauss-Newton steps for losses that are sums of squares."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_extras._core.backend import host_value
from keras_extras._core.checks import check_built_for, check_choice, check_number
from keras_extras._core.differentiation import check_second_derivatives, value_and_gradients
from keras_extras._core.docstrings import fill_docstring
from keras_extras._core.registration import serializable
from keras_extras._core.stateless import choose
from keras_extras.optimizers.flat_weights_optimizer import (
    LEARNING_RATE,
    RAISES,
    STEPS,
    FlatWeightsOptimizer,
)
from keras_extras.optimizers.loss_evaluating import evaluated_at
from keras_extras.optimizers.normal_equations import DenseEquations, ProductEquations
from keras_extras.optimizers.replicas import searching_strategy
from keras_extras.optimizers.residuals import ModelResiduals, Residuals, wave

_MOST_DENSE_WEIGHTS = 3000
_MAX_TRIALS = 12
_SUFFICIENT_GAIN = 1e-4
# Of the loss, which a step was to lower it by: a batch ends there.
_LEAST_SHARE = 1e-10


class _State(NamedTuple):
    """State of the search on one batch.

    Attributes:
        count: The number of steps so far.
        evaluations: That of evaluations of the loss.
        is_done: Whether no lower loss is in sight.
        point: Vector, the weights.
        value: The loss there.
        gradient: Vector, its gradient there.
        memory: Tuple of the damping and the scales of the weights.
    """

    count: Any
    evaluations: Any
    is_done: Any
    point: Any
    value: Any
    gradient: Any
    memory: tuple[Any, ...]


@serializable
@fill_docstring(learning_rate=LEARNING_RATE, steps=STEPS, raises=RAISES)
class LevenbergMarquardt(FlatWeightsOptimizer):
    """Trains by damped Gauss-Newton steps where the loss is a sum of squares.

    A step p solves `(J' H J + P + damping D) p = -g`, with J the Jacobian of the outputs of the
    model by its weights, H and P the second derivatives of the loss by outputs and of penalties by
    weights, and g the gradient. It is Newton's method without second derivatives of the model,
    fast where residuals become small or the model is nearly linear. A step that does not lower
    the loss of the batch is rejected, and the damping grows; else it follows the ratio of the
    decrease to the predicted one (Nielsen). D holds the largest squared norm so far of each column
    of the Jacobian (Moré), so that the units of weights do not matter, or ones.

    The loss must be a sum or mean of squares of what is linear in each entry of the outputs, such
    as `"mse"`, with any weights of rows, masks, loss weights and several outputs; so must penalties
    be of each weight, such as `keras.regularizers.L2`. This is checked on each batch, and any other
    loss ends training with a `ValueError`: take `LBFGS` or `NewtonCG` there. To minimize other
    residuals, such as those of differential equations, let the model return them, with targets of
    zero.

    - `solver="dense"` solves with the Jacobian, by an equation for each weight, or for each output
      entry of the batch where these are fewer. If outputs depend on their own row only, the
      Jacobian takes the time of some gradients, else that of a product for each weight.
    - `solver="products"` solves by conjugate gradients on products with the matrix, without the
      Jacobian, to a residual of `1e-4 |g|`, or by 200 products.

    Give it all rows as one batch, as with `LBFGS`. The same holds of losses that are not finite, of
    `converged` and the logs. `evaluations` counts evaluations of the loss, the first on each batch
    and one for each trial. Constraints are an error. Double precision pays, for the equations
    square the condition of the Jacobian.

    In a custom training loop, `minimize(residuals_fn, variables)` takes a function that returns
    the residuals, and minimizes half the sum of their squares.

    References:
        Moré (1978), "The Levenberg-Marquardt algorithm: implementation and theory".
        Nielsen (1999), "Damping parameter in Marquardt's method", IMM-REP-1999-05.

    Args:
        {learning_rate}
        solver: String, `"dense"`, `"products"`, or `"auto"` for dense equations of models with at
            most 3000 weights. Defaults to `"auto"`.
        scaling: String, `"columns"` for the norms of columns of the Jacobian, `"ones"`, or `"auto"`
            for columns with dense equations, which products do not know, and else ones. Defaults to
            `"auto"`.
        initial_damping: Float above 0, the damping of the first step, with `"ones"` in units of
            the curvature along the gradient. Defaults to `1e-2`.
        {steps}
        name: String, name of the optimizer. Defaults to `"levenberg_marquardt"`.
        **kwargs: Of `keras.optimizers.Optimizer`, such as `use_ema`.

    {raises}

    Example:

    ```python
    import keras
    import numpy as np
    import keras_extras


    class Decay(keras.layers.Layer):
        def build(self, input_shape):
            self.scale = self.add_weight(name="scale", initializer="ones")
            self.rate = self.add_weight(name="rate", initializer="ones")

        def call(self, x):
            return self.scale * keras.ops.exp(-self.rate * x)


    x = np.linspace(0, 4, 50)[:, None].astype("float32")
    model = keras.Sequential([keras.Input((1,)), Decay()])
    model.compile(keras_extras.optimizers.LevenbergMarquardt(), "mse")
    model.fit(x, 2.5 * np.exp(-1.3 * x), batch_size=50, epochs=2, verbose=0)
    print(model.get_weights())
    ```
    """

    def __init__(
        self,
        learning_rate: Any = 1.0,
        solver: str = "auto",
        scaling: str = "auto",
        initial_damping: float = 1e-2,
        iterations_per_batch: int = 10,
        tolerance: float = 1e-6,
        name: str = "levenberg_marquardt",
        **kwargs: Any,
    ):
        super().__init__(learning_rate, iterations_per_batch, tolerance, name=name, **kwargs)
        self.solver = check_choice("solver", solver, ("auto", "dense", "products"))
        self.scaling = check_choice("scaling", scaling, ("auto", "columns", "ones"))
        self.initial_damping = check_number("initial_damping", initial_damping, above=0.0)
        self._are_squares = self.add_variable(
            (), initializer="ones", dtype="bool", name="are_squares"
        )

    @property
    def damping(self) -> float:
        """The damping of the next step, 0 before the first."""
        return float(self._memory[0].numpy()) if self.built else 0.0

    def build_memory(self, size: int, dtype: str) -> list[keras.Variable]:
        self._size = size
        self._is_checked = False
        self._is_dense = self.solver == "dense" or (
            self.solver == "auto" and size <= _MOST_DENSE_WEIGHTS
        )
        if self.scaling == "columns" and not self._is_dense:
            raise ValueError(
                '`scaling="columns"` needs the Jacobian, which `solver="products"` does without. '
                f"Received: scaling={self.scaling!r}, solver={self.solver!r}, {size} weights"
            )
        self._has_scales = self.scaling != "ones" and self._is_dense
        scales = [self.add_variable((size,), dtype=dtype, name="scales")] * self._has_scales
        return [self.add_variable((), dtype=dtype, name="damping"), *scales]

    def take_step(self, loss_fn: Any, variables: Sequence[keras.Variable], batch_size: Any) -> Any:
        self.minimize(loss_fn, variables, batch_size)
        return loss_fn()

    def search(self, loss_of: Callable, variables: Sequence[keras.Variable]) -> None:
        raise ValueError(
            f"{self.name} needs the residuals of the loss, and cannot be part of another "
            "optimizer, which has the loss alone; take LBFGS or NewtonCG there."
        )

    def _search(self, loss_fn, variables):
        if searching_strategy() is not None:
            raise ValueError(
                f"{type(self).__name__} trains on one device, without a strategy of "
                "`tf.distribute`; take LBFGS or NewtonCG there. "
                f"Received: {type(searching_strategy()).__name__}"
            )
        check_built_for(self.name, variables, self._built_for)
        if hasattr(loss_fn, "outputs"):
            problem = ModelResiduals(loss_fn, variables, self._shaped, self._dtype)
        else:
            problem = Residuals(_residuals_of(loss_fn, variables), self._shaped, self._dtype)
        self._search_residuals(problem, variables)
        self.note_failure()

    def _search_residuals(self, problem, variables):
        given = self._flat(variables)

        def value_and_gradient(point):
            value, (gradient,) = value_and_gradients(lambda x: problem.loss(x[0]), [point])
            return value, ops.zeros_like(point) if gradient is None else gradient

        if not self._is_checked:
            check_second_derivatives(lambda x: value_and_gradient(x[0])[1], [given])
            self._is_checked = True
        value, gradient = value_and_gradient(given)
        is_finite = ops.isfinite(value) & ops.all(ops.isfinite(gradient))
        are_squares = problem.are_squares(given, problem.curvatures(given)) | ~is_finite
        self._are_squares.assign(are_squares)
        is_sound = is_finite & are_squares
        equations_at = self._equations_at(problem, given)
        zero = ops.zeros((), "int32")
        memory = tuple(ops.copy(v) for v in self._memory)
        start = _State(zero, zero + 1, ops.zeros((), "bool"), given, value, gradient, memory)

        def goes_on(state):
            is_steep = ops.max(ops.abs(state.gradient)) > self.tolerance
            is_left = state.count < self.iterations_per_batch
            return is_left & ~state.is_done & is_sound & is_steep

        def step(state):
            return (self._step(problem, equations_at(state.point), value_and_gradient, state),)

        (end,) = ops.while_loop(goes_on, step, (start,))
        self._end_batch(variables, given, is_sound, end)

    def _equations_at(self, problem, given):
        """A function from a vector of weights to the equations there."""
        if not self._is_dense:

            def by_products(point):
                _, curvature, penalty_slope, penalty = problem.curvatures(point)

                def product(vector):
                    moved = curvature * problem.jacobian_vector_product(point, vector)
                    image = problem.vector_jacobian_product(point, moved)
                    return image if penalty_slope is None else image + penalty * vector

                return ProductEquations(product)

            return by_products
        rows = problem.jacobian_by_rows(given)
        if rows is None:
            jacobian_at = problem.jacobian_by_columns
        else:
            probe = wave(problem.outputs(given))
            expected = problem.vector_jacobian_product(given, probe)
            error = ops.norm(ops.matmul(probe[None], rows)[0] - expected)
            are_rows = error <= self._epsilon**0.5 * (ops.norm(expected) + ops.norm(rows))

            def jacobian_at(point):
                return choose(
                    are_rows,
                    lambda: problem.jacobian_by_rows(point),
                    lambda: problem.jacobian_by_columns(point),
                )

        return lambda point: DenseEquations(jacobian_at(point), problem.curvatures(point))

    def _step(self, problem, equations, value_and_gradient, state):
        """Tries steps of growing damping until one lowers the loss."""
        gradient = state.gradient
        damping, *scales = state.memory
        curvature = ops.sum(gradient * equations.product(gradient)) / ops.sum(gradient**2)
        if scales:
            scales = [ops.maximum(scales[0], equations.diagonal)]
            squares, unit = ops.where(scales[0] > 0.0, scales[0], 1.0), 1.0
        else:
            squares, unit = ops.ones_like(gradient), curvature
        # Below it rounding decides.
        least = ops.cast(self._epsilon * self._size * unit, self._dtype)
        first = ops.cast(self.initial_damping * unit, self._dtype)
        damping = ops.maximum(ops.where(damping > 0.0, damping, first), least)

        def goes_on(trials, is_over, has_moved, share, damping, growth, point, value):
            return ~is_over & (trials < _MAX_TRIALS)

        def attempt(trials, is_over, has_moved, share, damping, growth, point, value):
            move = equations.solve(damping * squares, gradient)
            predicted = 0.5 * ops.sum(move * (damping * squares * move - gradient))
            trial = problem.loss(state.point + move)
            gain = (state.value - trial) / predicted
            is_lower = ops.isfinite(trial) & (trial < state.value) & (gain > _SUFFICIENT_GAIN)
            share = predicted / ops.abs(state.value)
            rounding = self._epsilon * ops.abs(state.value)
            is_lost = ~is_lower & (predicted >= 0.0) & (predicted <= rounding)
            shrinkage = ops.maximum(1.0 / 3.0, 1.0 - (2.0 * gain - 1.0) ** 3)
            factor = ops.where(is_lower, shrinkage, growth)
            return (
                trials + 1,
                is_lower | is_lost,
                is_lower,
                share,
                damping * ops.cast(factor, self._dtype),
                2.0 * growth,
                ops.where(is_lower, state.point + move, point),
                ops.where(is_lower, trial, value),
            )

        zero, false = ops.zeros((), "int32"), ops.zeros((), "bool")
        growth = ops.full_like(damping, 2.0)
        start = zero, false, false, growth, damping, growth, state.point, state.value
        trials, _, has_moved, share, new_damping, _, point, value = ops.while_loop(
            goes_on, attempt, start
        )
        return _State(
            count=state.count + 1,
            evaluations=state.evaluations + trials,
            is_done=~has_moved | (share <= _LEAST_SHARE),
            point=point,
            value=value,
            gradient=value_and_gradient(point)[1],
            memory=(ops.where(has_moved, new_damping, damping), *scales),
        )

    def failure(self) -> str:
        if host_value(self._are_squares):
            return super().failure()
        return (
            f"Training stopped: the loss is no sum of squares, which {self.name} needs. It takes "
            "sums and means of squares that are linear in each entry of the outputs, such as "
            '`loss="mse"`, with sample weights of at least 0, and penalties that are squares of '
            "weights, such as `keras.regularizers.L2`. Let the model return other residuals as its "
            "outputs, with targets of zero, or take LBFGS or NewtonCG. The batch left the weights "
            "as they were."
        )

    def get_config(self) -> dict[str, Any]:
        names = ("solver", "scaling", "initial_damping")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _residuals_of(residuals_fn, variables):
    """A function from values of the weights to residuals, from one that reads the weights."""

    def residuals_of(values):
        residuals = evaluated_at(values, variables, lambda: (0.0, residuals_fn()))[1]
        if any(len(leaf.shape) == 0 for leaf in keras.tree.flatten(residuals)):
            raise ValueError(
                "`minimize` of LevenbergMarquardt takes a function that returns residuals, a "
                "tensor with an axis, half the sum of whose squares is minimized. Received: a "
                "function that returns a scalar"
            )
        return residuals

    return residuals_of
