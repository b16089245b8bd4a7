"""One step of training as a pure function of weights and hyperparameters, and its derivative."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_extras._core.differentiation import value_and_gradients
from keras_extras._core.model_function import evaluate, is_seed
from keras_extras.autodiff.dense_derivatives import pullback
from keras_extras.unrolled import backend
from keras_extras.unrolled.batches import Batches, constant
from keras_extras.unrolled.hyperparameters import (
    OF_THE_START,
    Hyperparameter,
    add_l2,
    initial_weights,
)
from keras_extras.unrolled.update_rules import UpdateRule
from keras_extras.unrolled.weighted_losses import WeightedLosses

# Among what steps give on the way back: the norm of the derivative by the weights before each.
ADJOINT_NORM = "norm of the adjoint"


class State(NamedTuple):
    """The state that a step passes on to the next.

    Args:
        weights: List of tensors, of the trainable variables.
        slots: List of tuples of tensors, the optimizer's state of each weight.
        statistics: List of tensors, such as moving averages of batch statistics.
    """

    weights: list
    slots: list
    statistics: list


class TrainingStep:
    """The step `state, hyperparameters -> state` of a model, a loss and the rule of an optimizer.

    Random layers draw from a seed that belongs to the step, so that training is a function.

    Args:
        model: A built Keras model.
        losses: `WeightedLosses` of the model.
        rule: `UpdateRule` of the optimizer.
        hyperparameters: List of `Hyperparameter`.
        statistics: List of the variables that a call in training updates.
        seed: Integer, of random layers.
    """

    def __init__(
        self,
        model: keras.Model,
        losses: WeightedLosses,
        rule: UpdateRule,
        hyperparameters: Sequence[Hyperparameter],
        statistics: Sequence[keras.Variable],
        seed: int,
    ):
        self.hyperparameters = list(hyperparameters)
        self.dtype = model.trainable_variables[0].dtype
        self.rule = rule
        self._of_steps = [h for h in self.hyperparameters if h.kind not in OF_THE_START]
        self._rates = {n: h.name for h in self.hyperparameters if h.sets_rate for n in h.targets}
        self._model = model
        self._losses = losses
        self._statistics = list(statistics)
        self._seed = seed
        # A compiled function need not see what is assigned to them later.
        self._fixed = {id(v): constant(v) for v in model.non_trainable_variables}

    def initial_state(self, values: Mapping[str, Any], weights: list, statistics: list) -> State:
        """Returns the state before the first step: its weights, and empty slots."""
        weights = initial_weights(self.hyperparameters, values, weights)
        return State(weights, [self.rule.slots(weight) for weight in weights], statistics)

    def values_at(self, values: Mapping[str, Any], step: Any, rows: Any) -> dict[str, Any]:
        """Returns the values of the hyperparameters for a step."""
        return {h.name: h.at(values[h.name], step, rows) for h in self._of_steps}

    def advance(
        self, step: Any, state: State, values: Mapping[str, Any], data: Batches
    ) -> tuple[State, Any, list]:
        """Returns the state after a step, and the loss on its batch before with its gradients."""
        at = self.values_at(values, step, backend.gather(data.order, step))
        loss, gradients, statistics = self.gradients(
            step, state.weights, state.statistics, at, data
        )
        settings = self.settings_at(step, at)
        weights, slots = self._update(state.weights, gradients, state.slots, settings)
        return State(weights, slots, statistics), loss, gradients

    def gradients(
        self, step: Any, weights: list, statistics: list, at: Mapping[str, Any], data: Batches
    ) -> tuple[Any, list, list]:
        """Returns the loss on a batch, its gradients, and the statistics after it.

        Args:
            step: Integer tensor.
            weights: List of tensors.
            statistics: List of tensors.
            at: Dict of what `values_at` returns.
            data: The training data.
        """
        rows = backend.gather(data.order, step)
        x, y = keras.tree.map_structure(lambda t: backend.gather(t, rows), (data.x, data.y))
        x, y = at.get("x", x), at.get("y", y)
        factors, arguments = (
            {name.partition("/")[2]: at[name] for name in self.names_of(kind)}
            for kind in ("loss_weight", "loss")
        )

        def loss_of(weights):
            outputs, penalty, after = self._call(step, weights, statistics, x, training=True)
            loss = self._losses(y, outputs, factors, at.get("sample_weight"), arguments)
            return loss + penalty + add_l2(self.hyperparameters, at, weights), after

        (loss, updated), gradients = value_and_gradients(loss_of, weights, has_aux=True)
        return loss, gradients, updated

    def settings_at(self, step: Any, at: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the settings of the optimizer at a step, learned or fixed."""
        settings = self.rule.settings.items()
        fixed = {name: ops.convert_to_tensor(value, self.dtype) for name, value in settings}
        fixed = {name: backend.gather(v, step) if len(v.shape) else v for name, v in fixed.items()}
        names = (*fixed, *self._rates.values())
        return {**fixed, **{name: at[name] for name in names if name in at}}

    def pull_back(
        self,
        step: Any,
        state: State,
        gradients: list,
        adjoint: State,
        values: Mapping[str, Any],
        data: Batches,
    ) -> tuple[State, dict[str, Any]]:
        """Goes back through a step (reverse mode): through the update, then through the gradients.

        Args:
            step: Integer tensor.
            state: The state before the step.
            gradients: List of the gradients that the step took.
            adjoint: Derivatives of the validation loss with respect to the state after the step.
            values: Dict of the hyperparameters.
            data: The training data.

        Returns:
            Derivatives with respect to the state before the step, and to what the step took of the
            hyperparameters, with the norm of those by the weights.
        """
        at = self.values_at(values, step, backend.gather(data.order, step))
        settings = self.settings_at(step, at)
        learned = {name: at[name] for name in settings if name in at}
        others = {name: value for name, value in at.items() if name not in learned}

        def updated(weights, gradients, slots, learned):
            return self._update(weights, gradients, slots, {**settings, **learned})

        weights, gradients, slots, learned = _vector_jacobian_product(
            updated,
            (state.weights, gradients, state.slots, learned),
            (adjoint.weights, adjoint.slots),
        )

        def differentiated(weights, statistics, others):
            return self.gradients(step, weights, statistics, {**at, **others}, data)[1:]

        of_weights, statistics, others = _vector_jacobian_product(
            differentiated,
            (state.weights, state.statistics, others),
            (gradients, adjoint.statistics),
        )
        weights = [a + b for a, b in zip(weights, of_weights)]
        norm = ops.sqrt(sum(ops.sum(ops.square(a)) for a in weights))
        return State(weights, slots, statistics), {**learned, **others, ADJOINT_NORM: norm}

    def _update(self, weights, gradients, slots, settings):
        gradients = self.rule.clip(gradients)
        updated = [
            self.rule.update(*parts, self._settings_of(n, settings))
            for n, parts in enumerate(zip(weights, gradients, slots))
        ]
        return [weight for weight, _ in updated], [slots for _, slots in updated]

    def _settings_of(self, number, settings):
        """The settings for the weight of a number."""
        settings = dict(settings)
        if number in self._rates:
            settings["learning_rate"] = settings[self._rates[number]]
        if number in self.rule.undecayed:
            settings["weight_decay"] = ops.zeros((), self.dtype)
        return settings

    def trained(self, state: State) -> list:
        """Returns the weights that training leaves, those of the last step or their average."""
        return [self.rule.trained(*parts) for parts in zip(state.weights, state.slots)]

    def validation_loss(self, state: State, x: Any, y: Any, sample_weight: Any = None) -> Any:
        """Returns the loss without any penalty, of a call that is not in training."""
        weights = self.trained(state)
        outputs, _, _ = self._call(0, weights, state.statistics, x, training=False)
        return self._losses.validation(y, outputs, sample_weight)

    def pull_back_validation(
        self, state: State, x: Any, y: Any, sample_weight: Any = None
    ) -> tuple[Any, State]:
        """Returns the validation loss, and its derivatives with respect to the final state."""

        def loss_of(*parts):
            return self.validation_loss(State(*parts), x, y, sample_weight)

        loss = loss_of(*state)
        return loss, State(*_vector_jacobian_product(loss_of, tuple(state), ops.ones_like(loss)))

    def pull_back_trained(self, state: State, adjoints: list) -> State:
        """Returns derivatives by a final state from those by trained weights and statistics."""

        def trained(*parts):
            state = State(*parts)
            return [*self.trained(state), *state.statistics]

        return State(*_vector_jacobian_product(trained, tuple(state), adjoints))

    def pull_back_start(
        self, values: Mapping[str, Any], weights: list, statistics: list, adjoint: State
    ) -> dict[str, Any]:
        """Returns derivatives with respect to the hyperparameters of the start.

        Args:
            values: Dict of the hyperparameters.
            weights: List of the initial weights before they are scaled.
            statistics: List of the initial statistics.
            adjoint: Derivatives with respect to the state before the first step.
        """
        given = {name: values[name] for kind in OF_THE_START for name in self.names_of(kind)}

        def start(given):
            return self.initial_state({**values, **given}, weights, statistics).weights

        (given,) = _vector_jacobian_product(start, (given,), adjoint.weights)
        return given

    def no_gradients(
        self, values: Mapping[str, Any], size: int, shape: tuple = ()
    ) -> dict[str, Any]:
        """Returns empty totals of gradients: sums, and arrays where steps have separate ones.

        Args:
            values: Dict of the hyperparameters.
            size: Integer, of the arrays.
            shape: Tuple, of their elements. Defaults to `()`.
        """
        totals = {
            h.name: backend.array(self.dtype, size, shape)
            if h.varies_over == "steps"
            else ops.zeros_like(values[h.name])
            for h in self._of_steps
        }
        return {**totals, ADJOINT_NORM: backend.array(self.dtype, size, shape)}

    def add_gradients(
        self, totals: Mapping[str, Any], found: Mapping[str, Any], index: Any, rows: Any
    ) -> dict[str, Any]:
        """Returns `totals` with the gradients of a step from `pull_back` added.

        Args:
            totals: Dict, what `no_gradients` returns.
            found: Dict of derivatives.
            index: Integer tensor, the place of the step.
            rows: Integer tensor, the rows of its batch; `None` adds gradients of all rows.
        """
        totals = {**totals, ADJOINT_NORM: totals[ADJOINT_NORM].write(index, found[ADJOINT_NORM])}
        for h in self._of_steps:
            total, gradient = totals[h.name], found[h.name]
            if h.varies_over == "steps":
                totals[h.name] = total.write(index, gradient)
            elif h.varies_over == "rows" and rows is not None:
                totals[h.name] = backend.add_at(total, rows, gradient)
            else:
                totals[h.name] = total + gradient
        return totals

    def collected(self, totals: Mapping[str, Any], steps: int, skipped: int = 0) -> dict[str, Any]:
        """Returns the totals of so many steps as tensors, after zeros for those skipped."""
        of_steps = {h.name for h in self._of_steps if h.varies_over == "steps"} | {ADJOINT_NORM}
        zeros = ops.zeros((skipped,), self.dtype)
        return {
            name: ops.concatenate([zeros, ops.reshape(total.stack(), (-1,))[:steps]])
            if name in of_steps
            else total
            for name, total in totals.items()
        }

    def names_of(self, kind: str) -> list[str]:
        """Returns the names of the hyperparameters of a kind."""
        return [h.name for h in self.hyperparameters if h.kind == kind]

    def _call(self, step, weights, statistics, x, training):
        model = self._model
        given = {**self._fixed, **{id(v): t for v, t in zip(self._statistics, statistics)}}
        for number, variable in enumerate(model.non_trainable_variables):
            if is_seed(variable):
                seed = (self._seed + number) % 2**31, step
                given[id(variable)] = ops.stack([ops.cast(n, variable.dtype) for n in seed])
        state = [(v, given[id(v)]) for v in model.non_trainable_variables]
        found = evaluate(model, x, training, weights, state)
        zero = ops.zeros((), self.dtype)
        penalty = sum((ops.cast(t, self.dtype) for t in found.penalties), zero)
        after = {**given, **{id(v): t for v, t in found.assigned}}
        return found.outputs, penalty, [after[id(v)] for v in self._statistics]


def _vector_jacobian_product(function, arguments, vector):
    """The derivatives of `sum(vector * function(*arguments))`, structured as the arguments."""

    def flat_function(flat):
        return keras.tree.flatten(function(*keras.tree.pack_sequence_as(arguments, flat)))

    flat, weights = keras.tree.flatten(arguments), keras.tree.flatten(vector)
    return keras.tree.pack_sequence_as(arguments, pullback(flat_function, flat, weights))
