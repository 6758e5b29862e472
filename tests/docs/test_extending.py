"""The pages of docs/extending, followed to the letter in a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dfal

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "extending"
REGISTRIES = {
    "strategy.md": "STRATEGIES",
    "attack.md": "ATTACKS",
    "network.md": "NETWORKS",
    "backbone.md": "BACKBONES",
    "data-set.md": "DATASETS",
    "source.md": "SOURCES",
    "executor.md": "EXECUTORS",
}
"""Pages by the list that they add a line to."""


def blocks(page: str) -> list[str]:
    """Return the blocks of Python of a page."""
    return re.findall(r"^```python\n(.*?)^```", (PAGES / page).read_text(), re.M | re.S)


def follow(page: str, root: Path) -> str:
    """Do what a page says in the package at `root`/src, and return its block that checks it."""
    file, line, check = blocks(page)
    path = _path_of(file, root)
    assert not path.exists()
    path.write_text(file.partition("\n")[2])
    package, entry = _path_of(line, root), line.partition("\n")[2]
    text = package.read_text()
    head, listed, rest = text.partition(f"\n{REGISTRIES[page]}")
    assert listed, f"there is no list {REGISTRIES[page]} in {package}"
    entries, closed, after = rest.partition("\n    },\n")
    assert closed
    package.write_text(f"{head}{listed}{entries}\n{entry.rstrip()}{closed}{after}")
    return check


def _path_of(block: str, root: Path) -> Path:
    """Return the path in the first line of a block."""
    match = re.match(r"# (src/dfal/[\w/]+\.py)\n", block)
    assert match is not None, block
    return root / match[1]


@pytest.mark.parametrize("page", REGISTRIES)
def test_a_page_alone_suffices(page: str, tmp_path: Path) -> None:
    shutil.copytree(
        Path(dfal.__file__).parent,
        tmp_path / "src" / "dfal",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    check = follow(page, tmp_path)
    name = re.search(r'"([\w-]+)": (?:Entry|Form)', blocks(page)[1])
    assert name is not None
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run(
        [sys.executable, "-c", check],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    listing = {"strategy.md": "strategies", "data-set.md": "data"}.get(page)
    if listing:
        command = [sys.executable, "-m", "dfal", listing]
        listed = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
        ).stdout
        assert name[1] in listed


@pytest.mark.parametrize("page", REGISTRIES)
def test_the_overview_links_each_page(page: str) -> None:
    overview = (PAGES / "README.md").read_text()
    assert f"({page})" in overview
    assert f".{REGISTRIES[page]}`" in overview
