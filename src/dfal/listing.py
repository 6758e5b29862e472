"""What a folder of images holds: its files, which of them are images, and what is known of them without decoding any."""

import csv
import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dfal.pictures import GREY, header
from dfal.types import DfalError

ENDINGS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff"})
"""Files that are taken for images; what they really are, Pillow finds out."""
GONE = "it is no longer there"
SIZE = 64
"""Side of the network's images, where the folder's own differ."""
OWN = 128
"""Up to this side, images that are all alike keep their size."""
PARTS = frozenset({"train", "training", "test", "val", "valid", "validation"})
"""Sub-folders that are parts of a data set, and no classes."""
SAMPLE = 64
"""Headers read to learn the size and the channels of a folder."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file as the folder lists it. Another size or time means another content."""

    path: str
    size: int
    modified: int


@dataclass(frozen=True)
class Listing:
    """What a folder holds: its images, sorted by path, what could not be read, and how many files of other kinds there are."""

    entries: list[Entry]
    unreadable: dict[str, str]
    others: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, folder: Path) -> "Listing":
        """List a folder. Hidden files and folders are left out, links to folders too: they may go round in circles.

        Raises:
            DfalError: where it is not there, cannot be read, or holds no image.
        """
        if not folder.exists():
            raise DfalError(f"there is no folder {folder}: name one that is there")
        if not folder.is_dir():
            raise DfalError(f"{folder} is a file, but a folder of images is needed")
        entries, unreadable, others = [], {}, Counter[str]()
        waiting = [""]
        while waiting:
            inside = waiting.pop()
            try:
                found = list(os.scandir(folder / inside))
            except OSError as error:
                unreadable[inside or "."] = f"it cannot be listed ({error.strerror})"
                continue
            for one in found:
                path = f"{inside}/{one.name}" if inside else one.name
                if one.name.startswith("."):
                    continue
                if one.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif (ending := "".join(one.name.rpartition(".")[1:]).lower()) not in ENDINGS:
                    others[ending if "." in ending else "no ending"] += 1
                else:
                    try:
                        status = one.stat()
                    except OSError:  # a link to nothing
                        unreadable[path] = GONE
                        continue
                    if stat.S_ISREG(status.st_mode):  # reading from anything else might wait for ever
                        entries.append(Entry(path, status.st_size, status.st_mtime_ns))
        if not entries:
            held = counted(others)
            held = f"it holds {held}" if held else f"{len(unreadable)} could not be read" if unreadable else "it is empty"
            raise DfalError(f"{folder} holds no image that is JPEG, PNG, WebP, GIF or TIFF: {held}")
        return cls(sorted(entries, key=lambda entry: entry.path), unreadable, others)


def counted(others: Counter[str]) -> str:
    """The commonest of some names, each with how often it is there."""
    return ", ".join(f"{count} {name}" for name, count in others.most_common(5)) + (" …" if len(others) > 5 else "")


def natural(folder: Path, entries: list[Entry]) -> tuple[int, int]:
    """Side and channels that suit a folder, from the headers of a sample that is spread over it."""
    places = np.linspace(0, len(entries) - 1, min(SAMPLE, len(entries))).round().astype(int)
    headers = [found for place in places if (found := header(folder / entries[place].path))]
    sizes = {size for size, _ in headers}
    modes = {mode for _, mode in headers}
    (width, height), *more = sizes or {(0, 1)}
    alike = not more and width == height and width <= OWN
    return width if alike else SIZE, 1 if modes and modes <= GREY else 3


def from_folders(paths: tuple[str, ...]) -> dict[int, str]:
    """index → the name of the first sub-folder; of the second, where the first are the parts of a data set."""
    level = 1 if in_parts(paths) else 0
    names = {index: path.split("/") for index, path in enumerate(paths)}
    return {index: name[level] for index, name in names.items() if len(name) > level + 1}


def in_parts(paths: Iterable[str]) -> bool:
    """Whether the first sub-folders are the parts of a data set, and no classes."""
    return {path.split("/", 1)[0].casefold() for path in paths} <= PARTS


def from_csv(file: Path, folder: Path, paths: tuple[str, ...]) -> dict[int, str]:
    """index → class as the CSV says. Rows without a label are left out; paths may be absolute, or have backslashes."""
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as text:
            rows = csv.DictReader(text)
            rows.fieldnames = [name.strip().casefold() for name in rows.fieldnames or ()]
            if not {"path", "label"} <= set(rows.fieldnames):
                said = ",".join(rows.fieldnames)[:80]
                raise DfalError(
                    f"{file} has no columns path and label, separated by commas, but {said!r}: write them in its first line"
                )
            given = [(row["path"] or "", (row["label"] or "").strip()) for row in rows]
            if any("\udc80" <= letter <= "\udcff" for _, label in given for letter in label):
                raise DfalError(f"{file} is not written in UTF-8: save it as that")
    except OSError as error:
        raise DfalError(f"the labels {file} cannot be read ({error.strerror}): name a CSV that is there") from None
    except csv.Error as error:
        raise DfalError(f"the labels {file} are no CSV ({error}): write the columns path and label") from None
    index = {path: at for at, path in enumerate(paths)}
    whole = f"{folder.resolve().as_posix()}/"
    known: dict[int, str] = {}
    for path, label in given:
        plain = path if path in index else path.replace("\\", "/").removeprefix(whole).removeprefix("./")
        if plain not in index:
            raise DfalError(f"{file} names {path!r}, which is not in {folder}: paths are relative to the folder")
        if label and known.setdefault(index[plain], label) != label:
            raise DfalError(f"{file} gives {path!r} two labels, {known[index[plain]]!r} and {label!r}: leave one")
    return known
