"""Files by their addresses: paths of this machine, and all that fsspec opens."""

import contextlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfal.errors import DfalError, first_line

HUB = "hf:"
"""What stands before a name of the Hugging Face hub."""
FUNCTION = re.compile(r"(?!hf:)[^\W\d][\w.]*:[^\W\d][\w.]*")
"""The name of a function: package.module:function."""
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
"""A range of numbers in the name of shards: {000..009}."""


CHANGES = ("mtime", "ETag", "etag", "LastModified", "created", "crc32", "CRC")
"""What file systems say of a file that is another where it has changed."""


@dataclass(frozen=True)
class File:
    """A file on any file system that fsspec knows.

    Attributes:
        system: the file system of fsspec; None for this machine's.
        path: of the file in it.
    """

    system: Any
    path: str

    def read(self) -> bytes:
        """Return the content.

        Raises:
            DfalError: where it cannot be read.
        """
        with reading(self.path):
            if self.system is None:
                return Path(self.path).read_bytes()
            content: bytes = self.system.cat_file(self.path)
            return content

    def open(self) -> Any:
        """Open the file for reading at any place.

        Raises:
            DfalError: where it cannot be opened.
        """
        with reading(self.path):
            return (self.system or _this_machine()).open(self.path, "rb")

    @property
    def key(self) -> str:
        """Return a text that is another one where the file has changed."""
        with reading(self.path):
            if self.system is None:
                status = Path(self.path).stat()
                return f"{self.path} {status.st_size} {status.st_mtime_ns}"
            info = self.system.info(self.path)
        changed = next((str(info[name]) for name in CHANGES if info.get(name) is not None), "")
        return f"{self.path} {info.get('size')} {changed}"


def key_of(files: Iterable[File]) -> str:
    """Return a text that is another one where one of some files has changed."""
    return "\n".join(file.key for file in files)


@contextlib.contextmanager
def reading(address: str) -> Iterator[None]:
    """Turn whatever a file system raises into one sentence.

    Raises:
        DfalError: for any error.
    """
    try:
        yield
    except DfalError:
        raise
    except ImportError as error:  # fsspec names the package that it lacks
        raise DfalError(f"{address} cannot be opened: {first_line(error)}") from None
    except FileNotFoundError:
        raise DfalError(f"there is no file or folder {address}: name one that is there") from None
    except Exception as error:  # of any file system, each with errors of its own
        raise DfalError(
            f"{address} cannot be read ({first_line(error)}): see that it is there and that you may"
            " read it"
        ) from error


def is_address(name: str) -> bool:
    """Return whether a name is an address with a protocol, and no path of this machine."""
    return "://" in name


def is_pattern(name: str) -> bool:
    """Return whether a path stands for several files: with * or {000..009}."""
    return not is_address(name) and ("*" in name or BRACES.search(name) is not None)


def is_function(name: str) -> bool:
    """Return whether a name is that of a function, package.module:function."""
    return FUNCTION.fullmatch(name) is not None


def is_path(name: str) -> bool:
    """Return whether a name can be a path of this machine, by its form alone."""
    return not (is_address(name) or is_pattern(name) or name.startswith(HUB) or is_function(name))


def expand(name: str) -> list[str]:
    """Return the names that stand for one with ranges of numbers: a-{00..01} is a-00 and a-01."""
    parts = BRACES.split(name)
    texts, ranges = parts[::3], list(zip(parts[1::3], parts[2::3], strict=True))
    numbers = [
        [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
        for first, last in ranges
    ]
    return [
        "".join(itertools.chain(*itertools.zip_longest(texts, chosen, fillvalue="")))
        for chosen in itertools.product(*numbers)
    ]


def files(name: str, ending: str = "") -> list[File]:
    """Return the files of an address: one, those of a range or pattern, or all of a folder.

    Args:
        name: a path or an address of fsspec, with * or {000..009} where it stands for several.
        ending: of the files of a folder.

    Raises:
        DfalError: where there is none, and where the address cannot be opened.
    """
    found: list[File] = []
    for one in expand(name):
        with reading(one):
            system, path = file_system(one)
            if any(mark in path for mark in "*?["):
                inside = sorted(system.glob(path))
            elif system.isdir(path):
                inside = [file for file in sorted(system.find(path)) if file.endswith(ending)]
            elif system.exists(path):
                inside = [path]
            else:
                raise FileNotFoundError(one)
            found += [File(None if is_local(system) else system, file) for file in inside]
    if not found:
        raise DfalError(f"there is no file {name}: name one that is there")
    return found


def file_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it; FILE.zip is the folder in it."""
    from fsspec.core import url_to_fs

    if not is_address(address):
        address = os.path.abspath(address)  # noqa: PTH100  links stay
    if address.endswith(".zip"):
        address = f"zip://::{address}"
    system, path = url_to_fs(address)
    return system, path


def _this_machine() -> Any:
    """Return the file system of this machine, whose files are closed when they are forgotten."""
    import fsspec

    return fsspec.filesystem("file")


def is_local(system: Any) -> bool:
    """Return whether a file system is this machine's own."""
    return "file" in (system.protocol if isinstance(system.protocol, tuple) else (system.protocol,))


def absolute(name: str) -> str:
    """Return a path as an absolute one, and an address as it is."""
    return name if is_address(name) else str(Path(os.path.abspath(name)))  # noqa: PTH100  links stay
