"""Check what people write: names of classes, their own names, notes.

Each is refused with a sentence or comes out tidy.
"""

import re
import unicodedata
from collections.abc import Sequence

from dfal.errors import DfalError
from dfal.spreadsheet import is_formula

MAX_NAME_LENGTH = 60
"""Characters of a name."""
MAX_NOTE_LENGTH = 1000
"""Characters of a note."""
FORBIDDEN = '<>:"/\\|?*'
"""A class becomes a folder when labels are exported, and these no folder may hold everywhere."""
NO_LABEL_FOLDER = "_declined"
"""The folder of images that people skipped, or that they could not agree about."""
RESERVED = frozenset(
    {
        NO_LABEL_FOLDER,
        "con",
        "prn",
        "aux",
        "nul",
        *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)),
    }
)
"""Names that no class may have: Windows keeps most of them for itself."""
ZERO_WIDTH_NON_JOINER, ZERO_WIDTH_JOINER = "\u200c", "\u200d"
JOINING = (
    "\u0600-\u08ff\u0900-\u0dff\u0f00-\u0fff\u1000-\u109f\u1780-\u18af\ufb50-\ufdff\ufe70-\ufefe"
    "\U00010a00-\U00011fff"
)
"""Letters of scripts whose words have joiners: Arabic and Persian, Indic ones, Tibetan, Burmese,
Khmer, Mongolian."""
JOINED = re.compile(f"(?<=[{JOINING}])[{ZERO_WIDTH_NON_JOINER}{ZERO_WIDTH_JOINER}](?=[{JOINING}])")
"""Joiners where they change how a word is written."""
BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that show nothing."""


def class_name(name: str, others: Sequence[str] = ()) -> str:
    """Return the name of a class, tidy.

    Args:
        name: as somebody wrote it.
        others: the other classes.

    Raises:
        DfalError: for a name that is empty, too long, not possible for a folder, with a comma, or
            the same as one of `others` but for case.
    """
    tidy = _tidy(name, "the class name")
    if "," in tidy:
        raise DfalError(f"the class name {shown(tidy)} has a comma: give each class by itself")
    strange = next((letter for letter in tidy if letter in FORBIDDEN), None)
    if strange:
        raise DfalError(
            f"the class name {shown(tidy)} has {strange!r}, which no folder may have in its name:"
            " leave it out"
        )
    if tidy.startswith(".") or is_formula(tidy) or tidy.endswith("."):
        raise DfalError(
            f"the class name {shown(tidy)} must neither begin with one of . - = + @ nor end with"
            " a dot"
        )
    if tidy.casefold() in RESERVED:
        raise DfalError(
            f"the class name {shown(tidy)} is not a name that a folder may have everywhere:"
            " change it a little"
        )
    for other in others:
        if other.casefold() == tidy.casefold():
            raise DfalError(
                f"there is a class {other!r} already: leave out {tidy!r}"
                if other == tidy
                else f"the classes {other!r} and {tidy!r} are alike but for case: one is enough"
            )
    return tidy


def class_names(names: Sequence[str]) -> list[str]:
    """Return the names of several classes, tidy and all different."""
    tidy: list[str] = []
    for name in names:
        tidy.append(class_name(name, tidy))
    return tidy


def person_name(name: str) -> str:
    """Return a person's name, tidy.

    Raises:
        DfalError: for a name that is empty, too long, or that a spreadsheet would run as a formula
            once labels are exported.
    """
    tidy = _tidy(name, "the name of a person")
    if is_formula(tidy):
        raise DfalError(
            f"the name of a person {shown(tidy)} must not begin with one of = + - @: begin with a"
            " letter"
        )
    return tidy


def note(text: str) -> str:
    """Return a note of one line or several, tidy; it may be empty.

    Raises:
        DfalError: for a note that is too long or has characters that cannot be shown.
    """
    tidy = unicodedata.normalize("NFC", text).strip()
    if len(tidy) > MAX_NOTE_LENGTH:
        raise DfalError(f"the note has {len(tidy)} characters: {MAX_NOTE_LENGTH} are enough")
    if _has_hidden(tidy.replace("\n", " ").replace("\t", " ")):
        raise DfalError("the note has characters that cannot be shown: leave them out")
    return tidy


def shown(name: str) -> str:
    """Quote a name for a sentence, cut to the length of a line."""
    return repr(name if len(name) <= MAX_NAME_LENGTH else name[:20] + "…")


def _tidy(name: str, what: str) -> str:
    if not isinstance(name, str):
        raise DfalError(f"{what} {name!r} is not text")
    tidy = " ".join(unicodedata.normalize("NFC", name).split())
    if not tidy:
        raise DfalError(f"{what} is empty: give it a letter at least")
    if len(tidy) > MAX_NAME_LENGTH:
        raise DfalError(
            f"{what} {shown(tidy)} has {len(tidy)} characters: {MAX_NAME_LENGTH} are enough"
        )
    if _has_hidden(tidy):
        raise DfalError(f"{what} {shown(tidy)} has characters that cannot be shown: leave them out")
    return tidy


def _has_hidden(text: str) -> bool:
    """Return whether a text has invisible characters, but for joiners."""
    text = JOINED.sub("", text)
    for place, letter in enumerate(text):
        before, after = text[place - 1 : place], text[place + 1 : place + 2]
        if letter == ZERO_WIDTH_JOINER:
            if not (before and after and _is_emoji(before) and unicodedata.category(after) == "So"):
                return True
        elif _selects(letter):
            if not before or before.isspace() or _selects(before):
                return True
        elif letter in BLANK or unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Co", "Cn"}:
            return True
    return False


def _is_emoji(letter: str) -> bool:
    """Return whether a joiner may follow: an emoji, a skin tone, or a variation selector."""
    return unicodedata.category(letter) in {"So", "Sk"} or letter == "\ufe0f"


def _selects(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith("VARIATION SELECTOR")
