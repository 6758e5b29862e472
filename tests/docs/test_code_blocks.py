"""Every block of code in README.md and docs/ is executed by a test, or its commands are tried.

A block of Python whose lines have prompts is a doctest. Other tests execute some others, which
`EXECUTED` counts. Of a shell block each command line is given to the program that it names: dfal
takes its options and checks their values, up to where it would begin to work; a script parses them.
`python tests/docs/block_times.py` writes how long each block takes.
"""

import argparse
import contextlib
import importlib
import os
import re
import runpy
import shlex
import sqlite3
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, NoReturn
from unittest.mock import MagicMock

import click
import pytest
from PIL import Image

from dfal.cli import cli
from dfal.strategies import named

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"]
PAGES += sorted(DOCS.rglob("*.md"))
STORE = ROOT / "tests" / "stores" / "version-3.db"
LABELS = ROOT / "tests" / "stores" / "label-version-4.db"

EXECUTED = {
    ("any-model.md", "python"): ("any_model/test_any_model.py", 5),  # by make any-model
    ("extending/attack.md", "python"): ("docs/test_extending.py", 3),
    ("extending/backbone.md", "python"): ("docs/test_extending.py", 3),
    ("extending/data-set.md", "python"): ("docs/test_extending.py", 3),
    ("extending/executor.md", "python"): ("docs/test_extending.py", 3),
    ("extending/export-format.md", "python"): ("labelling/test_new_format_and_view.py", 3),
    ("extending/network.md", "python"): ("docs/test_extending.py", 3),
    ("extending/page-view.md", "javascript"): ("labelling/test_new_format_and_view.py", 2),
    ("extending/page-view.md", "python"): ("labelling/test_new_format_and_view.py", 1),
    ("extending/source.md", "python"): ("docs/test_extending.py", 3),
    ("extending/strategy.md", "python"): ("docs/test_extending.py", 3),
    ("model.md", "python"): ("models/test_onnx.py", 1),
    ("team.md", "caddyfile"): ("labelling/test_proxy.py", 1),
    ("team.md", "nginx"): ("labelling/test_proxy.py", 1),
    ("training.md", "python"): ("docs/test_own_training.py", 3),
}
"""Page and language → the file below tests/ that executes such blocks, and how many there are."""

NOT_TRIED = {
    ".venv/bin/pre-commit": "puts a hook into the checkout",
    "conda": "its channels cannot be reached by every machine; test_packaging.py reads its file",
    "duckdb": "not installed; the same query is made with SQLite on the page",
    "podman": "not installed; what it runs is tried",
}
"""Programs of others that no test starts → why."""

PEERS = ["art", "art.attacks.evasion", "art.estimators.classification", "foolbox", "torchattacks"]
"""Packages that benchmarks compare with and that are in an environment of their own."""


class Accepted(Exception):  # noqa: N818  no error
    """The command would begin to work now."""


