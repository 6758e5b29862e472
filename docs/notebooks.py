"""Make notebooks from the pages whose examples the tests execute.

    python docs/notebooks.py FOLDER

`make docs` does it for the site, where such a page has a link to its notebook. A notebook has the
page's text, its examples in the same order, and the results that the tests compare with.
"""

import doctest
import json
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent

EXAMPLE = re.compile(r"^```python\n(>>> .*?)^```\n", re.MULTILINE | re.DOTALL)
"""A block whose lines begin with a prompt: doctest runs those, and no others."""


def pages() -> dict[str, Path]:
    """Return the pages that have examples, by their names."""
    return {
        page.stem: page for page in sorted(DOCS.glob("*.md")) if EXAMPLE.search(page.read_text())
    }


def notebook(page: Path) -> dict[str, Any]:
    """Return a page as a notebook, as nbformat 4.5 has it."""
    cells: list[dict[str, Any]] = []
    for number, part in enumerate(EXAMPLE.split(page.read_text())):
        cells += _code(part) if number % 2 else [_markdown(part)]
    kept = [cell for cell in cells if cell["source"]]
    return {
        "cells": [{"id": f"cell-{number}", **cell} for number, cell in enumerate(kept)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _markdown(text: str) -> dict[str, Any]:
    """Return a cell of text, without pictures and links of the site, which a download lacks."""
    text = re.sub(r"!\[([^\]]*)\]\((?!https?:)[^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", text)
    return {"cell_type": "markdown", "metadata": {}, "source": text.strip()}


def _code(block: str) -> list[dict[str, Any]]:
    """Return the cells of a block: one ends where there is a result, which it then has."""
    cells, source = [], ""
    for example in doctest.DocTestParser().get_examples(block):
        source += example.source
        if example.want:
            cells.append(_cell(source, example))
            source = ""
    return [*cells, _cell(source)]


def _cell(source: str, example: doctest.Example | None = None) -> dict[str, Any]:
    outputs, metadata = list[dict[str, Any]](), dict[str, Any]()
    if example is not None and example.exc_msg is not None:
        metadata["tags"] = ["raises-exception"]  # a run of all cells goes on after it
    elif example is not None:
        outputs.append({"name": "stdout", "output_type": "stream", "text": example.want})
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": metadata,
        "outputs": outputs,
        "source": source.rstrip("\n"),
    }


def write(folder: Path) -> list[Path]:
    """Write the notebook of every page that has examples."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / f"{name}.ipynb": notebook(page) for name, page in pages().items()}
    for file, made in files.items():
        text = json.dumps(made, ensure_ascii=False, indent=1)
        file.write_text(text + "\n", encoding="utf-8")
    return list(files)


if __name__ == "__main__":
    for file in write(Path(sys.argv[1])):
        print(file)
