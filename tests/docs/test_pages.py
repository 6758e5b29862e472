"""Pages that must agree with something else: how to cite, the glossary."""

import re
from pathlib import Path

import dfal

ROOT = Path(__file__).parents[2]


def test_the_citation_is_that_of_this_version_everywhere() -> None:
    page = (ROOT / "docs" / "cite.md").read_text()
    file = (ROOT / "CITATION.cff").read_text()
    assert f"version = {{{dfal.__version__}}}" in page
    assert f"\nversion: {dfal.__version__}\n" in file
    assert "arXiv:1802.09841" in page
    assert "arXiv:1802.09841" in file


def test_the_paper_is_cited_in_the_same_words_in_the_readme() -> None:
    entry = re.compile(r"@article\{ducoffe2018adversarial,.*?\n\}", re.S)
    texts = [(ROOT / page).read_text() for page in ("README.md", "docs/cite.md")]
    readme, page = (entry.search(text) for text in texts)
    assert readme is not None
    assert page is not None
    assert readme[0] == page[0]


def test_the_glossary_is_in_alphabetical_order() -> None:
    rows = re.findall(
        r"^\| ([^|]+) \| [^|]+ \|$", (ROOT / "docs" / "glossary.md").read_text(), re.M
    )
    words = [row.casefold().replace("-", "") for row in rows if row not in {"word", "---"}]
    assert len(words) > 30
    assert words == sorted(words)
