"""The files of a folder, which of them are images, and the shape that suits these."""

import os
import re
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from dfal.data.image_files import GREY, header
from dfal.errors import DfalError
from dfal.stats.sampling import evenly_spaced

ENDINGS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff"})
"""Files that are taken for images; what they really are, Pillow finds out."""
GONE = "it is no longer there"
UNLISTED = "it cannot be listed"
DEFAULT_SIDE = 64
"""Pixels of a side of the network's images, where those of the folder differ."""
MAX_OWN_SIDE = 128
"""Pixels of a side up to which images keep their size, where all have the same."""
SYSTEM_NAMES = frozenset(
    {
        *("@eadir", "@tmp", "@recycle", "#recycle", "#snapshot"),
        *("$recycle.bin", "$extend", "recycler", "recycled", "system volume information"),
        *("__macosx", "network trash folder", "temporary items", "lost+found", "icon\r"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini"),
    }
)
"""Folders and files that systems and network drives write, in lower case. Hidden ones need no name
here."""
DISK_CHECK_FOLDER = re.compile(r"found\.\d{3}")
"""The name of a folder of what Windows found when it checked a disk."""
SAMPLED_HEADERS = 64
"""Headers read to determine the size and the channels of a folder."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a folder. Another size or time of change means another content.

    Attributes:
        path: relative to the folder, with "/".
        size: in bytes.
        modified: in nanoseconds since 1970.
    """

    path: str
    size: int
    modified: int


@dataclass(frozen=True)
class Listing:
    """The content of a folder and its sub-folders.

    Attributes:
        entries: its images, sorted by path.
        unreadable: path → reason, of files and folders that cannot be read.
        others: ending → number of files that are no images.
    """

    entries: list[Entry]
    unreadable: dict[str, str]
    others: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, folder: Path) -> "Listing":
        """List the images of a folder and its sub-folders.

        Hidden files and folders are left out, those of systems (`SYSTEM_NAMES`), and links to
        folders, which may go round in circles.

        Raises:
            DfalError: where it is not there, cannot be read, or holds no image.
        """
        if not folder.exists():
            raise DfalError(f"there is no folder {folder}: name one that is there")
        if not folder.is_dir():
            raise DfalError(f"{folder} is a file, but a folder of images is needed")
        entries, unreadable, others = [], {}, Counter[str]()
        to_list = [""]
        while to_list:
            inside = to_list.pop()
            try:
                files = list(os.scandir(folder / inside))
            except OSError as error:
                unreadable[inside or "."] = f"{UNLISTED} ({error.strerror})"
                continue
            for file in files:
                path = f"{inside}/{file.name}" if inside else file.name
                if is_hidden(file.name):
                    continue
                if file.is_dir(follow_symlinks=False):
                    to_list.append(path)
                elif (ending := _ending(file.name)) not in ENDINGS:
                    others[ending or "no ending"] += 1
                else:
                    try:
                        status = file.stat()
                    except OSError:  # a link to nothing
                        unreadable[path] = GONE
                        continue
                    # Reading from anything but a regular file might wait for ever.
                    if stat.S_ISREG(status.st_mode):
                        entries.append(Entry(path, status.st_size, status.st_mtime_ns))
        if not entries:
            raise _no_images(folder, others, len(unreadable))
        return cls(sorted(entries, key=lambda entry: entry.path), unreadable, others)


def _no_images(folder: Path, others: Counter[str], unreadable: int) -> DfalError:
    content = "it is empty"
    if others:
        content = f"it holds {count_names(others)}"
    elif unreadable:
        content = f"{unreadable} could not be read"
    return DfalError(f"{folder} holds no image that is JPEG, PNG, WebP, GIF or TIFF: {content}")


def count_names(names: Counter[str]) -> str:
    """Name the five most common names, each with its number: "3 .txt, 1 .md"."""
    return ", ".join(f"{count} {name}" for name, count in names.most_common(5)) + (
        " …" if len(names) > 5 else ""
    )


def side_and_channels(folder: Path, entries: list[Entry]) -> tuple[int, int]:
    """Return the side in pixels and the channels that suit a folder, from a sample of headers."""
    sample = (entries[place] for place in evenly_spaced(len(entries), SAMPLED_HEADERS))
    headers = [read for entry in sample if (read := header(folder / entry.path))]
    sizes = {size for size, _ in headers}
    modes = {mode for _, mode in headers}
    (width, height), *more = sizes or {(0, 1)}
    alike = not more and width == height and width <= MAX_OWN_SIDE
    return width if alike else DEFAULT_SIDE, 1 if modes and modes <= GREY else 3


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or written by a system and not by a person."""
    return (
        name.startswith(".")
        or name.casefold() in SYSTEM_NAMES
        or bool(DISK_CHECK_FOLDER.fullmatch(name.casefold()))
    )


def is_listable(path: str) -> bool:
    """Return whether a listing may have a path: an image by its ending, in no hidden folder."""
    return _ending(path.rpartition("/")[2]) in ENDINGS and not any(
        is_hidden(name) for name in path.split("/")
    )


def _ending(name: str) -> str:
    """Return the ending of a file's name in lower case, with its dot; empty where it has none."""
    return "".join(name.rpartition(".")[1:]).lower() if "." in name else ""
