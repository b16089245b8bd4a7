"""Tunable: the base of hypermodels whose search space can be changed entry by entry."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras_tuner
from keras_tuner.engine.hyperparameters import Choice, HyperParameter


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
        ValueError: If an entry of `space` is unknown or empty, or if two
            entries have one name.
    """

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
        self.space: dict[str, Any] = {}
        self._parents: dict[str, tuple[str, Sequence[Any]]] = {}
        for key, default in defaults.items():
            if isinstance(default, When):
                self._parents[key] = (default.parent, default.values)
                default = default.entry
            self.space[key] = _as_entry(key, space.get(key, default), known.get(key))
        names = [entry.name for entry in self.space.values() if isinstance(entry, HyperParameter)]
        for repeated in {name for name in names if names.count(name) > 1}:
            raise ValueError(
                "Each hyperparameter of `space` must have a name of its own. "
                f"Received: {repeated!r} twice"
            )

    def values(self, hp: keras_tuner.HyperParameters) -> dict[str, Any]:
        """Returns the value of each entry of the space, `None` for one that does not count now."""
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
        return model.fit(*args, **{**tuned, **kwargs})


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
