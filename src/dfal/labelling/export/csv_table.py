"""Labels as a CSV file."""

import io
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

from dfal.labelling.export.formats import LabelFormat, check_target, write_whole
from dfal.labelling.export.rows import Label
from dfal.spreadsheet import defused, row_writer


def as_csv(rows: Sequence[Label]) -> str:
    """Return a table with a header, of which no cell but a path runs as a formula.

    A path stays as it is: its image would not be found again otherwise.
    """
    text = io.StringIO()
    write_row = row_writer(text)
    write_row([field.name for field in fields(Label)])
    for row in rows:
        safe = replace(row, label=defused(row.label), by=defused(row.by), note=defused(row.note))
        write_row([*asdict(safe).values()])
    return text.getvalue()


def write_csv(rows: Sequence[Label], images: Path, path: Path) -> list[str]:
    """Write the table as CSV.

    Raises:
        DfalError: if the path is no earlier export or cannot be written.
    """
    check_target(path, as_csv([]).encode())
    text = as_csv(rows)
    write_whole(path, lambda to: to.write_text(text, "utf-8", errors="surrogateescape"))
    return []


CSV = LabelFormat(".labels.csv", write_csv)
