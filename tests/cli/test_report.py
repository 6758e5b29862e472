"""dfal report: the page, tables, figures and measurements of a store."""

import csv
from pathlib import Path

from shell import SMALL, Shell


def test_report_names_its_page(dfal: Shell) -> None:
    assert dfal("run", *SMALL, "--store", "deep/er/s.db").code == 0
    assert Path("deep/er/s.html").is_file(), "stores of one folder have a page each"
    assert "is the store itself" in dfal.refused(
        "report", "deep/er/s.db", "--out", "deep/er/../er/s.db"
    )
    assert "is the store itself" in dfal.refused("report", "deep/er/s.db", "--csv", "deep/er/s.db")
    assert dfal("report", "deep/er/s.db", "--out", "other.html").code == 0
    assert Path("other.html").read_text().startswith("<!doctype html>")
    assert "cannot be written" in dfal.refused(
        "report", "deep/er/s.db", "--out", "no/such/folder/r.html"
    )
    chosen = dfal(
        "report",
        "deep/er/s.db",
        "--at",
        "10,30",
        "--csv",
        "all.csv",
        "--tables",
        "tables",
        "--figures",
        "figures",
    )
    drawn = {file.name for file in Path("figures").iterdir()}
    assert drawn >= {"learning-curves-mnist-5k-lenet5.pdf", "learning-curves-mnist-5k-lenet5.svg"}
    assert not any("figure-2" in name for name in drawn), "nothing of the paper"
    assert sorted(file.name for file in Path("tables").iterdir()) == [
        "accuracies-mnist-5k-lenet5.csv",
        "accuracies-mnist-5k-lenet5.tex",
    ], "what was printed, and nothing of the paper"
    rows = list(
        csv.DictReader(
            Path("tables/accuracies-mnist-5k-lenet5.csv").read_text(encoding="utf-8").splitlines()
        )
    )
    assert {row["column"] for row in rows} >= {"10", "30"}
    assert "20" not in {row["column"] for row in rows}
    assert "\n10\t" in chosen.out
    assert "\n20\t" not in chosen.out
    assert len(Path("all.csv").read_text().splitlines()) == 1 + 3 * 3
    assert "not a list of annotations" in dfal.refused("report", "deep/er/s.db", "--at", "ten")
    assert "no accuracy was measured at 15" in dfal.refused("report", "deep/er/s.db", "--at", "15")
    assert "labels to reach 0.5 %" in dfal("report", "deep/er/s.db", "--reach", "0.5").out
    for wrong in ("high", "0", "101", "95;98"):
        refused = dfal.refused("report", "deep/er/s.db", "--reach", wrong)
        assert "not a list of accuracies in per cent" in refused
