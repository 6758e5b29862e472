"""A browser for the tests of the page, and the page in front of a stub of its server."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, which playwright drives.

    It lives for one module: while it does, an event loop runs, and no other can be started.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    chromium = next((path for name in CHROMIUMS if (path := shutil.which(name))), None)
    if chromium is None:
        pytest.skip("there is no chromium: make debian")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def stub(browser: Any) -> Iterator[Any]:
    """Make stubbed pages, of which the browser must have nothing to complain."""
    from stubbed import Stubbed

    opened: list[Stubbed] = []

    def make(*classes: str, **properties: Any) -> Stubbed:
        opened.append(Stubbed(browser, list(classes), **properties))
        return opened[-1]

    yield make
    for stubbed in opened:
        stubbed.page.unroute_all(behavior="ignoreErrors")
        stubbed.page.close()
        assert stubbed.errors == []
