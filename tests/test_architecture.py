"""Who may import whom: folders only from those above them, what other libraries keep private in the
seams alone, and heavy or optional libraries only when they are used."""

import ast
import graphlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from private_names import own_names, private_trees, private_uses

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "keras_extras"

# A folder imports from those on the lines above its own.
LEVELS = [
    {"_version", "_core", "_seams"},
    {
        *("callbacks", "constraints", "datasets", "initializers", "layers"),
        *("losses", "metrics", "optimizers"),
    },
    {"autodiff"},
    {"inference", "unrolled"},
    {"pipelines"},
    {"visualization"},
    {"tuners"},
]
# What each seam takes that is private to another library.
PRIVATE_IN_SEAMS = {
    "compile_arguments.py": {"_resolve_auto_jit_compile"},
    "epoch_iterator.py": {
        *("_dataset", "_dataloader", "_first_batches", "_get_iterator", "_initial_epoch")
    },
    "fit_hook/__init__.py": {"_loss_tracker"},
    "fit_hook/tensorflow.py": {"_use_weight_decay"},
    "gradient_registry.py": {"tensorflow.python.framework.ops"},
    "interpreter_flags.py": {"_args_from_interpreter_flags"},
    "layers_within.py": {"_flatten_layers"},
    "metric_direction.py": {"_direction"},
    "optimizer_variables.py": {
        "_get_variable_index",
        "_trainable_variables",
        "_use_weight_decay",
    },
    "poisson_draws.py": {
        "_log_rate_parameter_no_checks",
        "tensorflow_probability.python.distributions.poisson.random_poisson",
    },
    "repeated_dataset.py": {"_batch_size", "_functions", "_inputs", "_seed", "_seed2"},
    "sample_weights.py": {"_check_sample_weight"},
    "scores.py": {"_fn"},
    "tuner_state.py": {"_ordered_ids", "_populate_initial_space", "_populate_next"},
}
NOT_BEFORE_USE = {"tensorflow_probability", "pandas", "matplotlib", "keras_tuner", "sklearn"}


def imported_names(source: str, package: str) -> Iterator[str]:
    """The full dotted names that a module of `package` imports, wherever in its text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            module = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def forbidden_imports(path: Path) -> list[str]:
    """The imports of a module of ours that lead to a folder not above its own."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    folder = parts[1]
    if folder == "__init__":
        return []
    above = set().union(*LEVELS[: level_of(folder)], {folder})
    if folder in LEVELS[0]:
        above = LEVELS[0]
    names = imported_names(path.read_text(), ".".join(parts[:-1]))
    return [
        name
        for name in names
        if name.split(".")[0] == "keras_extras" and not set(name.split(".")[1:2]) & above
    ]


def level_of(folder: str) -> int:
    return next(number for number, level in enumerate(LEVELS) if folder in level)


def python_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


PYTHON_FILES = python_files(PACKAGE)


def test_every_folder_has_a_level():
    names = {path.relative_to(PACKAGE).parts[0] for path in PYTHON_FILES}
    assert {name.removesuffix(".py") for name in names} <= set().union(*LEVELS, {"__init__"})


def test_folders_import_only_from_those_above():
    forbidden = {str(p.relative_to(ROOT)): forbidden_imports(p) for p in PYTHON_FILES}
    assert {path: names for path, names in forbidden.items() if names} == {}


def test_the_two_lowest_folders_import_each_other_without_circles():
    graph = {}
    for folder in ("_core", "_seams"):
        for path in python_files(PACKAGE / folder):
            parts = path.relative_to(ROOT).with_suffix("").parts
            module = ".".join(parts).removesuffix(".__init__")
            names = imported_names(path.read_text(), ".".join(parts[:-1]))
            graph[module] = [name.rpartition(".")[0] for name in names if "keras_extras." in name]
    graphlib.TopologicalSorter(graph).prepare()  # raises for a circle


def test_only_seams_use_what_other_libraries_keep_private():
    sources = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in PYTHON_FILES}
    others = {name: text for name, text in sources.items() if not name.startswith("_seams/")}
    ours = own_names(*others.values())
    used = {name: private_uses(text, ours) for name, text in others.items()}
    assert {name: uses for name, uses in used.items() if uses} == {}


def test_seams_use_what_is_listed():
    """Outside of a file its names are private to it, so that those of other libraries are seen."""
    used = {}
    for path in python_files(PACKAGE / "_seams"):
        text = path.read_text()
        used[path.relative_to(PACKAGE / "_seams").as_posix()] = private_uses(text, own_names(text))
    assert {name: uses for name, uses in used.items() if uses} == PRIVATE_IN_SEAMS


