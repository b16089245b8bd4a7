"""The browser of the tests sees what is wrong with a page."""

import pytest
from browser import DESKTOP, PHONE

VIEWPORT = '<meta name="viewport" content="width=device-width">'
DARK = "matchMedia('(prefers-color-scheme: dark)').matches"


def page(folder, body, head=VIEWPORT):
    path = folder / "page.html"
    path.write_text(f"<!doctype html><html><head>{head}</head><body>{body}</body></html>")
    return path.as_uri()


def test_a_sound_page_has_no_faults(browser, tmp_path):
    url = page(tmp_path, "<p>sound</p>" * 100)
    for width in (PHONE, DESKTOP):
        for dark in (False, True):
            browser.open(url, width, dark=dark)
            assert browser.evaluate(DARK) is dark
            assert browser.overflow() <= 0
            assert browser.errors == []
    browser.prefer(dark=False)
    assert browser.evaluate(DARK) is False
    browser.screenshot(tmp_path / "page.png", whole=True)
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("body", "head"),
    [("<div style='width: 500px'>wide</div>", VIEWPORT), ("<p>made for a desktop</p>", "")],
)
def test_a_page_too_wide_for_a_phone_is_seen(browser, tmp_path, body, head):
    browser.open(page(tmp_path, body, head), PHONE)
    assert browser.overflow() > 100


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<script>console.error('spoken')</script>", "spoken"),
        ("<script>nobody.knows()</script>", "nobody is not defined"),
        ("<img src='absent.png'>", "absent.png"),
    ],
)
def test_what_goes_wrong_in_a_page_is_seen(browser, tmp_path, body, said):
    browser.open(page(tmp_path, body), PHONE)
    assert any(said in error for error in browser.errors)
    browser.open(page(tmp_path, "<p>sound</p>"), PHONE)
    assert browser.errors == []


def test_failures_are_told(browser, tmp_path):
    with pytest.raises(RuntimeError, match="does not load"):
        browser.open((tmp_path / "absent.html").as_uri())
    with pytest.raises(RuntimeError, match="failed"):
        browser.evaluate("nobody.knows()")
