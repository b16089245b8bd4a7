"""Tunable: the base of hypermodels whose search space can be changed entry by entry."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import keras_tuner
from keras_tuner.engine.hyperparameters import Boolean, Choice, Float, HyperParameter, Int

from keras_extras._core.checks import check_choice, check_integer, check_number
from keras_extras.tuners.reload_hook import install_reload_hook

# Names, or their ends, of numbers with which nothing is trained at 0.
_POSITIVE = ("learning_rate", "prior_stddev", "sigma")
_SCHEDULE = keras.optimizers.schedules.LearningRateSchedule


class When(NamedTuple):
    """An entry of a space that counts only when another one has certain values.

    Attributes:
        entry: A hyperparameter of keras-tuner, a list of choices, or a constant.
        parent: The entry that it depends on.
        values: The values of that entry with which this one counts.
    """

    entry: Any
    parent: str
    values: Sequence[Any]


class Tunable(keras_tuner.HyperModel):
    """Base class of hypermodels with a documented search space, changed entry by entry.

    A subclass hands its default space to this class, overrides `build_from`, and calls `values` in
    its `fit` for what is tuned there, such as the batch size.

    Args:
        defaults: Dict from the names of the space to `keras_tuner` hyperparameters, constants, or
            `When`.
        space: Dict from names of the space to what takes their place: a hyperparameter of
            `keras_tuner.engine.hyperparameters`, searched under the name that it has; a list of
            choices; or anything else, a constant that is not searched. `None` changes nothing.
        known: Dict from names to the only choices that the model can be made with.
        name: String, the name of the hypermodel. Defaults to `None`.
        tunable: Boolean, as in `keras_tuner.HyperModel`. Defaults to `True`.

    Raises:
        TypeError: If `space` is no dict.
        ValueError: If an entry of `space` is unknown, empty, out of range or never counts, if two
            entries have one name, or if nothing is left to search.
    """

    # Whether `build` asks for hyperparameters that the space does not list.
    searches_more = False

    def __init__(
        self,
        defaults: Mapping[str, Any],
        space: Mapping[str, Any] | None,
        known: Mapping[str, Sequence[Any]],
        name: str | None = None,
        tunable: bool = True,
    ):
        super().__init__(name=name, tunable=tunable)
        space = {} if space is None else space
        if not isinstance(space, Mapping):
            raise TypeError(
                "`space` must be a dict from names to hyperparameters, lists of choices or "
                f"constants. Received: space={space!r}"
            )
        for unknown in set(space) - set(defaults):
            raise ValueError(
                f"{type(self).__name__} has no {unknown!r} in its space. "
                f"It has {', '.join(map(repr, defaults))}"
            )
        install_reload_hook(Tunable)
        self.space: dict[str, Any] = {}
        self._parents: dict[str, tuple[str, Sequence[Any]]] = {}
        for key, default in defaults.items():
            if isinstance(default, When):
                self._parents[key] = (default.parent, default.values)
                default = default.entry
            self.space[key] = _as_entry(key, space.get(key, default), known.get(key))
            _check_range(key, self.space[key], default)
        for key in set(space) & set(self._parents):
            self._check_counts(key)
        names = [entry.name for entry in self.space.values() if isinstance(entry, HyperParameter)]
        if not names and not self.searches_more:
            raise ValueError(
                "`space` must leave something to search, if only a list of one choice. "
                f"Received: space={space!r}"
            )
        for repeated in {name for name in names if names.count(name) > 1}:
            raise ValueError(
                "Each hyperparameter of `space` must have its own name. "
                f"Received: {repeated!r} twice"
            )

    def _check_counts(self, key):
        """Raises if an entry that was given can never count."""
        parent, wanted = self._parents[key]
        above = self.space[parent]
        offered = above.values if isinstance(above, Choice) else [above]
        if not isinstance(offered[0], HyperParameter) and not set(offered) & set(wanted):
            raise ValueError(
                f"{key!r} in `space` counts only where {parent!r} is "
                f"{' or '.join(map(repr, wanted))}. Received: {parent!r} of {offered!r}"
            )

    def values(self, hp: keras_tuner.HyperParameters) -> dict[str, Any]:
        """Returns the value of each entry of the space, `None` for one that does not count now."""
        whole_numbers(hp)
        found: dict[str, Any] = {}
        for key, entry in self.space.items():
            parent, wanted = self._parents.get(key, (None, ()))
            condition = {}
            if parent is not None:
                above = self.space[parent]
                if isinstance(above, HyperParameter):
                    condition = {"parent_name": above.name, "parent_values": list(wanted)}
                elif found[parent] not in wanted:
                    found[key] = None
                    continue
            if isinstance(entry, HyperParameter):
                arguments = entry.get_config()
                arguments.pop("conditions")
                ask = getattr(hp, type(entry).__name__)
                found[key] = ask(**arguments, **condition)
            else:
                found[key] = entry
        return found

    def declare_hyperparameters(self, hp: keras_tuner.HyperParameters) -> None:
        """Puts the whole space, with what `fit` tunes, into `hp` before the first trial."""
        self.values(hp)

    def differences(
        self, stored: keras_tuner.HyperParameters, given: keras_tuner.HyperParameters
    ) -> list[str]:
        """Returns how the space of a search differs from this one, with the names that do.

        Args:
            stored: The space of the search.
            given: What the tuner was given as `hyperparameters`, which goes before this space.
        """
        here = given.copy()
        self.declare_hyperparameters(here)
        there, here = _rules(stored), _rules(here)
        found = {
            "only there": [] if self.searches_more else set(there) - set(here),
            "only here": set(here) - set(there),
            "of other values": {
                name for name in set(there) & set(here) if there[name] != here[name]
            },
        }
        return [
            f"{how} {', '.join(map(repr, sorted(names)))}" for how, names in found.items() if names
        ]

    def build_from(self, values: dict[str, Any]) -> Any:
        """Returns a compiled model; to be overridden.

        Args:
            values: Dict from the names of the space to their values, `None` for what does not
                count.
        """
        raise NotImplementedError(f"{type(self).__name__} must override `build_from`.")

    def build(self, hp: keras_tuner.HyperParameters) -> Any:
        """Returns the compiled model of a trial."""
        return self.build_from(self.values(hp))

    def fit(self, hp: keras_tuner.HyperParameters, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Trains the model of a trial; what `search` was given goes before what is tuned."""
        values = self.values(hp)
        tuned = {key: values[key] for key in ("batch_size", "epochs") if values[key] is not None}
        check_rows(getattr(model, "input_shape", None), args[0] if args else kwargs.get("x"))
        history = model.fit(*args, **{**tuned, **kwargs})
        check_objective(history, kwargs.get("callbacks", ()))
        return history


