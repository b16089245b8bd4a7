"""Runs tests with the oldest and newest releases that setup.cfg allows, and with Keras' nightly.

    python tests/versions.py                                  # a subset, on each Python there is
    python tests/versions.py --pythons python3.10 -- tests    # all tests, on one

Each pair of interpreter and releases has its own virtual environment in `outputs/versions`.
"oldest" runs with the first interpreter, "newest" with each, and "nightly", the newest releases
with the nightly build of Keras, with the last.
"""

import argparse
import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ["python3.10", "python3.11", "python3.12", "python3.13"]
# What meets Keras, TensorFlow and the extras: seams, saving, each public example, the figures.
SUBSET = ["architecture", "seams", "fit_hook", "compile_seam", "docstrings"]
SUBSET += ["visualization", "site"]
SHOWN = "tensorflow", "keras", "tensorflow-probability", "keras-tuner", "numpy"
VERSION = "from importlib.metadata import version; print(*map(version, {!r}))"
# A folder of the environment that comes before its packages.
NIGHTLY = "keras-nightly"


def oldest_releases() -> list[str]:
    """A constraint for each requirement of setup.cfg with a lower bound: the bound itself."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"]
    listed = [config["options"]["install_requires"]]
    listed += [extras[name] for name in ("data", "plots", "sklearn", "inference")]
    bound = re.compile(r"^([\w-]+)(?:\[\w+\])?>=([\d.]+)", re.MULTILINE)
    return [f"{name}~={version}.0" for name, version in bound.findall("\n".join(listed))]


def install(python: str, releases: str) -> Path | None:
    """Makes the environment and returns its interpreter, or None where there is no such Python."""
    try:
        subprocess.run([python, "--version"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    folder = ROOT / "outputs" / "versions" / f"{Path(python).name}-{releases}"
    inside = folder / "bin" / "python"
    if not inside.exists():
        subprocess.run([python, "-m", "venv", folder], check=True)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(oldest_releases() if releases == "oldest" else []))
    pip = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "--upgrade", "--constraint", constraints, "--editable", f"{ROOT}[dev]"], check=True
    )
    if releases == "nightly":
        target = folder / NIGHTLY
        subprocess.run(
            [*pip, "--upgrade", "--pre", "--no-deps", "--target", target, NIGHTLY], check=True
        )
    return inside


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pythons", nargs="+", default=PYTHONS, help="interpreters to try")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest instead of the subset")
    arguments = parser.parse_args()
    tests = arguments.pytest or [f"tests/test_{name}.py" for name in SUBSET]
    first, last = arguments.pythons[0], arguments.pythons[-1]
    newest = [(python, "newest") for python in arguments.pythons]
    pairs = [(first, "oldest"), *newest, (last, "nightly")]
    results = []
    for python, releases in pairs:
        inside = install(python, releases)
        if inside is None:
            print(f"{python}, {releases}: no such interpreter, skipped", flush=True)
            continue
        versions = subprocess.run(
            [inside, "-c", VERSION.format(SHOWN)], capture_output=True, text=True, check=True
        ).stdout.split()
        named = ", ".join(f"{name} {version}" for name, version in zip(SHOWN, versions))
        print(f"{python}, {releases}: {named}", flush=True)
        environment = dict(os.environ)
        if releases == "nightly":
            environment["PYTHONPATH"] = str(inside.parents[1] / NIGHTLY)
        command = [inside, "-m", "pytest", "-q", *tests]
        results.append(subprocess.run(command, cwd=ROOT, env=environment).returncode)
    return int(any(results) or not results)


if __name__ == "__main__":
    sys.exit(main())
