"""The site that `make docs` builds from the pages of docs/ and the docstrings."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dfal

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

pytest.importorskip("sphinx", reason="pip install --group docs")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning is an error."""
    out = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-b", "html", "--fail-on-warning", "--quiet"]
    done = subprocess.run(
        [*build, str(DOCS), str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_is_in_the_sidebar(site: Path) -> None:
    start = (site / "index.html").read_text()
    links = set(re.findall(r'<li class="toctree-l\d[^"]*"><a class="[^"]*" href="([^"]+)">', start))
    pages = {page.relative_to(DOCS).with_suffix(".html").as_posix() for page in DOCS.rglob("*.md")}
    assert pages - links == {"index.html"}


def test_every_public_name_is_in_the_reference_once() -> None:
    directives = re.findall(r"^\.\. auto\w+:: dfal\.(\w+)$", (DOCS / "api.md").read_text(), re.M)
    assert sorted(directives) == sorted(dfal.__all__)


def test_the_reference_has_text_and_settings_of_the_docstrings(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "api.html").read_text())
    assert "Query the k candidates with the smallest ‖r‖_p" in text
    assert "overshoot – η, the fraction by which the boundary is overstepped" in text
    assert "The label of an image that was not queried yet." in text
    assert "Call self as a function" not in text


def test_links_lead_to_pages_anchors_and_copies_of_other_files(site: Path) -> None:
    ids: dict[Path, set[str]] = {}
    for page in site.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"?]+)"', page.read_text()):
            path, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", path):
                continue
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), (page.name, link)
            if anchor and target not in ids:
                ids[target] = set(re.findall(r'\bid="([^"]+)"', target.read_text()))
            assert not anchor or anchor in ids[target], (page.name, link)


def test_every_page_says_which_version_it_describes(site: Path) -> None:
    for page in [site / "index.html", site / "extending" / "strategy.html"]:
        assert (
            f'<span class="sidebar-brand-text">dfal {dfal.__version__}</span>' in page.read_text()
        )


def test_pages_with_examples_lead_to_their_notebooks(site: Path) -> None:
    made = {file.stem for file in (site / "notebooks").glob("*.ipynb")}
    link = 'href="notebooks/{}.ipynb" download'
    linked = {
        page.stem for page in site.glob("*.html") if link.format(page.stem) in page.read_text()
    }
    assert made == linked
    assert "python" in made


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_pages_request_nothing_from_elsewhere_fit_and_are_accessible(
    site: Path, browser: Any, scheme: str, width: int
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    page = context.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    for name in ("index", "how-dfal-works", "gallery", "own-strategy", "api", "extending/strategy"):
        page.goto((site / f"{name}.html").as_uri())
        violations = Axe().run(page).response["violations"]
        serious = [
            (one["id"], one["nodes"][0]["html"])
            for one in violations
            if one["impact"] in {"serious", "critical"}
        ]
        assert serious == [], name
        overflow = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, name
    assert [url for url in requested if not url.startswith(("file:", "data:"))] == []
    context.close()


def test_the_search_finds_a_page_without_a_server(site: Path, browser: Any) -> None:
    page = browser.new_page()
    page.goto((site / "search.html").as_uri() + "?q=overshoot")
    page.wait_for_selector("#search-results li a")
    found = page.locator("#search-results li a").all_text_contents()
    assert any("DeepFool" in text or "Query strategies" in text for text in found), found
    page.close()
