"""Every Python block in README and docs runs, every link to a file leads somewhere."""

import re
import subprocess
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"^```python\n(.*?)^```", re.S | re.M)
# Pages whose blocks go on from each other.
STORIES = {"quickstart"}


def blocks(page):
    found = CODE.findall(page.read_text())
    return ["\n".join(found)] if page.stem in STORIES else found


def needs_jax(code):
    return "import jax" in code or "keras.distribution" in code


BLOCKS = [
    pytest.param(
        code,
        id=f"{page.stem}-{number}",
        marks=[pytest.mark.both_backends] if needs_jax(code) else [],
    )
    for page in PAGES
    for number, code in enumerate(blocks(page))
]


@pytest.mark.parametrize("code", BLOCKS)
def test_code_in_the_documentation_runs(code, monkeypatch, tmp_path):
    if needs_jax(code) and keras.backend.backend() != "jax":
        pytest.skip("needs JAX")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "<documentation>", "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    for target in targets:
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_commands_that_are_named_exist():
    targets = (
        "test-all",
        "test-jax",
        "test-versions",
        "example",
        "test",
        "lint",
        "format",
        "bench",
        "docs",
        "dist",
    )
    for target in targets:
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)
