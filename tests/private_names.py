"""Private names of other libraries that a program uses, as far as its text shows.

An attribute with an underscore counts as ours where a class of the package defines it or a method
gives it to `self`. An attribute of the same name that another library has is then not seen;
`test_seams.py` compares our classes with the private names of their bases.
"""

import ast
from collections.abc import Iterator

TREES = ("keras.src", "keras_tuner.src", "tensorflow.python", "tensorflow_probability.python")
LIBRARIES = ("keras", "keras_tuner", "tensorflow", "tensorflow_probability", "jax", "sklearn")
_SHORT = {"tf": "tensorflow", "tfp": "tensorflow_probability"}
# Of named tuples and of `os`, which Python documents.
_PYTHON = {"_asdict", "_exit", "_fields", "_replace"}
# Functions whose second argument is the name of an attribute.
_BY_NAME = {"delattr", "getattr", "hasattr", "setattr", "wrap_on_object", "wrap_once"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def own_names(*sources: str) -> set[str]:
    """The private names that classes define, and that methods give to their object."""
    found = set(_PYTHON)
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.ClassDef):
            found.update(filter(is_private, _defined(node)))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.update({node.attr} if ast.unparse(node.value) in ("self", "cls") else ())
    return found


def _defined(node: ast.ClassDef) -> Iterator[str]:
    for part in node.body:
        if isinstance(part, ast.FunctionDef | ast.ClassDef):
            yield part.name
        elif isinstance(part, ast.Assign | ast.AnnAssign):
            targets = part.targets if isinstance(part, ast.Assign) else [part.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def private_uses(source: str, ours: set[str]) -> set[str]:
    """The private names, and the parts of private trees, that a program uses."""
    found = private_trees(source)
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in _BY_NAME:
            names = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant)]
        found.update(name for name in names if is_private(name) and name not in ours)
    return found


def private_trees(source: str) -> set[str]:
    """The modules and names of private trees that a program imports or writes out."""
    found = {name for name in _imported(source) if _is_of_private_tree(name)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            name = f"{_SHORT.get(first, first)}.{rest}"
            if name in TREES:
                found.add(name)
    return found


def _imported(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_of_private_tree(name):
    is_in_tree = any(f"{name}.".startswith(f"{tree}.") for tree in TREES)
    first, *parts = name.split(".")
    return is_in_tree or (first in LIBRARIES and any(map(is_private, parts)))
