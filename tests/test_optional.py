"""What an extra brings is imported in one way; where it is missing the error says how to get it."""

import ast
import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

from test_architecture import imported_names, python_files

ROOT = Path(__file__).resolve().parents[1]
PROJECTS = {"sklearn": "scikit-learn"}  # whose name is not that of the library


def calls():
    """File, module and extra of each call of `import_optional` in the package."""
    for path in python_files(ROOT / "keras_extras"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "import_optional":
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                module, extra = [*node.args, given.get("extra")][:2]
                yield path.name, ast.literal_eval(module), ast.literal_eval(extra)


def libraries_of_extras():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = config["options.extras_require"]
    return {
        extra: set(re.findall(r"^[\w-]+", text, re.MULTILINE)) for extra, text in listed.items()
    }


def test_each_optional_import_names_the_extra_that_brings_it():
    brought = libraries_of_extras()
    found = [(file, module.partition(".")[0], extra) for file, module, extra in calls()]
    assert {extra for _, _, extra in found} == {"data", "inference", "plots", "sklearn"}
    wrong = [
        call for call in found if PROJECTS.get(call[1], call[1]) not in brought.get(call[2], ())
    ]
    assert wrong == []


def test_optional_libraries_are_imported_in_no_other_way():
    optional = {module.partition(".")[0] for _, module, _ in calls()}
    direct = {
        path.name: names
        for path in python_files(ROOT / "keras_extras")
        if (names := optional & {n.partition(".")[0] for n in imported_names(path.read_text(), "")})
    }
    assert direct == {}


WITHOUT = """
import sys

sys.modules.update(dict.fromkeys(["arviz", "matplotlib", "pandas", "sklearn"]))
import keras
import numpy as np
import keras_extras
from keras_extras import inference, pipelines, visualization

model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
draws = [np.zeros((1, 8, *variable.shape)) for variable in model.trainable_variables]
posterior = inference.Posterior(model, draws)
for use in (
    lambda: visualization.plot_history({"a": {"loss": [1.0, 0.5]}}),
    lambda: keras_extras.datasets.higgs.load_events("events.csv"),
    lambda: pipelines.ProbabilisticRegressor(),
    lambda: posterior.summary(),
    lambda: posterior.to_arviz(),
):
    try:
        use()
        print("no error")
    except ImportError as error:
        print(error)
"""


def test_what_is_missing_is_said_with_the_command_that_installs_it(tmp_path):
    (tmp_path / "events.csv").touch()
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    libraries = ["matplotlib", "pandas", "sklearn", "arviz", "arviz"]
    extras = ["plots", "data", "sklearn", "inference", "inference"]
    for line, library, extra in zip(said, libraries, extras, strict=True):
        assert f"needs {library}, which is not installed" in line
        assert line.endswith(f'Run: pip install "keras-extras[{extra}]"')
