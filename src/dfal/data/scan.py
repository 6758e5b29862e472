"""What a folder of images holds: its files, which of them are images, and what is known of them
without decoding any."""

import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dfal.data.image_files import GREY, header
from dfal.data.table_files import read_table
from dfal.errors import DfalError
from dfal.stats.sampling import evenly_spaced

ENDINGS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff"})
"""Files that are taken for images; what they really are, Pillow finds out."""
GONE = "it is no longer there"
UNLISTED = "it cannot be listed"
SIZE = 64
"""Side of the network's images, where the folder's own differ."""
OWN = 128
"""Up to this side, images that are all alike keep their size."""
PARTS = frozenset({"train", "training", "test", "val", "valid", "validation"})
"""Sub-folders that are parts of a data set, and no classes."""
SYSTEM = frozenset(
    {
        *("@eadir", "@tmp", "@recycle", "#recycle", "#snapshot"),
        *("$recycle.bin", "$extend", "recycler", "recycled", "system volume information"),
        *("__macosx", "network trash folder", "temporary items", "lost+found", "icon\r"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini"),
    }
)
"""Folders and files that systems and network drives write beside a person's, in lower case. Hidden
ones need no name here."""
CHECKED = re.compile(r"found\.\d{3}")
"""Folders of what Windows found when it checked a disk."""
LABELS = frozenset({"given", "known"})
"""What the column `how` of an exported table says of a label; all else is a guess, or none."""
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
    """What a folder holds: its images, sorted by path, what could not be read, and how many files
    of other kinds there are."""

    entries: list[Entry]
    unreadable: dict[str, str]
    others: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, folder: Path) -> "Listing":
        """List a folder. Hidden files and folders are left out, those of systems (`SYSTEM`), and
        links to folders: they may go round in circles.

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
                unreadable[inside or "."] = f"{UNLISTED} ({error.strerror})"
                continue
            for one in found:
                path = f"{inside}/{one.name}" if inside else one.name
                if is_hidden(one.name):
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
                    if stat.S_ISREG(
                        status.st_mode
                    ):  # reading from anything else might wait for ever
                        entries.append(Entry(path, status.st_size, status.st_mtime_ns))
        if not entries:
            held = counted(others)
            held = (
                f"it holds {held}"
                if held
                else f"{len(unreadable)} could not be read"
                if unreadable
                else "it is empty"
            )
            raise DfalError(f"{folder} holds no image that is JPEG, PNG, WebP, GIF or TIFF: {held}")
        return cls(sorted(entries, key=lambda entry: entry.path), unreadable, others)


def counted(others: Counter[str]) -> str:
    """The commonest of some names, each with how often it is there."""
    return ", ".join(f"{count} {name}" for name, count in others.most_common(5)) + (
        " …" if len(others) > 5 else ""
    )


def natural(folder: Path, entries: list[Entry]) -> tuple[int, int]:
    """Side and channels that suit a folder, from the headers of a sample that is spread over it."""
    sample = (entries[place] for place in evenly_spaced(len(entries), SAMPLE))
    headers = [found for entry in sample if (found := header(folder / entry.path))]
    sizes = {size for size, _ in headers}
    modes = {mode for _, mode in headers}
    (width, height), *more = sizes or {(0, 1)}
    alike = not more and width == height and width <= OWN
    return width if alike else SIZE, 1 if modes and modes <= GREY else 3


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is hidden, or one that a system writes beside a person's."""
    return (
        name.startswith(".")
        or name.casefold() in SYSTEM
        or bool(CHECKED.fullmatch(name.casefold()))
    )


def is_listable(path: str) -> bool:
    """Tell whether a listing may hold this path: an image by its ending, and no part is hidden."""
    ending = "".join(path.rpartition(".")[1:]).lower()
    return ending in ENDINGS and not any(is_hidden(name) for name in path.split("/"))


def nfc(text: str) -> str:
    """Compose a name: macOS and some archives write é as e and an accent, and both are the same
    name."""
    return unicodedata.normalize("NFC", text)


def plain(name: str) -> str:
    """Reduce the name of a class to what makes it the same class: not case, blanks, or how accents
    are written."""
    return nfc(" ".join(nfc(name).casefold().split()))


class PathIndex:
    """Find the index of a path, however its accents are written. A path that is there as it is
    written comes first."""

    def __init__(self, paths: Iterable[str]):
        self._exact = {path: index for index, path in enumerate(paths)}
        self._composed: dict[str, int] | None = None

    def get(self, path: str, missing: int = -1) -> int:
        """Return the index of a path, or `missing`."""
        index = self._exact.get(path)
        if index is not None:
            return index
        if self._composed is None:
            self._composed = {}
            for known, place in self._exact.items():
                self._composed.setdefault(nfc(known), place)
        return self._composed.get(nfc(path), missing)


def find_file(folder: Path, path: str) -> Path:
    """Return the file of a path below a folder, under the name it has there: accents may be written
    otherwise."""
    file = folder / path
    if path.isascii() or file.exists():
        return file
    here = folder
    for name in path.split("/"):
        step = here / name
        if not step.exists():
            try:
                step = next(
                    (other for other in here.iterdir() if nfc(other.name) == nfc(name)), step
                )
            except OSError:
                return file
        here = step
    return here


