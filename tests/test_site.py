"""The site builds without a warning, links lead somewhere, and the API lists each public name."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_docstrings import public_objects

pytest.importorskip("mkdocs", reason='needs pip install -e ".[docs]"')

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the built site; links and anchors are checked by mkdocs itself."""
    folder = tmp_path_factory.mktemp("site")
    process = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert "WARNING -" not in process.stderr
    return folder


def test_the_api_lists_each_public_name(site):
    pages = "".join(page.read_text() for page in (site / "api").glob("*.html"))
    names = [
        name
        for name, value in public_objects().items()
        if inspect.isclass(value) or (inspect.isfunction(value) and name.count(".") < 3)
    ]
    assert len(names) > 100
    missing = [name for name in names if f'id="{name}"' not in pages]
    assert not missing


def test_every_script_has_a_page(site):
    for folder in ("examples", "benchmarks"):
        for script in (ROOT / folder).glob("*.py"):
            assert (site / folder / f"{script.stem}.html").exists(), script
            assert f"{script.stem}.html" in (site / folder / "index.html").read_text()


def test_nothing_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text()
        for tag in ('<script src="http', 'rel="stylesheet" href="http', '<img src="http'):
            assert tag not in text, page
