"""QuantizedSearch: trains the integers of quantized layers."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_extras._core.checks import (
    check_built_for,
    check_choice,
    check_flag,
    check_integer,
    check_number,
    check_seed,
)
from keras_extras._core.optimizers import optimizer_of
from keras_extras._core.registration import serializable
from keras_extras._core.stateless import cond
from keras_extras._seams.compile_arguments import after_compile
from keras_extras.optimizers.candidate_map import CandidateMap
from keras_extras.optimizers.integer_candidates import IntegerCandidates
from keras_extras.optimizers.integer_weights import integer_weights
from keras_extras.optimizers.loss_evaluating import LossEvaluatingOptimizer
from keras_extras.optimizers.population import chunk_bytes
from keras_extras.optimizers.replicas import searching_strategy

_LEAST_CHUNK = 16
# Residuals are kept in these parts of an integer step.
_PARTS = 254
_BETA_2 = 0.9
# A scale moves by this share of what an integer does, relative to itself.
_SCALE_RATE = 0.1
# Large steps find the region, and small ones do not undo each other there.
_LEARNING_RATE = (0.05, 400, 1.0)
_REFUSED = ("weight_decay", "clipnorm", "clipvalue", "global_clipnorm")


@serializable
class QuantizedSearch(LossEvaluatingOptimizer):
    r"""Trains the integers of quantized layers in stock `fit`.

    `model.quantize("int8")` and `"int4"` leave weights q that are integers, for which there is no
    gradient, and which Keras marks as not trainable. For each batch this optimizer evaluates the
    loss of pairs of candidates on either side of q, through the quantized layers of Keras. A
    candidate differs from q in a few random entries e of -1, 0 and 1:

        slope_i = (L(q + s e_i) - L(q - s e_i)) / 2
        g = mean_i(slope_i e_i) / update_probability
        v <- 0.9 v + 0.1 mean(g^2)
        r <- r - s * learning_rate * g / sqrt(v / (1 - 0.9^t))
        q <- clip(q + round(r)),    r <- r - (change of q)

    with t the number of updates, v for each weight matrix, and s a step of the grid, 7 of them on
    the fine grid of int8. The residual r collects steps that are too small for the grid, so that
    rounding loses none (error feedback). Random numbers are drawn again in place of being stored.
    Beside the integers there is one byte for each of them, r in 254ths, rounded at random to be
    right in the mean.

    Biases, layers that are not quantized, and the zero points of int4 stay as they are.

    Args:
        learning_rate: A float, a `keras.optimizers.schedules.LearningRateSchedule` or a callable;
            the typical change of r in an update, in the unit of e. `None` for 0.05 that falls as
            `1 / (1 + t / 400)`. Defaults to `None`.
        weights: List of patterns of `variable.path`, as in `fnmatch`, which choose the integers to
            train; the end of a path will do, as in `["dense/kernel"]`. `None` for those of all
            quantized layers. Defaults to `None`.
        scales: Boolean, whether to train the scales of these integers, too. Defaults to `False`.
        value_range: The lowest and the highest integer, as in `(-1, 1)` for ternary weights; `None`
            for the `value_range` of the quantizer that the layer was quantized with, else that of
            its mode. Defaults to `None`.
        population_size: Even integer, how many candidates to evaluate on each batch.
            Defaults to `128`.
        update_probability: Float in (0, 1], the share of the integers that differ in a candidate.
            In small matrices it is more, 4 integers in the mean. Defaults to `0.02`.
        chunk_size: Integer, how many candidates to evaluate at once; `"auto"` for as many as fit
            into a cache. Defaults to `"auto"`.
        vectorize: How to evaluate them: `True`, `False` or `"auto"`, as in `MonteCarloOptimizer`.
            Defaults to `"auto"`.
        seed: Integer or `None`. Defaults to `None`.
        name: String. Defaults to `"quantized_search"`.
        **kwargs: Arguments of `keras.optimizers.Optimizer` that do not apply, such as
            `weight_decay`, are an error.

    Raises:
        ValueError: If an argument is out of range; when the model is compiled or training starts,
            if it has no quantized layer, a layer that cannot be searched is asked for, a pattern
            matches a layer that is not quantized, or integers are beyond the grid.

    Example:

    ```python
    import keras
    import keras_extras
    import numpy as np

    x = np.random.default_rng(0).normal(size=(256, 16)).astype("float32")
    y = (x[:, :1] > 0).astype("float32")

    hidden = keras.layers.Dense(8, activation="relu")
    model = keras.Sequential([keras.Input((16,)), hidden, keras.layers.Dense(1)])
    for layer in model.layers:
        layer.quantize("int4")
    optimizer = keras_extras.optimizers.QuantizedSearch(seed=0)
    model.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(x, y, batch_size=64, epochs=2, verbose=0)
    ```

    References:
        - [Quantized Evolution Strategies, 2026](https://arxiv.org/abs/2602.03120)
        - [Evolution Strategies at the Hyperscale, 2025](https://arxiv.org/abs/2511.16652)
    """

    def __init__(
        self,
        learning_rate: Any = None,
        weights: Sequence[str] | None = None,
        scales: bool = False,
        value_range: tuple[int, int] | None = None,
        population_size: int = 128,
        update_probability: float = 0.02,
        chunk_size: int | str = "auto",
        vectorize: bool | str = "auto",
        seed: int | None = None,
        name: str = "quantized_search",
        **kwargs: Any,
    ):
        for key in _REFUSED:
            if kwargs.get(key) is not None:
                raise ValueError(
                    f"`{key}` does not apply to integers; leave it out. "
                    f"Received: {key}={kwargs[key]!r}"
                )
        if kwargs.get("use_ema"):
            raise ValueError("`use_ema` does not apply to integers. Received: use_ema=True")
        if learning_rate is None:
            learning_rate = keras.optimizers.schedules.InverseTimeDecay(*_LEARNING_RATE)
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.weights = _check_weights(weights)
        self.scales = check_flag("scales", scales)
        self.value_range = _check_range(value_range)
        self.population_size = check_integer("population_size", population_size, minimum=2)
        if self.population_size % 2:
            raise ValueError(
                "`population_size` must be even, for pairs of candidates. "
                f"Received: population_size={population_size}"
            )
        self.update_probability = check_number(
            "update_probability", update_probability, above=0.0, at_most=1.0
        )
        self.chunk_size = chunk_size
        if chunk_size != "auto":
            self.chunk_size = check_integer("chunk_size", chunk_size)
        check_choice("vectorize", vectorize, ("auto", True, False))
        self.vectorize = vectorize if isinstance(vectorize, str) else bool(vectorize)
        self.seed = check_seed(seed)
        self.candidate_map = CandidateMap(self.name, self.vectorize)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self._seed_state = self.seed_generator.state  # tracked: saved with the optimizer
        after_compile(__name__, _attach)

    def variables_of(self, model: keras.Model) -> list[keras.Variable]:
        """Returns the integers of a model, and their scales if these are searched."""
        self._attach(model)
        return list(self._searched) if self.built else []

    def _attach(self, model):
        known = None if self._model is None else self._model()
        if self.built and known is not model:
            raise ValueError(
                f"{self.name!r} was built for another model, whose integers it trains. Make a new "
                f"{type(self).__name__} for this one. Received: the model {model.name!r}"
            )
        self._model = weakref.ref(model)
        self.build([])

    def build(self, variables: Sequence[keras.Variable]) -> None:
        # Keras gives the trainable variables, none of which this optimizer changes.
        model = None if self._model is None else self._model()
        if self.built or model is None or not model.built:
            return
        self._integers = integer_weights(model, self.weights, self.value_range)
        scales = [w.scale for w in self._integers] if self.scales else []
        searched = [*(w.variable for w in self._integers), *scales]
        # In a tuple, so that Keras does not take them for the optimizer's variables.
        self._searched = tuple(searched)
        super().build(searched)
        self._residuals = [
            self.add_variable(w.shape, dtype="int8", name="residual") for w in self._integers
        ]
        self._moments = self.add_variable((len(searched),), dtype="float32", name="moments")

    def begin_training(self, model: keras.Model) -> None:
        super().begin_training(model)
        self.candidate_map.forget()

    def search(self, loss_of: Callable, variables: Sequence[keras.Variable]) -> None:
        if not self.built:
            raise ValueError(
                f"{type(self).__name__} trains the quantized layers of a model that was compiled "
                "with it, alone and in `fit` or `train_on_batch`. Received: variables "
                f"{[variable.path for variable in variables]}"
            )
        check_built_for(self.name, variables, self._searched)
        if searching_strategy() is not None:
            raise ValueError(
                f"{type(self).__name__} trains on one device, without a strategy of "
                f"`tf.distribute`. Received: {type(searching_strategy()).__name__}"
            )
        candidates = IntegerCandidates(
            self._integers, self.scales, self.update_probability, self.seed_generator
        )

        def loss_at(changes):
            with self.candidate_map.naming_the_way_out():
                return ops.cast(loss_of(candidates.stored(changes)), "float32")

        pairs = self._pairs_at_once(loss_at, candidates.shapes)
        slopes, is_bad = candidates.slopes(
            lambda changes: self.candidate_map(loss_at, changes),
            self.population_size // 2,
            pairs,
        )
        self._nonfinite.assign_add(ops.sum(ops.cast(is_bad, "int32")))
        self._failed.assign(ops.all(is_bad))
        cond(self.failed, lambda: None, lambda: self._move(candidates, slopes))
        candidates.end()
        self.iterations.assign_add(1)

    def _pairs_at_once(self, loss_at, shapes):
        """A divisor of the number of pairs."""
        pairs, size = self.population_size // 2, self.chunk_size
        if size == "auto":
            fitting = chunk_bytes() // self.candidate_map.candidate_bytes(loss_at, shapes)
            size = max(fitting, _LEAST_CHUNK)
        most = max(1, size // 2)
        return next(n for n in range(min(most, pairs), 0, -1) if pairs % n == 0)

    def _move(self, candidates, slopes):
        """Moves the integers along the estimated gradient, and the residuals along what is left."""
        updates = ops.cast(self.iterations + 1, "float32")
        correction = 1.0 - ops.power(_BETA_2, updates)
        rate = ops.cast(self.learning_rate, "float32")
        moments = ops.unstack(ops.copy(self._moments), num=len(self._searched))
        for i in range(len(self._searched)):
            gradient = candidates.gradient(i, slopes)
            moments[i] = _BETA_2 * moments[i] + (1.0 - _BETA_2) * ops.mean(gradient**2)
            size = rate / (ops.sqrt(moments[i] / correction) + keras.config.epsilon() ** 2)
            if i < len(self._integers):
                self._move_integers(i, size * gradient, candidates.uniform(i))
            else:
                scale = self._searched[i]
                factor = ops.exp(-_SCALE_RATE * size * gradient)
                scale.assign(ops.copy(scale) * ops.cast(factor, scale.dtype))
        self._moments.assign(ops.stack(moments))

    def _move_integers(self, index, step, uniform):
        weight, residual = self._integers[index], self._residuals[index]
        wanted = ops.cast(ops.copy(residual), "float32") / _PARTS - weight.stride * step
        here = ops.cast(weight.integers(), "float32")
        there = ops.clip(here + ops.round(wanted), weight.lowest, weight.highest)
        left = ops.clip(wanted - (there - here), -0.5, 0.5)
        parts = ops.clip(ops.floor(left * _PARTS + uniform), -_PARTS // 2, _PARTS // 2)
        residual.assign(ops.cast(parts, "int8"))
        weight.variable.assign(weight.stored(ops.cast(there, "int8")))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        names = ["weights", "scales", "value_range", "population_size", "update_probability"]
        names += ["chunk_size", "vectorize", "seed"]
        return {
            "name": config["name"],
            "learning_rate": config["learning_rate"],
            **{name: getattr(self, name) for name in names},
        }


def _attach(model):
    optimizer = optimizer_of(model)
    if isinstance(optimizer, QuantizedSearch):
        optimizer.variables_of(model)


def _check_weights(weights):
    if weights is None:
        return None
    is_list = isinstance(weights, (list, tuple)) and weights
    if not is_list or not all(isinstance(pattern, str) for pattern in weights):
        raise TypeError(
            "`weights` must be a list of patterns of variable paths, such as "
            f"['dense/kernel'], or None. Received: weights={weights!r}"
        )
    return list(weights)


def _check_range(value_range):
    if value_range is None:
        return None
    if not isinstance(value_range, (list, tuple)) or len(value_range) != 2:
        raise TypeError(
            "`value_range` must be a pair of integers, such as (-1, 1), or None. "
            f"Received: value_range={value_range!r}"
        )
    lowest, highest = (check_integer("value_range", v, minimum=-128) for v in value_range)
    if not lowest < highest <= 127:
        raise ValueError(
            "`value_range` must hold the lowest and the highest integer, within [-128, 127]. "
            f"Received: value_range={value_range!r}"
        )
    return lowest, highest