@dataclass(frozen=True)
class Layout:
    """What the sub-folders of a folder say about its images.

    Attributes:
        classes: index → class, in NFC, of the images below a folder of a class.
        parts: index → the part of the data set, in lower case; empty where the folder has no parts.
        beside: folders beside the parts, and how many images are in each; they are in no part and
        have no class.
    """

    classes: dict[int, str]
    parts: dict[int, str]
    beside: Counter[str]

    @classmethod
    def of(cls, paths: Sequence[str], named: Collection[str] = ()) -> "Layout":
        """Arrange paths by their folders.

        The first sub-folders are the classes. Where there is one folder only, and several below it,
        it is what an archive was
        unpacked into: the search goes on inside. Where the sub-folders are the parts of a data set,
        the classes are theirs. Files beside sub-folders say nothing.

        Args:
            paths: of the images, with "/".
            named: names of classes that are known: a folder that is called as one of them is a
            class.
        """
        folders = [tuple(map(nfc, path.split("/")[:-1])) for path in paths]
        known = {plain(name) for name in named}
        level, parts = _class_level(folders, 0, known)
        if not parts:
            return cls(
                {at: names[level] for at, names in enumerate(folders) if len(names) > level},
                {},
                Counter(),
            )
        part_of = {
            at: names[level].casefold()
            for at, names in enumerate(folders)
            if len(names) > level and names[level].casefold() in PARTS
        }
        inner, _ = _class_level([folders[at] for at in part_of], level + 1, known, with_parts=False)
        others = (
            names[level]
            for at, names in enumerate(folders)
            if len(names) > level and at not in part_of
        )
        return cls(
            {at: folders[at][inner] for at in part_of if len(folders[at]) > inner},
            part_of,
            Counter(others),
        )


def _class_level(
    folders: Sequence[tuple[str, ...]],
    start: int,
    known: Collection[str],
    *,
    with_parts: bool = True,
) -> tuple[int, bool]:
    """Return the level of the classes, or of the parts of a data set, and whether it is the
    latter."""
    level = start
    while True:
        below = [names for names in folders if len(names) > level]
        here = {names[level] for names in below}
        if any(plain(name) in known for name in here):
            return level, False
        if with_parts and _are_parts(below, level):
            return level, True
        if len(here) > 1:
            return level, False
        if 2 * sum(len(names) > level + 1 for names in below) <= len(below):
            return start, False  # most images lie here, or none: there is nothing to go down to
        level += 1


def _are_parts(below: Sequence[tuple[str, ...]], level: int) -> bool:
    """Tell whether folders are the parts of a data set: all of them, or those that have sub-folders
    while others lie beside."""
    here = {names[level].casefold() for names in below}
    parts = here & PARTS
    if here <= PARTS:
        return bool(parts)
    deep = {names[level].casefold() for names in below if len(names) > level + 1} & PARTS
    return bool(deep & {"train", "training"}) or len(deep) > 1


@dataclass(frozen=True)
class LabelFile:
    """What a table of labels says.

    Attributes:
        known: index → class, in NFC.
        left_out: rows that give no label, by what their column `how` says.
    """

    known: dict[int, str]
    left_out: Counter[str]


def from_csv(file: Path, folder: Path, paths: Sequence[str]) -> LabelFile:
    """Read labels from a table with the columns path and label.

    Rows without a label are left out, and with a column `how`, as `dfal export` writes it, all that
    are neither `given` nor `known`. Paths may be absolute, have backslashes, and write their
    accents otherwise.

    Raises:
        DfalError: for a file that cannot be read, a path that is not in the folder, an image with
            two labels, and for a table of what a network said.
    """
    table = read_table(file, ("path", "label"), "the labels")
    if "confidence" in table.columns and "how" not in table.columns:
        raise DfalError(
            f"{file} is what a network said: it has a column confidence and no column how, and"
            " nobody gave these labels. Remove the column confidence to take them as labels all"
            " the same"
        )
    index = PathIndex(paths)
    whole = tuple(
        dict.fromkeys(
            f"{nfc(place.as_posix()).rstrip('/')}/"
            for place in (folder.resolve(), folder.absolute())
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
                    " path beside it"
                )
            continue
        place = _place_of(path, index, whole)
        if place < 0:
            raise DfalError(
                f"{file}, row {row.number} names {path!r}, which is not in {folder}: paths are"
                " relative to the folder"
            )
        if how not in LABELS:
            left_out[how or "nothing in the column how"] += 1
            continue
        if label and known.setdefault(place, label) != label:
            raise DfalError(
                f"{file}, row {row.number} gives {path!r} two labels, {known[place]!r} and"
                f" {label!r}: leave one"
            )
    return LabelFile(known, left_out)


def _place_of(path: str, index: PathIndex, whole: tuple[str, ...]) -> int:
    """Return the index of an image that a table names, or -1: as it is written, without blanks
    around it, or made relative."""
    for written in (path, path.strip()):
        if (place := index.get(written)) >= 0:
            return place
        relative = nfc(written.replace("\\", "/"))
        relative = next(
            (relative.removeprefix(start) for start in whole if relative.startswith(start)),
            relative,
        )
        if (place := index.get(relative.removeprefix("./"))) >= 0:
            return place
    return -1
