"""Names in every script and with emoji; characters that nobody sees only where they change what is
seen."""

import unicodedata

import pytest

from dfal.errors import DfalError
from dfal.labelling.names import class_name, class_names, note, person_name

GOOD = {
    "Persian with a non-joiner": "می\u200cخواهم",
    "Persian with two": "کتاب\u200cخانه\u200cها",
    "Sinhala with a joiner": "ක්\u200dෂ",
    "Devanagari with a joiner": "क्\u200dष",
    "Malayalam with a non-joiner": "ന്\u200cന",
    "a family": "👨\u200d👩\u200d👧",
    "an engineer of some colour": "👩🏽\u200d🔬",
    "a heart in colours": "❤\ufe0f",
    "a heart on fire": "❤\ufe0f\u200d🔥",
    "a rainbow flag": "🏳\ufe0f\u200d🌈",
    "a flag of letters": "🇮🇷",
    "a key": "1\ufe0f⃣",
    "with words": "cat 👩\u200d🔬",
    "combining accents": "ế",
    "Hangul": "고양이",
    "Thai": "แมว",
}
BAD = {
    "a non-joiner between Latin letters": "c\u200cat",
    "a joiner between Latin letters": "c\u200dat",
    "a non-joiner at the beginning": "\u200cمی",
    "a non-joiner at the end": "می\u200c",
    "a non-joiner before a blank": "می\u200c خواهم",
    "two in a row": "می\u200c\u200cخواهم",
    "a joiner behind an emoji": "👩\u200d",
    "a joiner between an emoji and a letter": "👩\u200da",
    "a joiner alone": "\u200d",
    "a selector alone": "\ufe0f",
    "a selector behind a blank": "cat \ufe0f",
    "two selectors": "❤\ufe0f\ufe0f",
    "a zero width space": "ca\u200bt",
    "a byte order mark": "ca\ufefft",
    "a soft hyphen": "ca\u00adt",
    "from right to left": "cat\u202egnp",
    "a mark of direction": "cat\u200f",
    "an empty Hangul letter": "cat\u3164",
    "an empty Braille letter": "\u2800",
    "a grapheme joiner": "ca\u034ft",
    "a control": "ca\x07t",
    "for private use": "\ue000",
    "half a pair": "\ud800",
    "a tag": "cat\U000e0041",
}


@pytest.mark.parametrize("what", GOOD)
def test_names_in_every_script(what: str) -> None:
    name = GOOD[what]
    composed = unicodedata.normalize("NFC", name)
    assert class_name(name) == person_name(name) == note(name) == composed
    assert class_name(composed) == composed  # tidy names stay
    assert note(f"{name}\n\t{name}") == f"{composed}\n\t{composed}"


@pytest.mark.parametrize("what", BAD)
def test_what_nobody_sees_is_refused(what: str) -> None:
    for check in (class_name, person_name, note):
        with pytest.raises(
            DfalError, match=r"has characters that cannot be shown|have characters|is empty"
        ):
            check(BAD[what])


def test_the_same_name_in_two_normal_forms_is_one() -> None:
    composed, apart = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    assert class_name(apart) == composed
    with pytest.raises(DfalError, match="there is a class 'Café' already"):
        class_names([composed, apart])
