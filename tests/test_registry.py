from typing import Any

import pytest

from dfal.attacks import ATTACKS
from dfal.cli.commands import COMMANDS
from dfal.data.datasets import DATASETS
from dfal.errors import DfalError
from dfal.labelling.export import FORMATS
from dfal.nn import NETWORKS
from dfal.registry import Entry, Registry
from dfal.reproduce.settings import ARTEFACTS, PRESETS
from dfal.strategies import STRATEGIES

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


OTHER_WORDS = {
    "core-set-robust": "RobustCoreSet",
    "dfal-batch": "BatchDFAL",
    "dfal-batch-no-twins": "BATCH_DFAL_NO_TWINS",
    "uncertainty": "Entropy",
    "uncertainty-released": "ENTROPY_RELEASED",
}
"""Names whose targets are not spelled like them."""


@pytest.mark.parametrize(
    "registry",
    [ARTEFACTS, ATTACKS, COMMANDS, DATASETS, FORMATS, NETWORKS, PRESETS, STRATEGIES],
    ids=lambda registry: registry.kind,
)
def test_targets_are_spelled_like_their_names(registry: Registry[Any]) -> None:
    for name in registry:
        module, _, target = registry.entry(name).target.partition(":")
        if target in {"", "CARD"}:
            target = module.rpartition(".")[2]
        wanted = OTHER_WORDS.get(name, name.replace("-", ""))
        assert target.replace("_", "").lower() == wanted.replace("_", "").lower(), name
