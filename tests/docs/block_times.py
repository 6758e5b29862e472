"""Write how long each block of code of the docs takes, to results/code-blocks.csv.

    python tests/docs/block_times.py

The blocks are executed by pytest, as in CI. A block of Python with prompts has the seconds of its
examples, a shell block those of its commands as test_code_blocks.py tries them: options and values
are checked, up to where the work would begin. Of what other tests execute, a row has the seconds of
the whole test file. A block of synopses, or of programs of others, has nothing to try.
"""

import contextlib
import csv
import doctest
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import pytest
from test_code_blocks import EXECUTED, NOT_TRIED, PAGES, ROOT, Block, blocks, commands, name_of

OUT = ROOT / "results" / "code-blocks.csv"


class Row(NamedTuple):
    """A row of the table."""

    page: str
    line: int
    language: str
    executed_by: str
    seconds: float | None


class Times:
    """A plugin of pytest that collects seconds.

    Attributes:
        examples: page and line of an example that doctest found right → seconds.
        commands: page and command line → seconds.
        files: test file → seconds of its tests.
    """

    def __init__(self) -> None:
        self.examples: defaultdict[tuple[Path, int], float] = defaultdict(float)
        self.commands: defaultdict[tuple[str, str], float] = defaultdict(float)
        self.files: defaultdict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def of_examples(self) -> Iterator[None]:
        """Time what every runner of doctest executes."""
        runner: Any = doctest.DocTestRunner
        start, success = runner.report_start, runner.report_success

        def report_start(self: Any, *details: Any) -> None:
            start(self, *details)
            self.started = perf_counter()

        def report_success(of: Any, out: Any, test: Any, example: Any, got: str) -> None:
            line = test.lineno + example.lineno + 1
            self.examples[Path(test.filename), line] += perf_counter() - of.started
            success(of, out, test, example, got)

        runner.report_start, runner.report_success = report_start, report_success
        yield
        runner.report_start, runner.report_success = start, success

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up the seconds of a test, and take those of the commands that it tried."""
        self.files[report.nodeid.split("::")[0]] += report.duration
        page = report.nodeid.partition("[")[2].rstrip("]")
        if report.when == "call":
            for line, seconds in report.user_properties:
                self.commands[page, line] += float(str(seconds))


def row(page: Path, block: Block, times: Times) -> Row:
    """Return what executed a block, and in how many seconds where it ran."""
    name, (line, language, text) = name_of(page), block
    if language == "python" and text.startswith(">>> "):
        here = range(line, line + text.count("\n") + 1)
        seconds = [s for (file, at), s in times.examples.items() if file == page and at in here]
        return Row(name, line, language, "doctest", sum(seconds) if seconds else None)
    if language == "sh":
        tried = [line for line in commands(text) if line.split()[0] not in NOT_TRIED]
        found = [times.commands.get((name, line)) for line in tried]
        whole = None if None in found or not found else sum(filter(None, found))
        return Row(name, line, language, "commands tried" if found else "nothing to try", whole)
    if (name, language) in EXECUTED:
        file = f"tests/{EXECUTED[name, language][0]}"
        return Row(name, line, language, file, times.files.get(file))
    readers = {"bibtex": "tests/docs/test_pages.py", "{eval-rst}": "make docs"}
    return Row(name, line, language, readers[language], None)


def main() -> None:
    """Execute the blocks, and write their seconds."""
    times = Times()
    files = sorted({f"tests/{file}" for file, _ in EXECUTED.values()})
    pages = [str(page.relative_to(ROOT)) for page in PAGES]
    with times.of_examples():
        status = pytest.main(
            [*pages, "tests/docs/test_code_blocks.py", *files, "-q", "-p", "no:randomly"], [times]
        )
    rows = [row(page, block, times) for page in PAGES for block in blocks(page)]
    with OUT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        for found in rows:
            seconds = "" if found.seconds is None else f"{found.seconds:.3f}"
            writer.writerow([*found[:-1], seconds])
    sys.exit(status)


if __name__ == "__main__":
    main()
