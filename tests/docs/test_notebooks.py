"""Notebooks hold the examples of their pages, which the tests of the pages execute."""

import ast
import doctest
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks", DOCS / "notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = _script()
PAGES: dict[str, Path] = SCRIPT.pages()


def test_every_page_with_examples_is_a_notebook() -> None:
    prompts = {page.stem for page in DOCS.glob("*.md") if ">>> " in page.read_text()}
    assert set(PAGES) == prompts
    assert {"data", "how-dfal-works", "labelling", "learning", "python", "store"} <= prompts


def test_every_step_of_the_start_page_is_a_notebook() -> None:
    start = (DOCS / "index.md").read_text().split("\n## Step by step\n")[1].split("\n## ")[0]
    steps = re.findall(r"^\d+\. \[.*?\]\(([\w-]+)\.md\)", start, re.M)
    assert len(steps) == 10
    assert set(steps) <= set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_notebook_has_all_examples_of_its_page_in_order(name: str) -> None:
    made = SCRIPT.notebook(PAGES[name])
    code = [cell for cell in made["cells"] if cell["cell_type"] == "code"]
    examples = doctest.DocTestParser().get_examples(PAGES[name].read_text())
    written = "".join(cell["source"] + "\n" for cell in code)
    assert written == "".join(example.source for example in examples)
    outputs = ["".join(output["text"] for output in cell["outputs"]) for cell in code]
    wanted = [
        one.want.replace("\n\n```\n", "\n") for one in examples if one.want and not one.exc_msg
    ]
    assert [output for output in outputs if output] == wanted
    assert sum("tags" in cell["metadata"] for cell in code) == sum(
        one.exc_msg is not None for one in examples
    )
    for cell in code:
        ast.parse(cell["source"])
        assert cell["execution_count"] is None


@pytest.mark.parametrize("name", PAGES)
def test_a_result_is_shown_by_jupyter_too(name: str) -> None:
    """Jupyter shows the value of a cell's last line only where that stands in no block."""
    for cell in SCRIPT.notebook(PAGES[name])["cells"]:
        if cell["cell_type"] == "code" and cell["outputs"]:
            last = ast.parse(cell["source"]).body[-1]
            assert isinstance(last, ast.Expr) or "print(" in ast.unparse(last), cell["source"]


@pytest.mark.parametrize("name", PAGES)
def test_the_text_of_a_notebook_is_complete_without_the_site(name: str) -> None:
    made = SCRIPT.notebook(PAGES[name])
    text = "\n".join(cell["source"] for cell in made["cells"] if cell["cell_type"] == "markdown")
    assert text.startswith("# ")
    assert re.findall(r"^#+ .*$", text, re.M) == re.findall(
        r"^#+ .*$", SCRIPT.EXAMPLE.sub("", PAGES[name].read_text()), re.M
    )
    assert not re.search(r"\]\((?!https?:)", text)
    assert all(cell["source"] for cell in made["cells"])


def test_files_are_notebooks_of_format_4_5(tmp_path: Path) -> None:
    files = SCRIPT.write(tmp_path / "new")
    assert [file.stem for file in files] == list(PAGES)
    for file in files:
        made = json.loads(file.read_text(encoding="utf-8"))
        assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)
        ids = [cell["id"] for cell in made["cells"]]
        assert len(set(ids)) == len(ids)
        keys = {"code": {"execution_count", "outputs"}, "markdown": set[str]()}
        for cell in made["cells"]:
            assert set(cell) == {"id", "cell_type", "metadata", "source"} | keys[cell["cell_type"]]
