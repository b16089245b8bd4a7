"""Who may import whom: folders only from those above them, nothing from Keras' private tree, and
heavy or optional libraries only when they are used."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "keras_extras"

# A folder imports from those on the lines above its own.
LEVELS = [
    {"_version", "_core", "_seams"},
    {"callbacks", "datasets", "initializers", "layers", "losses", "metrics", "optimizers"},
    {"autodiff"},
    {"inference"},
    {"pipelines"},
    {"visualization"},
    {"tuners"},
]
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


def private_keras_uses(source: str) -> list[str]:
    """What a module takes from `keras.src`, by import or by attribute."""
    imported = [name for name in imported_names(source, "") if f"{name}.".startswith("keras.src.")]
    written = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "keras.src"
    ]
    return imported + written


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


def test_every_folder_has_a_level():
    names = {path.relative_to(PACKAGE).parts[0] for path in python_files(PACKAGE)}
    assert {name.removesuffix(".py") for name in names} <= set().union(*LEVELS, {"__init__"})


def test_folders_import_only_from_those_above():
    forbidden = {str(p.relative_to(ROOT)): forbidden_imports(p) for p in python_files(PACKAGE)}
    assert {path: names for path, names in forbidden.items() if names} == {}


def test_nothing_uses_the_private_tree_of_keras():
    uses = {
        str(path.relative_to(ROOT)): private_keras_uses(path.read_text())
        for folder in ("keras_extras", "examples", "benchmarks", "tests")
        for path in python_files(ROOT / folder)
    }
    used = {path: names for path, names in uses.items() if names}
    # Keras' battery for layers has no public name.
    assert used == {"tests/test_keras_layer_battery.py": ["keras.src.testing"]}


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
    "statement",
    [
        "import keras.src",
        "import keras.src.backend as b",
        "from keras import src",
        "from keras.src.backend import x",
        "import keras\nkeras.src.backend.Variable",
    ],
)
def test_private_uses_are_found_in_every_shape(statement):
    assert private_keras_uses(statement)
    assert not private_keras_uses("import keras\nfrom keras import ops\nkeras.ops.sum(0)")


def test_distributions_need_tensorflow(monkeypatch):
    import keras

    from keras_extras import layers

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    for make in (
        lambda: layers.IndependentNormal(),
        lambda: layers.DistributionLambda(lambda t: t),
        lambda: layers.KLDivergenceAddLoss(None),
        lambda: layers.IndependentNormal.new(None),
        lambda: layers.default_multivariate_normal_fn("float32", (), "w", True, None),
    ):
        with pytest.raises(
            ImportError, match=r"need Keras on TensorFlow.*KERAS_BACKEND=tensorflow"
        ):
            make()
