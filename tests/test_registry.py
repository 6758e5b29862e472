import pytest

from dfal.errors import DfalError
from dfal.registry import Entry, Registry

THINGS: Registry[object] = Registry(
    "thing",
    {
        "path": Entry("pathlib:Path", "a path"),
        "gone": Entry("no_such_module:thing", "what cannot be imported"),
    },
)


def test_names_and_help_import_nothing() -> None:
    assert list(THINGS) == ["path", "gone"]
    assert (len(THINGS), "gone" in THINGS, "none" in THINGS) == (2, True, False)
    assert THINGS.about("gone") == "what cannot be imported"
    with pytest.raises(ModuleNotFoundError):
        THINGS["gone"]


def test_a_thing_is_what_its_target_names() -> None:
    import pathlib

    assert THINGS["path"] is THINGS.get("path") is pathlib.Path
    assert (THINGS.get("none"), THINGS.get("none", 3)) == (None, 3)


def test_the_nearest_name_is_offered() -> None:
    for wrong in (THINGS.__getitem__, THINGS.about, THINGS.entry):
        with pytest.raises(DfalError, match="there is no thing 'paht': did you mean 'path'"):
            wrong("paht")
