"""The site builds without a warning, links lead somewhere, and the API lists each public name."""

import functools
import http.server
import inspect
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from browser import DESKTOP, PHONE
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


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Says nothing."""


@pytest.fixture(scope="session")
def address(site):
    """Where the site is served; its search does not work from the disk."""
    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


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


@pytest.mark.slow
def test_pages_fit_a_phone_and_complain_of_nothing(site, address, browser):
    pages = [page.relative_to(site).as_posix() for page in sorted(site.rglob("*.html"))]
    assert len(pages) > 50
    faults = {}
    for page in pages:
        browser.open(f"{address}/{page}", PHONE)
        found = [browser.overflow()]
        browser.prefer(dark=True)
        found.append(browser.overflow())
        if max(found) > 0 or browser.errors:
            faults[page] = (found, list(browser.errors))
    assert faults == {}


SCHEME = "document.body.dataset.mdColorScheme"


def test_pages_are_dark_where_the_device_is(address, browser):
    for dark, scheme in ((False, "default"), (True, "slate")):
        browser.open(f"{address}/index.html", DESKTOP, dark=dark)
        assert browser.evaluate(SCHEME) == scheme
        assert browser.overflow() <= 0


SEARCH = """new Promise((resolve) => {
  const field = document.querySelector("input.md-search__input");
  field.focus();
  field.value = "antithetic";
  field.dispatchEvent(new Event("input", {bubbles: true}));
  field.dispatchEvent(new KeyboardEvent("keyup", {bubbles: true}));
  const found = () => document.querySelectorAll(".md-search-result__item").length;
  const wait = (left) => found() || !left ? resolve(found()) : setTimeout(wait, 100, left - 1);
  wait(300);
})"""


def test_the_search_finds(address, browser):
    browser.open(f"{address}/index.html", DESKTOP)
    assert browser.evaluate(SEARCH) > 0
