"""Labels of images from a table with the columns path and label."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dfal.data.path_names import PathIndex, nfc
from dfal.data.table_files import read_table
from dfal.errors import DfalError

LABEL_ORIGINS = frozenset({"given", "known"})
"""What the column `how` of an exported table says of a label. Any other word marks a prediction, or
no label."""


@dataclass(frozen=True)
class LabelTable:
    """The labels of a table.

    Attributes:
        known: index → class, in NFC.
        left_out: rows that give no label, by what their column `how` says.
    """

    known: dict[int, str]
    left_out: Counter[str]


def read_labels(file: Path, folder: Path, paths: Sequence[str]) -> LabelTable:
    """Read labels from a table with the columns path and label.

    Rows without a label are left out, and with a column `how`, as `dfal export` writes it, all that
    are neither `given` nor `known`. Paths may be absolute, have backslashes, and write their
    accents otherwise.

    Args:
        file: the table.
        folder: of the images.
        paths: of the images, relative to the folder.

    Raises:
        DfalError: for a file that cannot be read, a path that is not in the folder, an image with
            two labels, and for a table of a network's predictions.
    """
    table = read_table(file, ("path", "label"), "the labels")
    if "confidence" in table.columns and "how" not in table.columns:
        raise DfalError(
            f"{file} holds the predictions of a network: it has a column confidence and no column"
            " how, and nobody gave these labels. Remove the column confidence to take them as"
            " labels all the same"
        )
    index = PathIndex(paths)
    roots = tuple(
        dict.fromkeys(
            f"{nfc(root.as_posix()).rstrip('/')}/" for root in (folder.resolve(), folder.absolute())
        )
    )
    known: dict[int, str] = {}
    left_out = Counter[str]()
    for row in table.rows:
        path, label = row["path"], nfc(row["label"].strip())
        how = row.get("how", "given").strip().casefold()
        if not path.strip():
            if label:
                raise DfalError(
                    f"{file}, row {row.number}: the label {label!r} has no path: write the image's"
                    " path next to it"
                )
            continue
        image = _image_index(path, index, roots)
        if image < 0:
            raise DfalError(
                f"{file}, row {row.number} names {path!r}, which is not in {folder}: paths are"
                " relative to the folder"
            )
        if how not in LABEL_ORIGINS:
            left_out[how or "nothing in the column how"] += 1
            continue
        if label and known.setdefault(image, label) != label:
            raise DfalError(
                f"{file}, row {row.number} gives {path!r} two labels, {known[image]!r} and"
                f" {label!r}: leave one"
            )
    return LabelTable(known, left_out)


def _image_index(path: str, index: PathIndex, roots: tuple[str, ...]) -> int:
    """Return the index of an image that a table names, or -1.

    The path is tried as it is written, without blanks around it, and relative to one of the roots.
    """
    for written in (path, path.strip()):
        if (image := index.get(written)) >= 0:
            return image
        relative = nfc(written.replace("\\", "/"))
        relative = next(
            (relative.removeprefix(root) for root in roots if relative.startswith(root)),
            relative,
        )
        if (image := index.get(relative.removeprefix("./"))) >= 0:
            return image
    return -1
