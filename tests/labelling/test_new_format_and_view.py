"""The pages of docs/extending about export formats and page views, followed to the letter."""

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dfal
from dfal.labelling.store.schema import Settings
from dfal.labelling.store.session import Session

pytest.importorskip("fastapi", reason="the page is an extra: pip install 'dfal[label]'")

DOCS = Path(__file__).parents[2] / "docs" / "extending"


def blocks(page: str) -> list[str]:
    """Return the fenced blocks of code of a page."""
    return re.findall(r"^```\w+\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package that a page may change."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(dfal.__file__).parent, tmp_path / "src" / "dfal", ignore=ignored)
    return tmp_path


def add_file(block: str, root: Path) -> None:
    """Write the block into the new file that its first line names."""
    path, text = split(block, root)
    assert not path.exists()
    path.write_text(text)


def add_lines(block: str, root: Path, begin: str, end: str) -> None:
    """Put the block's last line at the end of a list, and the lines before it above the list.

    Args:
        block: its first line names the file.
        root: of the copied package.
        begin: the list's first line.
        end: the list's last line.
    """
    path, text = split(block, root)
    *head, line = text.splitlines(keepends=True)
    before, list_begin, rest = path.read_text().partition(begin)
    entries, list_end, after = rest.partition(end)
    assert list_begin
    assert list_end
    path.write_text(before + "".join(head) + list_begin + entries + line + list_end + after)


def split(block: str, root: Path) -> tuple[Path, str]:
    first, _, text = block.partition("\n")
    return root / first.split(maxsplit=1)[1], text


def test_the_page_about_export_formats_suffices(copy: Path) -> None:
    file, line, check = blocks("export-format.md")
    add_file(file, copy)
    add_lines(line, copy, "FORMATS: ", "    },\n")
    run = functools.partial(
        subprocess.run,
        env=os.environ | {"PYTHONPATH": str(copy / "src")},
        cwd=copy,
        check=True,
        capture_output=True,
        text=True,
    )
    run([sys.executable, "-c", check])
    store = copy / "photos.labels.db"
    Session.start(store, Settings(), ["a.png"], ["cat"], {"a.png": "cat"}).close()
    command = [sys.executable, "-m", "dfal", "export"]
    run([*command, store.name, "--format", "json-lines"])
    assert '"label": "cat"' in (copy / "photos.labels.jsonl").read_text()
    assert "one JSON object per label" in re.sub(r"\s+", " ", run([*command, "--help"]).stdout)


def test_the_page_about_views_suffices(copy: Path, stub: Any) -> None:
    file, lines, test = blocks("page-view.md")
    add_file(file, copy)
    add_lines(lines, copy, "export const VIEWS = [\n", "];\n")
    page = copy / "src" / "dfal" / "labelling" / "web" / "page"
    namespace: dict[str, Any] = {}
    exec(test, namespace)
    namespace["test_counts_are_listed"](functools.partial(stub, files=page))
