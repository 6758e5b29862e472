"""Collect the photographs of the screenshots, which anybody may publish.

Usage, with Debian's package gcompris-qt-data 3.1, whose photographs name their authors:

    apt-get download gcompris-qt-data && dpkg-deb -x gcompris-qt-data_*.deb package
    python docs/free_photographs.py package photographs

It writes the photographs that are in the public domain or under CC0 into a folder for each class,
and docs/pictures/README.md, which names the author and the source of each.
"""

import re
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CLASSES = {
    "categorization.rcc:images/fishes": "fish",
    "categorization.rcc:images/monuments": "monument",
    "categorization.rcc:images/tools": "tool",
    "categorization.rcc:images/renewable/windmill": "windmill",
    "explore_monuments.rcc:resource/": "monument",
}
"""A file of the package, and how the paths in it begin → the class."""
FREE = {"Public Domain": "public domain", "CC0-1.0": "CC0 1.0"}
"""Licences that are taken, and how they are listed."""
OUT = Path(__file__).parent / "pictures" / "README.md"
HEAD = """# Pictures

The pictures of the page and of the terminal (`*.webp`) are made by `python docs/screenshots.py
FOLDER`, from the photographs below. They come with GCompris (Debian's package gcompris-qt-data),
whose notes name their authors and say that they are in the public domain or under CC0 1.0. `python
docs/free_photographs.py` collects them.

| class | photograph | author | licence | source |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Credit:
    """Whose a photograph is.

    Attributes:
        author, licence, source: as the package says.
    """

    author: str
    licence: str
    source: str


def main(package: Path, out: Path) -> None:
    """Collect the photographs."""
    rows = []
    for source, label in CLASSES.items():
        name, _, start = source.partition(":")
        files = dict(entries((package / "usr/share/gcompris-qt/rcc" / name).read_bytes()))
        credits = dict(credited(files))
        for path, content in sorted(files.items()):
            credit = credits.get(path)
            if start not in path or not path.endswith(".webp") or credit is None:
                continue
            if credit.licence not in FREE:
                continue
            place = out / label / f"{len(rows):03}.webp"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            cells = (label, Path(path).stem, credit.author, FREE[credit.licence], credit.source)
            rows.append(f"| {' | '.join(cells)} |\n")
    OUT.write_text(HEAD + "".join(rows))
    print(f"{len(rows)} photographs in {out}")


def credited(files: dict[str, bytes]) -> Iterator[tuple[str, Credit]]:
    """Yield the path of each file that a README credits, with its credit."""
    for readme in (path for path in files if path.endswith("README")):
        for paragraph in re.split(r"\n(?=Copyright:)", files[readme].decode()):
            fields = dict(re.findall(r"^(Copyright|License|Source): *(.*?) *$", paragraph, re.M))
            if len(fields) == 3:
                credit = Credit(fields["Copyright"], fields["License"], fields["Source"])
                for name in re.findall(r"^\S+\.webp$", paragraph, re.M):
                    yield f"{readme.removesuffix('README')}{name}", credit


def entries(rcc: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each file in a resource file of Qt."""
    version, tree, data, names = struct.unpack(">IIII", rcc[4:20])
    size = 22 if version >= 2 else 14

    def walk(node: int, folder: str) -> Iterator[tuple[str, bytes]]:
        at = tree + node * size
        name_at, flags = struct.unpack(">IH", rcc[at : at + 6])
        (length,) = struct.unpack(">H", rcc[names + name_at : names + name_at + 2])
        start = names + name_at + 6
        path = folder + rcc[start : start + 2 * length].decode("utf-16-be") if node else ""
        if flags & 2:  # a folder
            count, first = struct.unpack(">II", rcc[at + 6 : at + 14])
            for child in range(first, first + count):
                yield from walk(child, f"{path}/" if path else "")
            return
        (place,) = struct.unpack(">I", rcc[at + 10 : at + 14])
        (length,) = struct.unpack(">I", rcc[data + place : data + place + 4])
        content = rcc[data + place + 4 : data + place + 4 + length]
        yield path, zlib.decompress(content[4:]) if flags & 1 else content

    yield from walk(0, "")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
