"""Execute the notebooks of the docs in Jupyter, and write what came out to results/notebooks.csv.

    python docs/run_notebooks.py [NAME...]

`make notebooks` calls it with Jupyter on the path. Each notebook runs in an empty folder, as for
somebody who has downloaded it; the result of every cell is compared with the one on its page, as
doctest compares. The table has a row for each notebook: its cells, how many have another result,
and its seconds.
"""

import csv
import doctest
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import notebooks

OUT = Path(__file__).resolve().parents[1] / "results" / "notebooks.csv"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
"""Those of the tests, in pyproject.toml."""
CELL_SECONDS = 600


def wanted(cell: Any) -> str:
    """Return the result that a cell has on its page."""
    return "".join(output["text"] for output in cell["outputs"])


def printed(cell: Any) -> str:
    """Return what a cell that was executed printed, and the value of its last line."""
    text = ""
    for output in cell["outputs"]:
        if output["output_type"] == "stream" and output["name"] == "stdout":
            text += output["text"]
        elif output["output_type"] in {"execute_result", "display_data"}:
            text += output["data"]["text/plain"] + "\n"
    return text


def differences(before: Any, after: Any) -> list[str]:
    """Return a description of each cell whose result is not that of the page."""
    check = doctest.OutputChecker().check_output
    found = []
    for expected, executed in zip(before["cells"], after["cells"], strict=True):
        if expected["cell_type"] != "code":
            continue
        want, got = wanted(expected), printed(executed)
        failed = any(output["output_type"] == "error" for output in executed["outputs"])
        meant = "raises-exception" in expected["metadata"].get("tags", [])
        if failed != meant or not (meant or check(want, got, FLAGS)):
            found.append(f"{expected['source']}\n--- expected\n{want}--- got\n{got}")
    return found


def execute(page: Path) -> tuple[int, list[str], float]:
    """Execute a page's notebook, and return its cells of code, differences and seconds."""
    import nbformat  # both come with Jupyter, which the tests do without
    from nbclient import NotebookClient

    before = notebooks.notebook(page)
    after = nbformat.from_dict(before)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            after,
            timeout=CELL_SECONDS,
            kernel_name="python3",
            allow_errors=True,
            resources={"metadata": {"path": folder}},
        )
        start = time.perf_counter()
        client.execute()
        seconds = time.perf_counter() - start
    cells = sum(cell["cell_type"] == "code" for cell in before["cells"])
    return cells, differences(notebooks.notebook(page), after), seconds


def main(names: list[str]) -> None:
    """Execute notebooks, all or those named, and leave with 1 where one differs."""
    rows, different = [], 0
    pages = notebooks.pages()
    for name in names or pages:
        cells, found, seconds = execute(pages[name])
        rows.append((name, cells, len(found), f"{seconds:.1f}"))
        different += len(found)
        print(*rows[-1], *found, sep="\n" if found else "\t", flush=True)
    if not names:
        with OUT.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("notebook", "cells", "different", "seconds"))
            writer.writerows(rows)
    sys.exit(min(different, 1))


if __name__ == "__main__":
    main(sys.argv[1:])
