"""docs/architecture.md and its picture say what the code is."""

import json
import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def drawing() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "architecture.py"))


@pytest.fixture(scope="module")
def architecture(drawing: dict[str, Any]) -> Any:
    return drawing["read"]()


def test_the_picture_has_the_packages_and_arrows_of_the_code(
    drawing: dict[str, Any], architecture: Any
) -> None:
    picture = (DOCS / "pictures" / "architecture.svg").read_text()
    assert picture == drawing["draw"](architecture), "make picture"
    assert picture.count('class="arrow"') == len(architecture.drawn)
    assert picture.count('class="box"') == len(architecture.imports)


def test_every_arrow_points_down_and_there_is_no_circle(architecture: Any) -> None:
    row = {name: i for i, layer in enumerate(architecture.layers) for name in layer}
    assert set(row) == set(architecture.imports)
    assert [(a, b) for a, b in architecture.arrows if row[a] >= row[b]] == []
    assert architecture.circles == []


def test_an_arrow_is_left_out_only_where_others_imply_it(architecture: Any) -> None:
    below: dict[str, set[str]] = {name: set() for name in architecture.imports}
    for layer in reversed(architecture.layers):
        for name in layer:
            for a, b in architecture.drawn:
                if a == name:
                    below[a] |= {b} | below[b]
    assert all(b in below[a] for a, b in architecture.arrows)


def test_the_page_says_a_line_of_every_package(drawing: dict[str, Any], architecture: Any) -> None:
    assert set(drawing["abouts"]()) == set(architecture.imports)
    text = (DOCS / "architecture.md").read_text()
    for path in re.findall(r"^\| `(\w+(?:/|\.py))` \|", text, re.MULTILINE):
        assert (ROOT / "src" / "dfal" / path).exists(), path


def test_circles_are_found(drawing: dict[str, Any]) -> None:
    imports = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert drawing["circles"](imports) == [{"a", "b", "c"}]


def test_the_page_justifies_every_dependency_and_no_other() -> None:
    written = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, groups = written["project"], written["dependency-groups"]
    required = [*project["dependencies"], *written["build-system"]["requires"]]
    for group in (*project["optional-dependencies"].values(), *groups.values()):
        required += [requirement for requirement in group if isinstance(requirement, str)]
    names = {re.split(r"[\s<>=!~\[;]", requirement)[0] for requirement in required}
    tools = json.loads((ROOT / "package.json").read_text())["devDependencies"]
    names |= {name.split("/")[-1] for name in tools}
    section = (DOCS / "architecture.md").read_text().split("\n## Dependencies\n")[1]
    table = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE)
    justified = {name for cell, _ in table for name in re.findall(r"[\w-]+", cell) if name != "---"}
    others = " ".join(why for _, why in table)
    extras = {*project["optional-dependencies"], *groups}
    assert justified - extras - names == set()
    assert {name for name in names - justified if name not in others} == set()
