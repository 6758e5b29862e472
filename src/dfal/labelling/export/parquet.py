"""Labels as a Parquet file."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from dfal.errors import DfalError
from dfal.labelling.export.formats import LabelFormat, check_target, write_whole
from dfal.labelling.export.rows import Label


def write_parquet(rows: Sequence[Label], images: Path, path: Path) -> list[str]:
    """Write the table as Parquet, which keeps types and needs no escaping.

    Raises:
        DfalError: if pyarrow is not installed, the path is no earlier export, or it cannot be
            written.
    """
    try:
        import pyarrow  # an extra
        import pyarrow.parquet
    except ImportError:
        raise DfalError(
            "writing Parquet needs pyarrow: pip install 'dfal[parquet]', or export as CSV"
        ) from None
    check_target(path, b"PAR1")
    columns = {field.name: [getattr(row, field.name) for row in rows] for field in fields(Label)}
    columns["path"] = [path.encode("utf-8", "replace").decode() for path in columns["path"]]
    table = pyarrow.table(columns)
    write_whole(path, lambda to: pyarrow.parquet.write_table(table, to))
    return []


PARQUET = LabelFormat(".labels.parquet", write_parquet)
