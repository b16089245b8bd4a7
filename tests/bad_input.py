"""What the property tests pass to constructors and calls, and what they take for an explanation."""

import inspect
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import contract_cases
import keras
import numpy as np
import tensorflow_probability as tfp
from hypothesis import strategies as st

from keras_extras import callbacks, initializers, layers, pipelines, tuners
from keras_extras.optimizers import priors, schedules, transforms

# What Keras makes an object of, and explains in its own words; and functions of the user.
_OF_KERAS = re.compile(
    r"name|dtype|reduction|layer|activation|optimizers|kernel_provider|regularizer|constraint"
    r"|initializers?|.*_(initializer|regularizer|constraint|fn)"
)


class Constructor(NamedTuple):
    """A class, arguments that make an instance, and the names of those that it has to check."""

    cls: type
    arguments: dict[str, Any]
    checked: list[str]

    def __repr__(self) -> str:
        return self.cls.__name__


def _parts() -> dict[str, Any]:
    return {name: keras.layers.Dense(2) for name in ("encoder", "decoder", "classifier")}


def _others() -> Iterator[tuple[type, dict[str, Any]]]:
    """Public classes beside those of the contract."""
    yield callbacks.BackupAndResume, {"backup_dir": "outputs/backup"}
    yield callbacks.KLWarmUp, {"epochs": 2}
    yield callbacks.SearchMonitor, {}
    yield callbacks.StopWhenConverged, {}
    yield initializers.ActivationUniform, {}
    yield layers.BlockwiseInitializer, {"initializers": ["zeros", "ones"], "sizes": [1, 2]}
    yield layers.ExponentiatedQuadraticKernel, {}
    yield layers.VariableLayer, {"shape": (2,)}
    kernel = layers.ExponentiatedQuadraticKernel()
    yield layers.VariationalGaussianProcess, {"num_inducing_points": 3, "kernel_provider": kernel}
    for cls in (layers.KLDivergenceAddLoss, layers.KLDivergenceRegularizer):
        yield cls, {"distribution_b": tfp.distributions.Normal(0.0, 1.0)}
    yield pipelines.AutoencoderClassifier, _parts()
    yield pipelines.ProbabilisticClassifier, {}
    yield pipelines.ProbabilisticRegressor, {}
    yield priors.HalfNormal, {}
    yield priors.Normal, {}
    yield priors.Uniform, {}
    rates = {"initial_learning_rate": 0.1, "epsilon": 0.5, "steps_per_epoch": 10}
    yield schedules.PowerDecay, rates
    yield transforms.Bounds, {"lower": 0.0, "upper": 1.0}
    yield transforms.Choice, {"values": [1.0, 2.0]}
    yield tuners.TabularHyperModel, {"num_features": 3}
    yield tuners.BayesianHyperModel, {"num_features": 3, "training_set_size": 10}


def constructors() -> list[Constructor]:
    """Every class of the contract, with the arguments of its case, and the others."""
    kinds = ("LAYERS", "OPTIMIZERS", "LOSSES", "METRICS")
    things = [case.make() for kind in kinds for case in getattr(contract_cases, kind)]
    listed = {type(thing): _arguments(thing) for thing in things} | dict(_others())
    found = [
        Constructor(cls, arguments, [n for n in _names(cls) if not _OF_KERAS.fullmatch(n)])
        for cls, arguments in listed.items()
    ]
    return [constructor for constructor in found if constructor.checked]


def _names(cls):
    parameters = inspect.signature(cls.__init__).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.kind in kinds and p.name != "self"]


def _arguments(thing):
    config = thing.get_config()
    return {
        name: keras.saving.deserialize_keras_object(config[name])
        if isinstance(config[name], dict)
        else config[name]
        for name in _names(type(thing))
        if name in config
    }


ODD_VALUES = st.one_of(
    st.sampled_from(
        [
            *(None, True, False, 0, 1, -1, 7, 2**63, 0.5, 1e30, float("nan"), float("inf")),
            *("", "nonsense", (), [], (2,), (-1,), (1, 2, 3), ("a",), [None], {}, {"a": 1}, {1}),
            *(np.zeros(2), np.zeros(()), np.float32(0.5), np.int64(3), np.array(["a"])),
            *(b"x", 1j, object()),
        ]
    ),
    st.integers(-5, 20),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.one_of(st.integers(-3, 5), st.floats(), st.text(max_size=2)), max_size=4),
)


def tell(call: Any, *names: str) -> Any:
    """Returns what `call` returns, or None where it raises an error that explains itself.

    Args:
        call: Function without arguments.
        names: One of which the error has to name, in backticks, with what was received.
    """
    try:
        return call()
    except (ValueError, TypeError) as error:
        message = str(error)
        is_told = not names or any(
            f"`{name}`" in message or f"{name}=" in message for name in names
        )
        if not (is_told and "eceived" in message):
            raise AssertionError(f"{type(error).__name__} does not explain: {message}") from error
        return None


def tell_of(path: Any, call: Any) -> Any:
    """Returns what `call` returns, or None where it raises a ValueError that names the file."""
    try:
        return call()
    except ValueError as error:
        if str(path) not in str(error):
            raise AssertionError(f"does not name the file: {error}") from error
        return None


def arrays(*more_dtypes: str) -> st.SearchStrategy:
    """Arrays of one number, of up to three axes and any dtype.

    With a fourth, `tf.matmul` with a matrix ends the process on some processors (TensorFlow 2.21).
    """
    return st.builds(
        lambda shape, dtype, value: np.full(shape, value).astype(dtype),
        st.lists(st.integers(1, 6), max_size=3),
        st.sampled_from(
            ["float32", "float64", "float16", "int32", "int64", "uint8", "bool", *more_dtypes]
        ),
        st.sampled_from([0.0, 1.0, 2.5, 30.0]),
    )
