"""Tables as LaTeX and CSV."""

import csv
import shutil
import subprocess
from pathlib import Path

import pytest

from dfal import export
from dfal.reproduce import Cell, Table, Verdict
from dfal.types import DfalError

MADE = Table(
    "table1",
    "Table 1: mnist-5k, lenet5",
    "",
    ("100", "p & q"),
    (
        ("dfal_no", (Cell("98.02", "± 0.10", "97.00", 0.01, True), Cell("> 30", "[> 30, > 30]", "≥ 6000"))),
        ("random", (Cell("50.00", "", "51.00", 0.001, False), Cell())),
    ),
)


def test_latex_is_escaped_coloured_and_whole() -> None:
    text = export.latex(MADE)
    assert r"dfal\_no & \textcolor{dfalabove}{98.02 $\pm$ 0.10} (97.00) & $>$ 30 [$>$ 30, $>$ 30] ($\geq$ 6000) \\" in text
    assert r"random & \textcolor{dfalbelow}{50.00} (51.00) &  \\" in text
    assert r" & 100 & p \& q \\" in text
    assert text.count("{") == text.count("}")
    assert "\\begin{tabular}{lrr}" in text
    assert "±" not in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_latex_compiles(tmp_path: Path) -> None:
    body = export.latex(MADE)
    head = r"\documentclass{article}\usepackage{booktabs,xcolor}\definecolor{dfalabove}{HTML}{0072B2}"
    head += r"\definecolor{dfalbelow}{HTML}{B3261E}\begin{document}"
    (tmp_path / "t.tex").write_text(head + body + r"\end{document}", encoding="utf-8")
    subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, capture_output=True)


def test_csv_has_a_row_a_cell() -> None:
    rows = list(csv.DictReader(export.as_csv(MADE).splitlines()))
    assert len(rows) == 3, "the empty cell is none"
    assert rows[0] == {"row": "dfal_no", "column": "100", "ours": "98.02", "interval": "± 0.10", "paper": "97.00", "p": "0.01"}
    assert rows[1]["p"] == "", "no test was made"


def test_every_table_is_two_files_with_names_for_every_system(tmp_path: Path) -> None:
    verdict = Verdict("twins help", "holds", "difference +1.00")
    files = export.write(tmp_path / "new" / "tables", [MADE], [verdict])
    assert [file.name for file in files] == ["table1-mnist-5k-lenet5.tex", "table1-mnist-5k-lenet5.csv", "verdicts.csv"]
    assert files[2].read_text(encoding="utf-8").splitlines()[1] == "twins help,holds,difference +1.00"


def test_a_folder_that_cannot_be_written_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DfalError, match=r"tables cannot be written to .*file/x"):
        export.write(tmp_path / "file" / "x", [MADE], [])
