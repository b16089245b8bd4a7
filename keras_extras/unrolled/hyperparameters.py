"""The continuous hyperparameters of a training: what they act on, where they vary, their scales."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_extras._core.path_patterns import match_patterns
from keras_extras._core.paths import unique_paths
from keras_extras.unrolled import backend
from keras_extras.unrolled.varying import PerStep, PerWeight

# Kinds that act before the first step.
OF_THE_START = ("initial_weights", "initial_scale")
_OF_WEIGHTS = ("l2", *OF_THE_START, "learning_rate")
_OF_ROWS = ("sample_weight", "x", "y")
_SHARES = ("momentum", "rho", "beta_1", "beta_2", "ema_momentum")
_REAL = ("initial_weights", "x", "y", "loss")


@dataclass(frozen=True, eq=False)
class Hyperparameter:
    """One named hyperparameter.

    Args:
        name: String, such as `"l2/dense/kernel"`.
        kind: String, the part of the name before the first slash.
        start: NumPy array, the value at the start.
        targets: Tuple, positions of the weights it acts on, or the name of an output. Defaults to
            `()`.
        varies_over: `"steps"`, `"rows"` or `None`. Defaults to `None`.
    """

    name: str
    kind: str
    start: np.ndarray
    targets: tuple = ()
    varies_over: str | None = None

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1, as a momentum does."""
        return self.kind in _SHARES

    @property
    def is_real(self) -> bool:
        """Whether it may be any number; what is neither that nor a share is positive."""
        return self.kind in _REAL

    @property
    def sets_rate(self) -> bool:
        """Whether it is the learning rate of some weights alone."""
        return self.kind == "learning_rate" and bool(self.targets)

    def at(self, value: Any, step: Any, rows: Any) -> Any:
        """Returns what a step with a batch of these rows takes of the value."""
        if self.varies_over == "steps":
            return backend.gather(value, step)
        return backend.gather(value, rows) if self.varies_over == "rows" else value

    def check(self, value: Any) -> np.ndarray:
        """Returns a value as an array if it is one that this hyperparameter can have."""
        _check_real(self.name, value)
        array = np.asarray(value, "float64")
        if array.shape != self.start.shape:
            raise ValueError(
                f"The hyperparameter {self.name!r} must have shape {self.start.shape}. "
                f"Received: shape {array.shape}"
            )
        is_valid = np.isfinite(array) & (self.is_real | (array >= 0))
        if self.is_share:
            is_valid &= array < 1
        if not is_valid.all():
            rule = "be finite" if self.is_real else "be finite and at least 0"
            rule = "lie in [0, 1)" if self.is_share else rule
            raise ValueError(
                f"The hyperparameter {self.name!r} must {rule}. "
                f"Received: {array[~is_valid].flat[0]:g}"
            )
        return array

    def to_unconstrained(self, value: np.ndarray) -> np.ndarray:
        """Returns the logarithm of a positive value, the logit of a share, or a real value."""
        if self.is_real:
            return value
        if not (value > 0).all():
            raise ValueError(
                f"The hyperparameter {self.name!r} must start above 0, because `fit` descends its "
                f"{'logit' if self.is_share else 'logarithm'}. Received: {value.min():g}"
            )
        return np.log(value) - (np.log1p(-value) if self.is_share else 0.0)

    def from_unconstrained(self, value: np.ndarray) -> np.ndarray:
        """Undoes `to_unconstrained`."""
        if self.is_real:
            return value
        return 1.0 / (1.0 + np.exp(-value)) if self.is_share else np.exp(value)

    def unconstrained_gradient(self, value: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Returns the gradient with respect to what `to_unconstrained` returns."""
        if self.is_real:
            return gradient
        return gradient * value * ((1.0 - value) if self.is_share else 1.0)


def read_hyperparameters(
    given: Any,
    settings: Sequence[str],
    variables: Sequence[keras.Variable],
    outputs: Sequence[str],
    steps: int,
) -> list[Hyperparameter]:
    """Returns the hyperparameters that a user named.

    Args:
        given: Dict from names to starting values.
        settings: Names of the settings of the optimizer.
        variables: Trainable variables of the model.
        outputs: Names of the outputs of the model.
        steps: Integer, the number of steps.

    Raises:
        TypeError: If it is no dict.
        ValueError: If a name matches nothing, or a value has the wrong shape or lies outside of
            its range.
    """
    if not isinstance(given, Mapping):
        raise TypeError(
            "`hyperparameters` must be a dict from names to starting values, such as "
            f'{{"learning_rate": 0.1}}. Received: hyperparameters={given!r}'
        )
    kinds = (*settings, *(f"{kind}/<pattern>" for kind in _OF_WEIGHTS))
    kinds += (*(f"loss_weight/{name}" for name in outputs), "loss/<argument>", *_OF_ROWS)
    if not given:
        raise ValueError(
            f"`hyperparameters` must name at least one of {', '.join(kinds)}. "
            "Received: hyperparameters={}"
        )
    owners = {kind: _owners(kind, given, variables) for kind in _OF_WEIGHTS}
    found = []
    for name, value in given.items():
        _check_real(name, value)
        kind, _, target = name.partition("/")
        if kind in settings and not target:
            found.append(_of_optimizer(name, value, steps))
        elif kind in _OF_WEIGHTS and target:
            matched = [n for n, owner in enumerate(owners[kind]) if owner == name]
            found += _of_weights(name, kind, value, matched, variables)
        elif kind == "loss_weight" and target in outputs:
            found.append(_scalar(name, kind, value, (target,)))
        elif kind == "loss" and target:
            array = _array(name, value, "a number or an array")
            found.append(Hyperparameter(name, kind, array, (target,)))
        elif name in _OF_ROWS:
            found.append(_of_rows(name, value))
        else:
            raise ValueError(
                f"Each name in `hyperparameters` must be one of {', '.join(kinds)}. "
                f"Received: {name!r}"
            )
    for hyperparameter in found:
        hyperparameter.check(hyperparameter.start)
    return found


def _check_real(name, value):
    if np.iscomplexobj(value):
        raise TypeError(
            f"The hyperparameter {name!r} must hold real numbers. Received: complex numbers"
        )


def _owners(kind, given, variables):
    """For each variable the name of the hyperparameter of this kind that acts on it."""
    patterns = {}
    for name in given:
        prefix, _, pattern = name.partition("/")
        if prefix == kind and pattern:
            patterns[pattern] = name
    owners = match_patterns("hyperparameters", patterns, variables)
    for name in patterns.values():
        if name not in owners:
            raise ValueError(
                "Of several patterns that match a variable the first counts, and each must get "
                f"one. Received: {name!r}, all of whose variables have another before it"
            )
    return owners


def _array(name, value, expected):
    try:
        return np.array(value, "float64")
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"The hyperparameter {name!r} must be {expected}. Received: {value!r}"
        ) from error


def _of_optimizer(name, value, steps):
    if isinstance(value, PerStep):
        value = value.expand(steps)
    expected = f"a number, `PerStep`, or one number for each of the {steps} steps"
    array = _array(name, value, expected)
    if array.shape not in ((), (steps,)):
        raise ValueError(
            f"The hyperparameter {name!r} must be {expected}. Received: shape {array.shape}"
        )
    return Hyperparameter(name, name, array, (), "steps" if array.ndim else None)


def _of_weights(name, kind, value, matched, variables):
    starts = {}
    if kind == "initial_weights" and value is None:
        starts = {n: ops.convert_to_numpy(variables[n]).astype("float64") for n in matched}
    elif isinstance(value, PerWeight):
        starts = {n: value.expand(variables[n]) for n in matched}
    if starts:
        paths = unique_paths(variables)
        return [
            Hyperparameter(f"{kind}/{paths[n]}", kind, start, (n,)) for n, start in starts.items()
        ]
    expected = "a number, `PerWeight`, or an array that can be broadcast to the weights"
    array = _array(name, value, expected)
    for variable in (variables[n] for n in matched):
        shape = tuple(variable.shape)
        trailing = shape[len(shape) - array.ndim :] if array.ndim <= len(shape) else None
        fits = trailing is not None and all(a in (1, b) for a, b in zip(array.shape, trailing))
        if not fits:
            raise ValueError(
                f"The hyperparameter {name!r} must be {expected}. Received: shape {array.shape} "
                f"for {variable.path!r} of shape {shape}"
            )
    return [Hyperparameter(name, kind, array, tuple(matched))]


def _scalar(name, kind, value, targets):
    array = _array(name, value, "a number")
    if array.ndim:
        raise ValueError(
            f"The hyperparameter {name!r} must be a number. Received: shape {array.shape}"
        )
    return Hyperparameter(name, kind, array, targets)


def _of_rows(name, value):
    is_vector = name == "sample_weight"
    expected = "a vector with one number" if is_vector else "an array with an entry"
    expected += " for each row of the training data"
    array = _array(name, value, expected)
    if not array.size or (is_vector and array.ndim != 1):
        raise ValueError(
            f"The hyperparameter {name!r} must be {expected}. Received: shape {array.shape}"
        )
    return Hyperparameter(name, name, array, (), "rows")


def add_l2(
    hyperparameters: Sequence[Hyperparameter], values: Mapping[str, Any], weights: Sequence[Any]
) -> Any:
    """Returns the sum of `l2 * w ** 2` over all weights that have a penalty, as Keras' L2."""
    return sum(
        ops.sum(values[h.name] * ops.square(weights[n]))
        for h in hyperparameters
        if h.kind == "l2"
        for n in h.targets
    )


def initial_weights(
    hyperparameters: Sequence[Hyperparameter], values: Mapping[str, Any], weights: Sequence[Any]
) -> list[Any]:
    """Returns the initial weights: those that are learned or of the model, times their scales."""
    weights = list(weights)
    for kind in OF_THE_START:
        for h in hyperparameters:
            for n in h.targets if h.kind == kind else ():
                value = values[h.name]
                is_scale = kind == "initial_scale"
                weights[n] = value * weights[n] if is_scale else _filled(value, weights[n])
    return weights


def _filled(value, weight):
    return ops.broadcast_to(value, ops.shape(weight))
