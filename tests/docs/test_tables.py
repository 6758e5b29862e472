"""Tables of the docs that are made from the code."""

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import dfal
from dfal.strategies import STRATEGIES

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    """The script that writes them."""
    spec = importlib.util.spec_from_file_location("tables", DOCS / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_table_is_stale() -> None:
    """`python docs/tables.py` mends it."""
    check = [sys.executable, str(DOCS / "tables.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_a_changed_table_is_written_anew(tables: ModuleType) -> None:
    text = (DOCS / "strategies.md").read_text()
    broken = text.replace("| `margin` | `Margin` |", "| `margins` |")
    assert broken != text
    assert tables.with_tables("strategies.md", broken) == text
    with pytest.raises(SystemExit, match="has no <!-- table: strategy names -->"):
        tables.with_tables("strategies.md", "")


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_page_has_every_strategy_its_class_and_its_settings(name: str) -> None:
    text = (DOCS / "strategies.md").read_text()
    strategy = STRATEGIES[name]
    assert f"| `{name}` |" in text
    assert f"`{type(strategy).__name__}`" in text
    assert dataclasses.is_dataclass(strategy)
    for field in dataclasses.fields(strategy):
        assert f"| `{field.name}` |" in text


@pytest.mark.parametrize("name", STRATEGIES)
def test_docstrings_have_source_cost_and_settings(tables: ModuleType, name: str) -> None:
    kind = type(STRATEGIES[name])
    assert tables.section(kind, "Source")
    assert tables.section(kind, "Cost")
    assert all(tables.settings(kind).values()), tables.settings(kind)


def test_sections_and_settings_of_a_docstring(tables: ModuleType) -> None:
    assert tables.section(dfal.CoreSet, "Memory") == "the features"
    assert tables.section(dfal.CoreSet, "Cost").endswith("K · (|L| + k) distances at most")
    assert tables.settings(dfal.BALD)["candidates"].startswith("K, how many images of U")
    assert tables.settings(dfal.DFAL)["exact"].endswith("always measure to the end")
    assert tables.markdown([["a", "b"], ["|x|", "y"]]) == "| a | b |\n|---|---|\n| \\|x\\| | y |"
