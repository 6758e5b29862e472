"""What the sub-folders of a folder say about its images: classes, and parts of a data set."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dfal.data.path_names import class_key, nfc

PART_NAMES = frozenset({"train", "training", "test", "val", "valid", "validation"})
"""Sub-folders that are parts of a data set, and no classes."""


@dataclass(frozen=True)
class Layout:
    """The class and the part of a data set that each image has by its folder.

    Attributes:
        classes: index → class, in NFC, of the images below a folder of a class.
        parts: index → the part of the data set, in lower case; empty where the folder has no parts.
        beside: folder → number of images, of the folders next to the parts; these images are in no
            part and have no class.
    """

    classes: dict[int, str]
    parts: dict[int, str]
    beside: Counter[str]

    @classmethod
    def of(cls, paths: Sequence[str], named: Collection[str] = ()) -> "Layout":
        """Arrange paths by their folders.

        The first sub-folders are the classes. A single folder with several below it is what an
        archive was unpacked into: the classes are searched inside it. Where the sub-folders are the
        parts of a data set, the classes are their sub-folders. Files next to sub-folders have no
        class.

        Args:
            paths: of the images, with "/".
            named: names of known classes: a folder with such a name is a class.
        """
        folders = [tuple(map(nfc, path.split("/")[:-1])) for path in paths]
        known = {class_key(name) for name in named}
        level, parts = _class_level(folders, 0, known)
        if not parts:
            return cls(
                {index: names[level] for index, names in enumerate(folders) if len(names) > level},
                {},
                Counter(),
            )
        part_of = {
            index: names[level].casefold()
            for index, names in enumerate(folders)
            if len(names) > level and names[level].casefold() in PART_NAMES
        }
        inner, _ = _class_level(
            [folders[index] for index in part_of], level + 1, known, with_parts=False
        )
        others = (
            names[level]
            for index, names in enumerate(folders)
            if len(names) > level and index not in part_of
        )
        return cls(
            {index: folders[index][inner] for index in part_of if len(folders[index]) > inner},
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
    """Return the level of the classes or of the parts of a data set, and whether it is of parts.

    Args:
        folders: of each image, the names of its folders, outermost first.
        start: the level to begin at, from 0.
        known: the keys of known classes (`class_key`).
        with_parts: whether parts of a data set are looked for.
    """
    level = start
    while True:
        below = [names for names in folders if len(names) > level]
        here = {names[level] for names in below}
        if any(class_key(name) in known for name in here):
            return level, False
        if with_parts and _are_parts(below, level):
            return level, True
        if len(here) > 1:
            return level, False
        if 2 * sum(len(names) > level + 1 for names in below) <= len(below):
            return start, False  # most images lie here, or none: there is nothing to go down to
        level += 1


def _are_parts(below: Sequence[tuple[str, ...]], level: int) -> bool:
    """Return whether folders are the parts of a data set.

    All of them are, or those with sub-folders where other folders lie next to them.
    """
    here = {names[level].casefold() for names in below}
    parts = here & PART_NAMES
    if here <= PART_NAMES:
        return bool(parts)
    deep = {names[level].casefold() for names in below if len(names) > level + 1} & PART_NAMES
    return bool(deep & {"train", "training"}) or len(deep) > 1
