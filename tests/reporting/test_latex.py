"""Tables as LaTeX: what is in them, and that they compile in an article of two columns."""

import re
import shutil
import subprocess
from math import inf
from pathlib import Path

import pytest

from dfal.analysis.tables import Cell, Table, table
from dfal.reporting.latex import PACKAGES, latex

MADE = table(
    "table1",
    "Table 1: mnist-5k, lenet5",
    "Mean ± half of its 95 % t interval.\nA second note.",
    ("100", "p & q", "labels to the target"),
    (
        (
            "dfal_no",
            (
                Cell("98.02", "± 0.10", "97.00", value=98.02),
                Cell("+1.50", "± 12.30", value=1.5),
                Cell("> 30", "[20, > 30]", "≥ 6000", value=inf, low=20, high=inf),
            ),
        ),
        ("random", (Cell("50.00", "", "51.00", value=50.0), Cell(), Cell("20", value=20))),
        ("margin", (Cell("98.02", "± 0.40", value=98.02), Cell("−0.12", value=-0.12), Cell())),
    ),
    highest=["100", "labels to the target"],
)


def rows(text: str) -> list[list[str]]:
    """Return the cells of a table's lines between its rules."""
    body = text[text.index("\\midrule") : text.index("\\bottomrule")].splitlines()[1:]
    return [[cell.strip() for cell in line.removesuffix(r"\\").split(" & ")] for line in body]


def test_numbers_are_aligned_the_best_is_bold_and_the_papers_are_below() -> None:
    text = latex(MADE, "label")
    assert r"\begin{tabular}{lS[table-format=2.2(2)]S[table-format=+1.2(4)]r}" in text
    assert rows(text) == [
        [
            r"dfal\_no",
            r"\bfseries 98.02 \pm 0.10",
            r"+1.50 \pm 12.30",
            r"$>$ 30 [20, $>$ 30]",
        ],
        [r"\quad\textit{paper}", "97.00", "", r"$\geq$ 6000"],
        ["random", "50.00", "", "20"],
        [r"\quad\textit{paper}", "51.00", "", ""],
        ["margin", r"\bfseries 98.02 \pm 0.40", "-0.12", ""],
    ], "equal numbers are equally good, and one number is no best"
    assert r" & {100} & {p \& q} & \shortstack[r]{labels to the\\target} \\" in text
    assert text.count("{") == text.count("}")
    assert "±" not in text


def test_what_a_table_shows_is_in_a_short_caption_and_in_notes_below() -> None:
    text = latex(MADE, "label")
    assert r"\caption{The paper's Table 1: mnist-5k, lenet5}" in text
    assert r"\label{tab:label}" in text
    notes = text[text.index("\\begin{tablenotes}") : text.index("\\end{tablenotes}")]
    assert re.findall(r"\\item (.+)", notes) == [
        r"Mean $\pm$ half of its 95 \% t interval.",
        "A second note.",
        "Bold: the best of its column.",
    ]
    plain = Table("t", "T", "", ("a",), (("x", (Cell("1", value=1),)),))
    assert "tablenotes" not in latex(plain, "t")
    assert "bfseries" not in latex(plain, "t")


def test_ours_is_coloured_where_it_differs_from_the_papers() -> None:
    cells = (
        Cell("98.0", "", "97.0", 0.01, True, 98.0),
        Cell("50.0", "", "51.0", 0.001, False, 50.0),
        Cell("50.0", "", "51.0", 0.2, False, 50.0),
    )
    text = latex(Table("t", "T", "", ("a", "b", "c"), (("x", cells),)), "t")
    assert rows(text)[0][1:] == [r"\color{dfalabove} 98.0", r"\color{dfalbelow} 50.0", "50.0"]


def wide(times: int) -> Table:
    return Table(
        "wide",
        "Wide",
        "",
        MADE.head * times,
        tuple((name, cells * times) for name, cells in MADE.rows),
    )


def test_a_table_wider_than_a_column_spans_both() -> None:
    narrow = Table("t", "T", "", ("100",), (("dfal", (Cell("98.02", "± 0.10", value=98.02),)),))
    assert r"\begin{table}" in latex(narrow, "t")
    assert r"\end{table}" in latex(narrow, "t")
    assert r"\begin{table*}" in latex(wide(2), "t")
    assert r"\end{table*}" in latex(wide(2), "t")


def has_latex() -> bool:
    """Return whether LaTeX and the two packages that few installations have are there."""
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    needed = ["kpsewhich", "siunitx.sty", "threeparttable.sty"]
    return subprocess.run(needed, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(
    not has_latex(), reason="there is no pdflatex with siunitx and threeparttable: make debian"
)
def test_it_compiles_in_two_columns_and_no_table_is_too_wide(tmp_path: Path) -> None:
    body = "".join(latex(made, str(place)) for place, made in enumerate([MADE, wide(2), wide(9)]))
    head = r"\documentclass[twocolumn]{article}\usepackage{" + ",".join(PACKAGES) + "}"
    text = head + "\\begin{document}\n" + body + "\\end{document}\n"
    (tmp_path / "t.tex").write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Overfull" not in done.stdout, "a table is wider than the line"
