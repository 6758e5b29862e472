"""Tables as LaTeX and CSV, figures as PDF and SVG."""

import csv
from math import inf
from pathlib import Path

import numpy as np
import pytest

from dfal.analysis.tables import Cell, Table, Verdict
from dfal.errors import DfalError
from dfal.reporting import latex_csv, paper_figures
from dfal.stats.significance import ranks

MADE = Table(
    "table1",
    "Table 1: mnist-5k, lenet5",
    "Mean ± half of its 95 % t interval.",
    ("100", "p & q"),
    (
        (
            "dfal_no",
            (
                Cell("98.02", "± 0.10", "97.00", 0.01, True, 98.02, 97.92, 98.12, "95 % t"),
                Cell(
                    "> 30",
                    "[20, > 30]",
                    "≥ 6000",
                    value=inf,
                    low=20,
                    high=inf,
                    interval="95 % bootstrap",
                ),
            ),
        ),
        ("random", (Cell("50.00", "", "51.00", 0.001, False, 50.0), Cell())),
    ),
)


def test_csv_has_a_row_a_cell() -> None:
    rows = list(csv.DictReader(latex_csv.as_csv(MADE).splitlines()))
    assert len(rows) == 3, "the empty cell is none"
    assert rows[0] == dict(zip(latex_csv.COLUMNS, rows[0].values(), strict=True))
    assert list(rows[0].values()) == [
        *(
            "dfal_no",
            "100",
            "98.02",
            "97.92",
            "98.12",
            "95 % t",
            "97.00",
            "0.01",
            "98.02 ± 0.10",
            "97.00",
        )
    ]
    assert rows[1]["p"] == "", "no test was made"
    words = {"row", "column", "interval", "ours_text", "paper_text"}
    numbers = [[row[name] for name in latex_csv.COLUMNS if name not in words] for row in rows]
    assert all(float(text) for row in numbers for text in row if text), "they can be computed with"
    assert [rows[1][name] for name in ("ours", "low", "high", "paper")] == [
        "inf",
        "20",
        "inf",
        "inf",
    ]
    assert (rows[1]["ours_text"], rows[1]["paper_text"]) == ("> 30 [20, > 30]", "≥ 6000")


def test_every_table_is_two_files_with_names_for_every_system(tmp_path: Path) -> None:
    verdict = Verdict("twins help", "reproduced", "difference +1.00", "mnist")
    files = latex_csv.write(tmp_path / "new" / "tables", [MADE], [verdict])
    assert [file.name for file in files] == [
        "table1-mnist-5k-lenet5.tex",
        "table1-mnist-5k-lenet5.csv",
        "verdicts.csv",
    ]
    assert (
        files[2].read_text(encoding="utf-8").splitlines()[1]
        == "mnist,twins help,reproduced,difference +1.00"
    )


def test_a_folder_that_cannot_be_written_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DfalError, match=r"tables cannot be written to .*file/x"):
        latex_csv.write(tmp_path / "file" / "x", [MADE], [])


def test_every_figure_is_two_files(tmp_path: Path) -> None:
    chart = paper_figures.ranking(["a", "b"], ranks(np.array([[0.9, 0.8], [0.9, 0.7], [0.5, 0.6]])))
    files = latex_csv.write_figures(tmp_path / "figures", {"Figure 2: mnist, my/model": chart})
    assert [file.name for file in files] == [
        "figure-2-mnist-my-model.pdf",
        "figure-2-mnist-my-model.svg",
    ]
    assert all(file.stat().st_size > 1000 for file in files)
    (tmp_path / "file").touch()
    with pytest.raises(DfalError, match=r"figures cannot be written to .*file/x"):
        latex_csv.write_figures(tmp_path / "file" / "x", {})
