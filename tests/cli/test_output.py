"""What is piped is plain: no box, padding, colour, wrapping or progress; JSON is one document; and
"-" is standard output."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.table import Table
from torch import nn

from dfal import models
from dfal.cli import output
from dfal.data.datasets import DATASETS, load
from dfal.strategies import STRATEGIES
from shell import SMALL, Shell

DRAWN = set("│┃━─┏┓┗┛├┤╭╮╰╯\x1b\r")


def plain(text: str) -> bool:
    return not DRAWN & set(text) and all(line == line.rstrip(" ") for line in text.splitlines())


@pytest.fixture
def store(dfal: Shell) -> Path:
    """The store of a small run of two strategies."""
    ran = dfal("run", *SMALL, "--strategy", "margin,random", "--store", "s.db", "--quiet")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert Path("s.html").is_file()
    return Path("s.db")


def test_piped_tables_have_a_line_a_row_and_tabs(
    dfal: Shell, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out = dfal("report", str(store)).out
    assert plain(out)
    rows = [line.split("\t") for line in out.splitlines()]
    assert sum(row[0] == "30" for row in rows) == 1, "one line for the last budget"
    assert out.splitlines()[-2:] == ["Report s.html", "Store  s.db"]


def test_a_report_as_json(dfal: Shell, store: Path) -> None:
    found: dict[str, Any] = json.loads(dfal("report", str(store), "--json").out)
    assert (found["store"], found["report"], found["verdicts"]) == ("s.db", "s.html", [])
    (table,) = found["tables"]
    last = {cell["row"]: cell for cell in table["cells"] if cell["column"] == "30"}
    assert last.keys() == {"margin", "random"}
    assert last["margin"].keys() == {
        *("row", "column", "value", "low", "high", "interval", "p", "text", "paper")
    }
    assert 0 < last["margin"]["value"] < 100
    assert last["margin"]["p"] is None, "JSON has no NaN"
    again = json.loads(dfal("run", "--resume", "--store", "s.db", "--json").out)
    assert again == found


def test_the_page_or_the_measurements_on_standard_output(dfal: Shell, store: Path) -> None:
    assert dfal("report", str(store), "--out", "-").out.startswith("<!doctype html>")
    rows = list(csv.DictReader(io.StringIO(dfal("report", str(store), "--csv", "-").out)))
    assert len(rows) == 2 * 3
    assert "only one of" in dfal.refused("report", str(store), "--csv", "-", "--json")
    assert "only one of" in dfal.refused("report", str(store), "--csv", "-", "--out", "-")
    assert not Path("-").exists()


def test_strategies_as_lines_names_and_json(dfal: Shell) -> None:
    out = dfal("strategies").out
    assert [line.split("\t")[0] for line in out.splitlines()] == list(STRATEGIES)
    assert dfal("strategies", "-q").out.split() == list(STRATEGIES)
    assert json.loads(dfal("strategies", "--json").out) == [
        {"name": name, "about": STRATEGIES.about(name)} for name in STRATEGIES
    ]


def test_data_sets_as_names_and_json(dfal: Shell) -> None:
    assert dfal("data", "--quiet").out.split() == list(DATASETS)
    found = json.loads(dfal("data", "--json").out)
    assert [card["name"] for card in found] == list(DATASETS)
    digits = next(card for card in found if card["name"] == "mnist-5k")
    assert (digits["pool"], digits["test"], digits["image"]) == (4000, 1000, [1, 28, 28])
    assert json.loads(dfal("data", "mnist-5k", "--json").out) == digits
    assert plain(dfal("data").out)
    assert plain(dfal("data", "mnist-5k").out)


@pytest.fixture
def model(dfal: Shell, trained: nn.Module) -> str:
    """A saved model, and a folder with an image and a file that is none."""
    Path("photos").mkdir()
    Image.fromarray(load("mnist-5k").images.array[0, 0]).save("photos/a.png")
    Path("photos/broken.jpg").write_bytes(b"hello")
    card = models.ModelCard(tuple("0123456789"), (1, 28, 28), annotations=200)
    models.save(trained, card, Path("m.safetensors"))
    return "m.safetensors"


def test_predictions_as_json(dfal: Shell, model: str) -> None:
    ran = dfal("predict", model, "photos", "--json", "--distance", "--out", "labels.csv")
    assert ran.err == ""
    found = json.loads(ran.out)
    ((row),) = found["predictions"]
    assert (row["path"], row["label"]) == ("a.png", "0")
    assert 0 < row["distance"] < 20
    assert found["left_out"][0]["path"] == "broken.jpg"
    assert (found["accuracy"], found["calibrated"]) == (None, False)
    assert Path("labels.csv").read_text().startswith("path,label,confidence,distance\na.png,0,")
    assert dfal("predict", model, "photos", "-q").err == ""
    assert dfal("predict", model, "photos", "--out", "-").out.startswith("path,label,confidence\n")


def test_a_card_as_json_and_lines(dfal: Shell, model: str) -> None:
    found = json.loads(dfal("model", model, "--json").out)
    assert (found["path"], found["annotations"], found["image"]) == (model, 200, [1, 28, 28])
    out = dfal("model", model).out
    assert plain(out)
    assert "trained on\t200 annotations" in out.splitlines()


def test_an_export_as_json_and_on_standard_output(dfal: Shell) -> None:
    from dfal.labelling import Session
    from dfal.labelling.settings import Settings

    Path("photos").mkdir()
    for index in range(3):
        Image.new("L", (20, 20), 40 * index).save(f"photos/{index}.png")
    settings = Settings(folder=str(Path("photos").resolve()), size=20, channels=1)
    paths = [f"{index}.png" for index in range(3)]
    with Session.start(Path("s.db"), settings, paths, ["a", "b"], {"0.png": "a"}) as session:
        session.tell(session.ask()[0], "b")
    found = json.loads(dfal("export", "s.db", "--json").out)
    assert found == {
        "path": "s.labels.csv",
        "format": "csv",
        "labels": {"known": 1, "given": 1},
        "missing": [],
        "model": None,
    }
    out = dfal("export", "s.db", "--out", "-").out
    assert out == Path("s.labels.csv").read_text()
    assert "writes a folder" in dfal.refused("export", "s.db", "--as", "folders", "--out", "-")
    assert dfal("export", "s.db", "--quiet").out == ""


def test_json_is_read_by_a_program() -> None:
    piped = subprocess.run(
        f"{sys.executable} -m dfal strategies --json | {sys.executable} -m json.tool --compact",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(json.loads(piped.stdout)) == len(STRATEGIES)


def test_a_reader_that_stops_early_is_no_error() -> None:
    piped = subprocess.run(
        f"{sys.executable} -m dfal strategies | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (piped.stdout.count("\n"), piped.stderr) == (1, "")


def test_markup_and_lines_of_cells_are_plain_when_piped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = Table("[bold]name[/bold]", "value", title="Title", caption="what it says")
    table.add_row(r"a \[x]", "one\ntwo")
    output.print_table(table)
    assert capsys.readouterr().out == "Title\nname\tvalue\na [x]\tone two\nwhat it says\n\n"


def test_a_terminal_is_drawn_on(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminal")
    parent, child = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "dfal", "strategies"],
        stdout=child,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    ) as process:
        os.close(child)
        drawn = b""
        while part := _read(parent):
            drawn += part
    assert process.returncode == 0
    assert b"\x1b[1mdfal\x1b[0m" in drawn
    assert b"\t" not in drawn


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux: the other end is closed
        return b""
