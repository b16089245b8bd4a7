"""Every public layer, optimizer, loss and metric keeps the contract, and none is left out."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator

import contract_cases
import keras
import pytest
from contract import check_layer, check_loss, check_metric, check_optimizer

import keras_extras

CHECKS = {
    "layer": (check_layer, contract_cases.LAYERS),
    "optimizer": (check_optimizer, contract_cases.OPTIMIZERS),
    "loss": (check_loss, contract_cases.LOSSES),
    "metric": (check_metric, contract_cases.METRICS),
}
FOLDERS = {"layers", "losses", "metrics", "optimizers"}
BASES = (keras.layers.Layer, keras.losses.Loss, keras.metrics.Metric, keras.optimizers.Optimizer)


def parameters():
    """All cases; those of a class that had one are slow."""
    seen = set()
    for kind, (check, cases) in CHECKS.items():
        for case in cases:
            cls = re.match(r"\w+", case.name)[0]
            marks = [pytest.mark.slow] if cls in seen else []
            seen.add(cls)
            yield pytest.param(check, case, id=f"{kind}-{case.name}", marks=marks)


@pytest.mark.parametrize(("check", "case"), parameters())
def test_contract(check, case):
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", contract_cases.LAYERS, ids=lambda case: case.name)
def test_layers_without_xla(case):
    check_layer(case, jit_compile=False)


@pytest.mark.parametrize("kind", CHECKS)
def test_case_names_are_distinct(kind):
    names = [case.name for case in CHECKS[kind][1]]
    assert len(set(names)) == len(names)


def test_no_public_class_is_left_out():
    listed = {type(case.make()) for _, cases in CHECKS.values() for case in cases}
    public = {
        cls
        for cls in _public_classes()
        if cls.__name__ not in {*contract_cases.ABSTRACT, *contract_cases.OF_ANOTHER_KIND}
    }
    assert public, "The walk found no class at all"
    left_out = sorted(cls.__name__ for cls in public - listed)
    assert not left_out, f"Not in tests/contract_cases.py: {left_out}"


def _public_classes() -> Iterator[type]:
    for folder in pkgutil.iter_modules(keras_extras.__path__, "keras_extras."):
        if folder.name.rpartition(".")[2] not in FOLDERS:
            continue
        package = importlib.import_module(folder.name)
        yield from _classes_of(package, package.__all__)
        for submodule in pkgutil.walk_packages(package.__path__, f"{folder.name}."):
            if not any(part.startswith("_") for part in submodule.name.split(".")):
                module = importlib.import_module(submodule.name)
                own = [name for name, value in vars(module).items() if _defined_in(value, module)]
                yield from _classes_of(module, [name for name in own if not name.startswith("_")])


def _classes_of(module, names) -> Iterator[type]:
    for name in names:
        value = getattr(module, name)
        if inspect.isclass(value) and issubclass(value, BASES):
            yield value


def _defined_in(value, module) -> bool:
    return inspect.isclass(value) and value.__module__ == module.__name__
