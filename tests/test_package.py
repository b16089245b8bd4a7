"""The wheel holds the package and runs, the sdist holds all that is needed to work on it."""

import os
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "mkdocs.yml")
FOLDERS = ("benchmarks", "docs", "examples", "keras_extras", "tests")
EXTRAS = {"data", "dev", "docs", "inference", "peers", "plots", "sklearn"}
# What setup.cfg and pyproject.toml ask of the tools that build; elsewhere `build` fetches them.
pytest.importorskip("build", reason='needs pip install -e ".[dev]"')
if int(version("setuptools").split(".")[0]) < 77:
    pytest.skip('needs pip install -e ".[dev]"', allow_module_level=True)


def run(*arguments, cwd, **environment):
    process = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    return process.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the wheel, made from the sdist, and the sdist unpacked."""
    folder = tmp_path_factory.mktemp("dist")
    run("-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(
            folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
        )
    return folder


def files_below(folder):
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_sdist_holds_what_the_repository_holds(built):
    sdist = next(path for path in built.iterdir() if path.is_dir())
    expected = {f"{name}/{path}" for name in FOLDERS for path in files_below(ROOT / name)}
    assert len(expected) > 300
    assert expected.union(FILES) - files_below(sdist) == set()


def test_the_wheel_holds_the_package_and_nothing_else(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(next(n for n in names if n.endswith("METADATA"))).decode()
    package = {f"keras_extras/{path}" for path in files_below(ROOT / "keras_extras")}
    assert "keras_extras/py.typed" in package
    assert {name for name in names if ".dist-info/" not in name} == package
    provided = [line.split()[1] for line in metadata.splitlines() if line.startswith("Provides-Ex")]
    assert set(provided) >= EXTRAS
    assert "\n# keras-extras\n" in metadata  # the README


def test_an_example_runs_with_the_installed_wheel(built):
    installed = built / "installed"
    wheel = next(built.glob("*.whl"))
    pip = ("-m", "pip", "install", "--quiet", "--no-index", "--no-deps")
    run(*pip, "--target", installed, wheel, cwd=built)
    path = {"PYTHONPATH": str(installed)}
    where = run("-c", "import keras_extras; print(keras_extras.__file__)", cwd=built, **path)
    assert Path(where.strip()).is_relative_to(installed)
    script = next(built.glob("*/examples/learn_the_schedule.py"))
    run(script, "--fast", "--out", built / "figures", cwd=built, **path)
    assert list((built / "figures").glob("*.png"))
