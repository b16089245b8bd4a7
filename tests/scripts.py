"""Examples and benchmarks, which are scripts: what they hold as modules, and their help."""

import importlib.util
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import keras
import pytest

ROOT = Path(__file__).resolve().parents[1]
# As Python does for a script: benchmarks import what they share.
sys.path.append(str(ROOT / "benchmarks"))


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def help_of(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> str:
    """Returns the output of the script for `--help`; it may choose another backend."""
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert end.value.code == 0
    return capsys.readouterr().out


def output_of(program: str) -> str:
    """Returns the output of a program, run in a separate process without a GPU."""
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert not result.returncode, result.stderr[-3000:]
    return result.stdout