def whole_numbers(hp: keras_tuner.HyperParameters) -> None:
    """Makes integers of the floats that keras-tuner's grid hands out for integer ranges."""
    for parameter in hp.space:
        value = hp.values.get(parameter.name)
        if isinstance(parameter, Int) and isinstance(value, float) and value.is_integer():
            hp.values[parameter.name] = int(value)


def check_rows(expected: Any, x: Any) -> None:
    """Ends a search whose models do not take its inputs at its first trial.

    Args:
        expected: The shape that models take; checked if it is that of one array.
        x: Inputs of `search`, likewise.
    """
    shape = getattr(x, "shape", None)
    if shape is None or not isinstance(expected, tuple) or None in (*expected[1:], *shape[1:]):
        return
    if tuple(shape[1:]) != expected[1:]:
        raise keras_tuner.errors.FatalValueError(
            f"`x` must have rows of shape {expected[1:]}, as the hypermodel was made for. "
            f"Received: x.shape={tuple(shape)}"
        )


def check_objective(
    history: keras.callbacks.History, callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    """Ends a search for what no trial reports at its first trial; keras-tuner would try three.

    Args:
        history: What a trial reports.
        callbacks: Those of the trial, keras-tuner's own among them, which know the objective.
    """
    for callback in callbacks:
        objective = getattr(callback, "objective", None)
        if isinstance(objective, keras_tuner.Objective) and not objective.has_value(
            history.history
        ):
            raise keras_tuner.errors.FatalValueError(
                "The objective must be something that a trial reports: "
                f"{', '.join(map(repr, history.history))}. Name a metric of the model, and give "
                "`search` validation data for names that begin with 'val_'. "
                f"Received: {objective.name!r}"
            )


def _rules(hp):
    """The values that each hyperparameter can have."""
    configs = {parameter.name: parameter.get_config() for parameter in hp.space}
    return {
        name: {key: value for key, value in config.items() if key not in ("conditions", "default")}
        for name, config in configs.items()
    }


def _check_range(key, entry, default):
    """Raises if an entry offers a number, or a flag, that no model can be trained with."""
    offered = [entry]
    if isinstance(entry, Choice):
        offered = entry.values
    elif isinstance(entry, Int | Float):
        offered = [entry.min_value, entry.max_value]
    for value in offered:
        if value is None or isinstance(value, HyperParameter):
            continue
        if isinstance(default, Boolean):
            check_choice(key, value, (True, False))
        elif isinstance(default, Int):
            check_integer(key, value, minimum=0 if key == "hidden_layers" else 1)
        elif isinstance(default, Float) and not isinstance(value, _SCHEDULE):
            is_share = "dropout" in key
            is_positive = key.endswith(_POSITIVE)
            check_number(
                key,
                value,
                above=0.0 if is_positive else -math.inf,
                at_least=0.0,
                at_most=1.0 if is_share else math.inf,
            )


def _as_entry(key, entry, known):
    """An entry of a space, named as its key if nobody gave it a name."""
    if isinstance(entry, (list, tuple)):
        if not entry:
            raise ValueError(
                f"`space` must offer at least one choice for each entry. Received: {key!r}: []"
            )
        entry = Choice(key, list(entry))
    if known is not None:
        offered = entry.values if isinstance(entry, Choice) else [entry]
        for value in set(offered) - set(known):
            raise ValueError(
                f"{key!r} in `space` can be {', '.join(map(repr, known))}. Received: {value!r}"
            )
    return entry
