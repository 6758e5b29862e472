"""Labels as folders with copies of the images."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from dfal.errors import DfalError
from dfal.labelling.export.formats import LabelFormat
from dfal.labelling.export.rows import Label
from dfal.labelling.names import NO_LABEL_FOLDER
from dfal.labelling.validation import image_file, target_file

Copies = list[tuple[str, Label]]
"""Name of each copied file in its folder, and its row."""


def write_folders(rows: Sequence[Label], images: Path, path: Path) -> list[str]:
    """Copy the images into a folder for each class, and one for those that people skipped.

    Returns:
        The paths of images that have vanished and are left out.

    Raises:
        DfalError: if the folder exists or cannot be written.
    """
    taken = [row for row in rows if _is_answered(row)]
    return _copy(taken, images, path, lambda row: row.label or NO_LABEL_FOLDER)


def write_hugging_face(rows: Sequence[Label], images: Path, path: Path) -> list[str]:
    """Write a folder that `datasets.load_dataset("imagefolder", data_dir=…)` loads.

    Returns:
        The paths of images that have vanished and are left out.

    Raises:
        DfalError: if no row has a label, or the folder exists or cannot be written.
    """
    taken = [row for row in rows if _is_labelled(row)]
    if not taken:
        raise DfalError(
            "no image has a label yet, and an empty data set cannot be loaded: answer some"
            " questions first"
        )
    return _copy(taken, images, path, lambda row: "train", _write_metadata)


def _write_metadata(folder: Path, copies: Copies) -> None:
    lines = [
        json.dumps({"file_name": name} | asdict(row), ensure_ascii=False) + "\n"
        for name, row in copies
    ]
    file = folder / "train" / "metadata.jsonl"
    file.write_text("".join(lines), "utf-8", errors="surrogateescape")


def _copy(
    rows: Sequence[Label],
    images: Path,
    path: Path,
    folder_of: Callable[[Label], str],
    finish: Callable[[Path, Copies], None] = lambda folder, copies: None,
) -> list[str]:
    """Copy images into a new folder, which is there whole or not at all.

    Args:
        rows: whose images.
        images: the folder that they lie in.
        path: of the new folder.
        folder_of: name of the folder inside it for a row.
        finish: writes what else belongs there, given the folder under its temporary name.

    Returns:
        The paths of images that have vanished.

    Raises:
        DfalError: if the folder exists or cannot be written.
    """
    if path.exists() or not path.name:
        raise DfalError(f"{path} is there already: name a folder that is not")
    missing: list[str] = []
    copies: Copies = []
    temporary = path.with_name(f".{path.name}.part")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for row in rows:
            folder = target_file(temporary, folder_of(row))
            folder.mkdir(exist_ok=True)
            name = _free_name(row.path, folder)
            try:
                shutil.copy2(image_file(images, row.path), target_file(folder, name))
            except FileNotFoundError:
                missing.append(row.path)
            else:
                copies.append((name, row))
        if copies:
            finish(temporary, copies)
        temporary.replace(path)
    except OSError as error:
        raise DfalError(
            f"{path} cannot be written ({error.strerror}): name a folder where there is space"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return missing


def _free_name(path: str, folder: Path) -> str:
    """Return a name that no file of the folder has, made from a path in the images' folder."""
    flat = path.replace("/", "-")
    name, number = flat, 1
    while (folder / name).exists():
        number += 1
        name = f"{number}-{flat}"
    return name


def _is_labelled(row: Label) -> bool:
    return bool(row.label)


def _is_answered(row: Label) -> bool:
    return bool(row.label) or row.how in {"declined", "disputed"}


FOLDERS = LabelFormat("-by-class", write_folders, takes=_is_answered)
HUGGING_FACE = LabelFormat("-dataset", write_hugging_face, takes=_is_labelled)
