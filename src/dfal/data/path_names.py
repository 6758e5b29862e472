"""Paths and names that may be written in several ways: accents, case and blanks."""

import unicodedata
from collections.abc import Iterable
from pathlib import Path


def nfc(text: str) -> str:
    """Compose the accents of a name: macOS and some archives write é as e and an accent."""
    return unicodedata.normalize("NFC", text)


def class_key(name: str) -> str:
    """Return what names of the same class share: not case, blanks, or how accents are written."""
    return nfc(" ".join(nfc(name).casefold().split()))


class PathIndex:
    """The index of each of some paths, which is found however their accents are written.

    A path that is there exactly as it is written comes first.
    """

    def __init__(self, paths: Iterable[str]):
        self._exact = {path: index for index, path in enumerate(paths)}
        self._composed: dict[str, int] | None = None

    def get(self, path: str) -> int:
        """Return the index of a path, or -1 where it is not there."""
        index = self._exact.get(path)
        if index is not None:
            return index
        if self._composed is None:
            self._composed = {}
            for exact, exact_index in self._exact.items():
                self._composed.setdefault(nfc(exact), exact_index)
        return self._composed.get(nfc(path), -1)


def find_file(folder: Path, path: str) -> Path:
    """Return the file of a path below a folder, where its accents may be written otherwise."""
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
