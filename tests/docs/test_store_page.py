"""docs/store.md describes the store that dfal makes, and its lines of SQL run."""

import contextlib
import re
import sqlite3
from pathlib import Path

from dfal.analysis.rows import COLUMNS
from dfal.experiments.store import Store
from stored import rows_of

PAGE = (Path(__file__).parents[2] / "docs" / "store.md").read_text()
FILLED = Path(__file__).parents[1] / "stores" / "version-2.db"


def test_the_page_has_every_table_and_view_with_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    Store(path, write=True).close()
    described = {
        name: re.findall(r"`(\w+)`", columns)
        for name, columns in re.findall(
            r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|", PAGE, re.MULTILINE
        )
    }
    with contextlib.closing(sqlite3.connect(path)) as db:
        names = db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        made = {
            name: [row[1] for row in db.execute(f"PRAGMA table_info({name})")]
            for (name,) in names.fetchall()
        }
    assert described == made


def test_the_page_has_every_column_of_the_csv_files() -> None:
    cells = re.findall(r"^\| ([\w, ]+) \| ", PAGE, re.MULTILINE)
    described = {name for cell in cells for name in cell.split(", ")}
    assert {name for columns in COLUMNS.values() for name in columns} <= described


def test_the_lines_of_sql_run() -> None:
    lines = re.findall(r'^sqlite3 study\.db "(.*)"$', PAGE, re.MULTILINE)
    assert lines
    assert all(rows_of(FILLED, line) for line in lines)
