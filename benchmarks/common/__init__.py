"""Shared code of the benchmarks: command line, machine, results as JSON, parts in processes."""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any


def command_line(description: str) -> argparse.ArgumentParser:
    """A parser of the command line, whose help keeps the lines of the description."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def arguments_of_parts(description: str, parts: Mapping[str, Callable], steps: int) -> dict:
    """The arguments of the command line of a benchmark in parts, as `run_parts` takes them."""
    parser = command_line(description)
    parser.add_argument("--parts", default=",".join(parts), help="which, with commas")
    parser.add_argument("--steps", type=int, default=steps, help="of each part")
    return vars(parser.parse_args())


def conditions(*others: str) -> tuple[str, dict[str, str]]:
    """The machine, and the versions of Keras, its backend and other packages."""
    import keras  # The first import sets the backend, which a benchmark may choose before.

    machine = f"{os.cpu_count()} CPU cores, {platform.machine()}"
    names = dict.fromkeys(("keras", keras.backend.backend(), *others))
    return machine, {name: metadata.version(name) for name in names}


def write_json(out: str | Path | None, name: str, document: Mapping[str, Any]) -> None:
    """Writes results to a file of a folder, if one is given."""
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(document, indent=2))


def run_parts(script: str, parts: Mapping[str, Callable], names: str, steps: int) -> None:
    """Runs each part in a separate process, because a process has only one peak of memory.

    Args:
        script: Path of the benchmark.
        parts: Dict from names to functions of the number of steps.
        names: Which of them, with commas.
        steps: Integer.
    """
    chosen = names.split(",")
    if len(chosen) == 1:
        parts[chosen[0]](steps)
        return
    for name in chosen:
        subprocess.run([sys.executable, script, "--parts", name, "--steps", str(steps)], check=True)