class Block(NamedTuple):
    """A block of code of a page; `line` is the one of its fence, from 1."""

    line: int
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of code of a page."""
    whole = page.read_text()
    for match in re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", whole, re.M):
        yield Block(whole.count("\n", 0, match.start()) + 1, match[1], match[2])


def name_of(page: Path) -> str:
    return str(page.relative_to(DOCS if DOCS in page.parents else ROOT))


def commands(shell: str) -> list[str]:
    """Return the command lines of a shell block."""
    lines = shell.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and line[0] != "#" and "[OPTIONS]" not in line]


def command_lines(page: Path) -> list[str]:
    """Return the command lines of a page's shell blocks, and the scripts named in its text."""
    lines = [
        line for block in blocks(page) if block.language == "sh" for line in commands(block.text)
    ]
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    spans = [re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", prose)]
    return lines + [
        span for span in spans if re.match(r"(python (benchmarks|docs)/|make )\w", span)
    ]


def words_of(line: str) -> list[str]:
    """Return the words of a command line, without what a shell does with its output."""
    words = shlex.split(line, comments=True)
    end = next((place for place, word in enumerate(words) if word in {"|", ">"}), len(words))
    return words[:end]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_executed_or_tried(page: Path) -> None:
    tried = {"sh", "bibtex", "{eval-rst}"}  # of BibTeX see test_pages.py, of reST test_site.py
    left = Counter(
        language
        for _, language, text in blocks(page)
        if language not in tried and not (language == "python" and text.startswith(">>> "))
    )
    for language, count in left.items():
        file, known = EXECUTED.get((name_of(page), language), ("", 0))
        assert count == known, f"{count - known} blocks of {language or 'no language'}"
        assert page.name in (ROOT / "tests" / file).read_text()


def test_the_lists_of_exceptions_name_what_is_there() -> None:
    there = {(name_of(page), block.language) for page in PAGES for block in blocks(page)}
    assert set(EXECUTED) - there == set()
    programs = {line.split()[0] for page in PAGES for line in command_lines(page)}
    assert set(NOT_TRIED) - programs == set()


def stop(*_: object, **__: object) -> NoReturn:
    """Stand in for what a command calls when all that it was given is right."""
    context = click.get_current_context()
    if context.command.name == "select":
        named(context.params["strategy"], imports=True)
    raise Accepted


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of somebody who types what the docs say, where nothing takes long."""
    folder = tmp_path_factory.mktemp("reader")
    for number in range(12):
        path = folder / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (20 * number, 90, 30)).save(path)
    code = "from dfal import Random\nRatio = ratio = Random()\ndef digits(): ...\n"
    code += "def fit(make, data, seed): return make()\n"
    (folder / "mine.py").write_text(code)
    network = "from torch import nn\ndef {}(image, classes):\n    return nn.Sequential("
    network += "nn.Flatten(), nn.LazyLinear(classes))\n"
    (folder / "networks.py").write_text(network.format("resnet"))
    (folder / "package").mkdir()
    (folder / "package" / "module.py").write_text(network.format("function"))
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.syspath_prepend(folder)
        for place in (
            *("dfal.cli.trials.check", "dfal.cli.trials.latest_store"),
            *("dfal.experiments.runner.check", "dfal.cli.study_report.show"),
            *("dfal.cli.label_export.write_export", "dfal.labelling.learning.final.train_final"),
            *("dfal.labelling.web.page_server.PageServer", "dfal.models.load"),
            "dfal.models.weights.load",
        ):
            module, _, name = place.rpartition(".")
            patch.setattr(importlib.import_module(module), name, stop)
        if "DFAL_DATA" not in os.environ:  # nothing is downloaded to read the docs
            patch.setattr("dfal.data.datasets.load", stop)
        patch.setattr("dfal.labelling.web.page_server.bound", lambda *_: contextlib.nullcontext())
        patch.setattr("shutil.which", lambda program: f"/usr/bin/{program}")  # Slurm's
        for name in PEERS:
            patch.setitem(sys.modules, name, MagicMock())
        yield folder
    forget_modules()


def forget_modules() -> None:
    """Forget modules whose names are those of the reader's: a benchmark has one of them."""
    for name in ("mine", "networks", "package", "package.module"):
        sys.modules.pop(name, None)


def try_dfal(words: list[str]) -> None:
    """Let dfal take the words of a command line, and leave nothing for the next one."""
    forget_modules()
    with contextlib.suppress(Accepted):
        cli.main(words, prog_name="dfal", standalone_mode=False)
    for path in Path().glob("photos.labels.db*"):
        path.unlink()


def try_script(words: list[str], patch: pytest.MonkeyPatch) -> None:
    """Run a script up to where it has parsed its options, which must be right."""
    parse = argparse.ArgumentParser.parse_args

    def parsed(*arguments: Any, **named: Any) -> NoReturn:
        parse(*arguments, **named)
        raise Accepted

    script = ROOT / words[0]
    if "parse_args" not in script.read_text():
        return
    patch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    patch.setattr(sys, "argv", words)
    patch.syspath_prepend(script.parent)
    forget_modules()
    with pytest.raises(Accepted):
        runpy.run_path(str(script), run_name="__main__")
    forget_modules()


def try_command(line: str, patch: pytest.MonkeyPatch) -> None:
    """Try a command line, as far as it is dfal's or this repository's."""
    program, *words = words_of(line)
    if program in {"podman", "uvx"} and "label" in words:
        try_dfal(words[words.index("label") :])
    if program == "dfal":
        try_dfal(words)
    elif program == "python":
        try_script(words, patch)
    elif program == "make":
        targets = re.findall(r"^([\w -]+):", (ROOT / "Makefile").read_text(), re.M)
        asked = {word for word in words if "=" not in word}
        assert asked <= {name for line in targets for name in line.split()}
    elif program in {"pip", "uv", "uvx"}:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        asked = {name for found in re.findall(r"\.\[(.+?)\]", line) for name in found.split(",")}
        assert asked <= set(extras["optional-dependencies"])
    elif program == "sqlite3":
        store, sql = words
        db = sqlite3.connect(LABELS if "labels" in store else STORE)
        db.execute(sql)
        db.close()
    else:
        assert program in NOT_TRIED, program


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_line_is_accepted(
    page: Path,
    reader: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    refused = []
    for line in command_lines(page):
        start = perf_counter()
        try:
            with monkeypatch.context() as patch:
                try_command(line, patch)
        except (Exception, SystemExit) as error:
            reason = error.format_message() if isinstance(error, click.ClickException) else error
            refused.append(f"{line}: {type(error).__name__} {reason}")
        record_property(line, perf_counter() - start)
    assert refused == [], "\n".join([*refused, capsys.readouterr().err])