def test_models_are_called_with_other_values_in_one_place():
    """Everything else goes through `evaluate` and `substituted`, whose scopes nest."""

    def called(path):
        calls = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call))
        return {getattr(c.func, "attr", getattr(c.func, "id", None)) for c in calls}

    names = {"stateless_call", "StatelessScope"}
    found = {p.relative_to(PACKAGE).as_posix() for p in PYTHON_FILES if called(p) & names}
    assert found == {"_core/stateless.py", "_seams/stateless_scopes.py"}


def test_scripts_and_tests_use_no_private_tree():
    used = {
        path.relative_to(ROOT).as_posix(): private_trees(path.read_text())
        for folder in ("examples", "benchmarks", "tests")
        for path in python_files(ROOT / folder)
    }
    # Keras' battery for layers has no public name.
    assert {name: uses for name, uses in used.items() if uses} == {
        "tests/test_keras_layer_battery.py": {"keras.src.testing"}
    }


def run_python(program: str) -> str:
    """What a program prints in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_importing_the_package_imports_no_library():
    loaded = run_python("import keras_extras, sys; print(*sys.modules)").split()
    assert "keras_extras" in loaded
    assert {"keras", "tensorflow", *NOT_BEFORE_USE} & set(loaded) == set()


def test_every_folder_imports_where_the_libraries_of_later_use_are_absent():
    """They are blocked, because Keras itself imports some of them where they are present.

    `tuners` is left out: its classes are those of keras-tuner, made more of.
    """
    folders = run_python(
        "import importlib, pkgutil, sys\n"
        f"sys.modules.update(dict.fromkeys({sorted(NOT_BEFORE_USE)}))\n"
        "import keras_extras\n"
        "for folder in pkgutil.iter_modules(keras_extras.__path__, 'keras_extras.'):\n"
        "    if folder.name != 'keras_extras.tuners':\n"
        "        importlib.import_module(folder.name)\n"
        "        print(folder.name)\n"
    ).split()
    assert "keras_extras.layers" in folders


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("import keras_extras.layers as layers", ["keras_extras.layers"]),
        ("from keras_extras import layers, losses", ["keras_extras.layers", "keras_extras.losses"]),
        ("def f():\n    from . import noise", ["keras_extras.optimizers.noise"]),
        ("from ..layers import ScaleShift", ["keras_extras.layers.ScaleShift"]),
        ("from .. import layers", ["keras_extras.layers"]),
    ],
)
def test_imports_are_found_in_every_shape(statement, names):
    assert list(imported_names(statement, "keras_extras.optimizers")) == names


@pytest.mark.parametrize(
    ("program", "uses"),
    [
        ("import keras.src", {"keras.src"}),
        ("import keras.src.backend as b", {"keras.src.backend"}),
        ("from keras import src", {"keras.src"}),
        ("from keras.src.backend import x", {"keras.src.backend.x"}),
        ("import keras\nkeras.src.backend.Variable", {"keras.src"}),
        ("from tensorflow.python.framework import ops", {"tensorflow.python.framework.ops"}),
        ("import tensorflow as tf\ntf.python.ops", {"tensorflow.python"}),
        ("from jax._src import core", {"jax._src.core"}),
        ("from keras.layers import _Hidden", {"keras.layers._Hidden"}),
        ("model._layers", {"_layers"}),
        ("self._tracker", {"_tracker"}),
        ("super()._build(1)", {"_build"}),
        ("getattr(model, '_layers', None)", {"_layers"}),
        ("wrap_once(keras.Model, '_build', wrap)", {"_build"}),
        ("import keras\nfrom keras import ops\nkeras.ops.sum(0)", set()),
        ("class A:\n    def _f(self): return self._g\n    _g = 1\nA()._f()", set()),
        ("class A:\n    def f(self): self._x: int = 1\nA()._x", set()),
        ("class A(NamedTuple):\n    x: int\nA(1)._replace(x=2)", set()),
        ("self.__class__.__name__", set()),
        # Given to an object that is not ours, a name is not ours.
        ("oracle._ids = []", {"_ids"}),
        ("_layers = 1\nmodel._layers", {"_layers"}),
    ],
)
def test_private_uses_are_found_in_every_shape(program, uses):
    assert private_uses(program, own_names(program)) == uses


def test_distributions_need_tensorflow_or_jax(monkeypatch):
    import keras

    import keras_extras
    from keras_extras import inference, layers, losses

    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    for make in (
        lambda: layers.IndependentNormal(),
        lambda: layers.DistributionLambda(lambda t: t),
        lambda: layers.KLDivergenceAddLoss(None),
        lambda: layers.IndependentNormal.new(np.zeros((1, 2))),
        lambda: layers.default_multivariate_normal_fn("float32", (), "w", True, None),
        lambda: losses.NegativeLogLikelihood(),
        lambda: inference.sample_posterior(None, None, None),
        lambda: keras_extras.tfp,
    ):
        with pytest.raises(ImportError, match=r"Keras on TensorFlow or JAX.*'torch'"):
            make()
