"""Data in files and folders: under which name a store has them, and where they are now."""

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dfal.data import datasets
from dfal.data.sources.addresses import absolute, is_path, is_pattern
from dfal.errors import DfalError
from dfal.experiments.provenance import place_in
from dfal.experiments.store import Store


def stored_name(given: str, store: Path) -> str:
    """Return the name of a data set in a store: an absolute path for a file or folder.

    Data that the store has under another path, say a relative one or that from which they were
    moved, keep that name, and are
    read from where they are now: they are known by their fingerprint.
    """
    if given in datasets.DATASETS or not given or not is_path(given):
        return absolute(given) if is_pattern(given) else given
    if not Path(given).exists():
        return given
    here = _absolute(given)
    names = _fingerprints(store)
    if not names:
        return here
    found = datasets.load(here).fingerprint
    same = [name for name, fingerprint in names.items() if fingerprint == found]
    name = next((one for one in (here, given, *same) if one in same), None)
    name = name or next((one for one in names if _absolute(one) == here), here)
    if name != here:
        datasets.move(datasets.PLACES | {name: here})
    return name


def find_again(names: Iterable[str], store: Path, given: str | None) -> None:
    """Find the data of a store that is resumed: where `given` says, or where they were last.

    Raises:
        DfalError: where other data are given, or data are no longer there.
    """
    wanted = set(names)
    if given is not None and stored_name(given, store) not in wanted:
        raise DfalError(
            f"{given} is not the data set that {store} was made with: name the place of"
            f" {', '.join(sorted(wanted))}"
        )
    for name in sorted(wanted - datasets.PLACES.keys() - datasets.DATASETS.keys()):
        with Store(store) as opened:
            place = place_in(opened, name)
        if place is not None:
            datasets.move(datasets.PLACES | {name: place})
        elif is_path(name) and not Path(name).exists():
            raise DfalError(
                f"the data set {name} of {store} is no longer there: say --dataset with the path"
                " where it is now"
            )


def absolute_files(strategy: Any, store: Path) -> Any:
    """Return a strategy whose embeddings are named by their absolute paths.

    Paths that a store has keep their form.
    """
    if not dataclasses.is_dataclass(strategy) or isinstance(strategy, type):
        return strategy
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(strategy):
        value = getattr(strategy, field.name)
        if field.name == "space" and isinstance(value, str) and value.endswith(".npy"):
            text = f'"space": {json.dumps(value)}'
            if not any(text in configuration for configuration in _configurations(store)):
                changes[field.name] = _absolute(value)
        elif (inner := absolute_files(value, store)) is not value:
            changes[field.name] = inner
    return dataclasses.replace(strategy, **changes) if changes else strategy


def _absolute(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100  links stay: what they lead to may move


def _fingerprints(store: Path) -> dict[str, str]:
    """Return the files and folders that a store has data of, with their fingerprints."""
    if not store.is_file() or not store.stat().st_size:
        return {}
    with Store(store) as opened:
        runs = opened.environments()
    return {
        name: fingerprint
        for run in runs
        for name, fingerprint in run["data"].items()
        if name not in datasets.DATASETS
    }


def _configurations(store: Path) -> list[str]:
    if not store.is_file() or not store.stat().st_size:
        return []
    with Store(store) as opened:
        return list(opened.trials().values())
