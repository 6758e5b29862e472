"""The trials of `dfal run`: new ones from its options, or those of a store that is resumed."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dfal.backbones.registry import WITH_PIXELS, is_registered
from dfal.cli.options import candidate_count, strategy_names
from dfal.cli.places import absolute_files, find_again, stored_name
from dfal.data.sources.addresses import is_function
from dfal.errors import DfalError, unknown_name
from dfal.experiments.recipes import recipes
from dfal.experiments.runner import check, prepare
from dfal.experiments.serialization import is_kind, to_json
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial
from dfal.nn.training_settings import Training
from dfal.plugins import unnamed_code
from dfal.strategies import STRATEGIES, name_of, named, with_candidates

__all__ = [
    "check",
    "latest_store",
    "new_store",
    "new_trials",
    "prepare",
    "recipe_settings",
    "refuse_unfinished",
    "refuse_unused",
    "stored_trials",
    "use_device",
]

CODE_OPTIONS = {
    "dataset": "data set",
    "model": "network",
    "backbone": "backbone",
    "fit": "training",
}
"""Options that may name code of the user's → what it is."""
RESUME_OPTIONS = {
    *("store", "resume", "device", "executor", "processes", "as_json", "quiet"),
    *CODE_OPTIONS,
}
"""Options that may stand beside --resume."""


def new_trials(
    path: Path,
    strategy: Sequence[str],
    candidates: str,
    seeds: int,
    configuration: Mapping[str, Any],
) -> list[Trial]:
    """Return a trial of each strategy and seed, seed by seed.

    Args:
        path: the store, which may know the data set under another path.
        strategy: names of strategies, several with commas.
        candidates: a number, or "all".
        seeds: how many.
        configuration: settings of `Trial` and of `Training`.

    Raises:
        DfalError: for a name that is not there, or a setting that cannot be.
    """
    configuration = {
        **configuration,
        "dataset": stored_name(configuration["dataset"], path),
        "device": use_device(configuration["device"]),
        "backbone": _absolute_backbone(configuration["backbone"]),
    }
    names = [field.name for field in dataclasses.fields(Training) if field.name in configuration]
    training = Training(**{name: configuration.pop(name) for name in names})
    chosen = [
        with_candidates(named(name, imports=True), candidate_count(candidates))
        for name in strategy_names(strategy)
    ]
    chosen = [absolute_files(strategy, path) for strategy in chosen]
    distinct = {to_json(strategy): strategy for strategy in chosen}.values()
    if not distinct:
        raise DfalError(f"--strategy names none: give one or several of {', '.join(STRATEGIES)}")
    return [
        Trial(strategy=strategy, seed=seed, training=training, **configuration)
        for seed in range(seeds)
        for strategy in distinct
    ]


def use_device(name: str) -> str:
    """Return the kind of a device, by which trials are stored: cuda for cuda:1.

    This process and its workers see no other GPU from now on.
    """
    kind, _, number = name.partition(":")
    if kind != "cuda" or not number.isdecimal():
        return name
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = [number] if visible is None else visible.split(",")[int(number) :][:1]
    os.environ["CUDA_VISIBLE_DEVICES"] = "".join(numbers)
    return kind


def recipe_settings(name: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a recipe that stand in no option beside it, by name.

    Args:
        name: of the recipe; None for no settings.
        given: the options in the command line.

    Raises:
        DfalError: for a name that is not there.
    """
    if not name:
        return {}
    known = recipes(given.get("backbone", ""))
    if name not in known:
        raise unknown_name("recipe", name, known)
    settings = dict(known[name])
    training = dataclasses.asdict(settings.pop("training"))
    return {key: value for key, value in (training | settings).items() if key not in given}


def _absolute_backbone(name: str) -> str:
    """Return a backbone that lies in a file or folder, as onnx:FILE does, by its absolute path."""
    source, _, place = name.removesuffix(WITH_PIXELS).partition(":")
    if not place or not Path(place).exists():
        return name
    return f"{source}:{Path(place).resolve()}{WITH_PIXELS if name.endswith(WITH_PIXELS) else ''}"


def new_store() -> Path:
    """Return the store of a new run, in a folder with the time in UTC that is not there yet."""
    name = datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S")
    folders = (
        Path("runs") / f"{name}{number}"
        for number in ("", *(f"-{count}" for count in range(2, 1000)))
    )
    return next(folder for folder in folders if not folder.exists()) / "study.db"


def latest_store() -> Path:
    """Return the store in the folder runs whose run began last, whatever it is called.

    Raises:
        DfalError: where there is none.
    """
    began = {path: at for path in Path("runs").glob("*/study.db") if (at := _beginning(path))}
    if not began:
        raise DfalError("No run to resume in runs/: name its --store, or leave out --resume")
    return max(began, key=lambda path: (began[path], path.parent.name))


def _beginning(path: Path) -> datetime | None:
    """Return when the first run of a store began; None where there was none, or no store."""
    try:
        with Store(path) as store:
            at = datetime.fromisoformat(store.environments()[0]["at"])
    except (DfalError, LookupError, TypeError, ValueError):
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def stored_trials(path: Path, given: Mapping[str, Any], strategy: Sequence[str]) -> list[Trial]:
    """Return the trials of a store that is resumed, and find their data.

    Args:
        path: the store.
        given: the options in the command line.
        strategy: names of strategies; those of the user's own may be imported.

    Raises:
        DfalError: for an option that a resumed run takes from its store, a store that cannot be
            resumed, code that was not named, and data that are no longer there.
    """
    names = strategy_names(strategy)
    allowed = RESUME_OPTIONS | ({"strategy"} if all(":" in name for name in names) else set())
    for name in given:
        if name not in allowed:
            raise DfalError(
                f"--resume takes its settings from the store: leave out --{name.replace('_', '-')},"
                " or leave out --resume for a new run"
            )
    if not path.is_file():
        raise DfalError(f"No store {path} to resume: leave out --resume to start it")
    with Store(path) as store:
        stored = store.trials()
    if not all(is_kind(Trial, text) for text in stored.values()):
        raise DfalError(
            f"{path} holds tables of `dfal reproduce`: run that command again to resume"
        )
    code = [named(name, imports=True) for name in names]
    trials = [Trial.from_json(text, code) for text in stored.values()]
    if {trial.id for trial in trials} != stored.keys():
        raise DfalError(
            f"{path} was made by a dfal with other settings: `dfal report` reads it, but it cannot"
            " be resumed"
        )
    if not trials:
        raise DfalError(f"{path} holds no trials yet: leave out --resume to start them")
    for trial in trials:
        for option, kind in CODE_OPTIONS.items():
            name = getattr(trial, option)
            if _is_code(option, name) and given.get(option) != name:
                raise unnamed_code(path, kind, name, option=option)
    if "device" in given:
        kinds, kind = {trial.device for trial in trials}, use_device(given["device"])
        if kinds != {kind}:
            raise DfalError(
                f"{path} was made on {', '.join(sorted(kinds))}, not on {kind}: leave out --device"
            )
    find_again({trial.dataset for trial in trials}, path, given.get("dataset"))
    return sorted(trials, key=lambda trial: (trial.seed, name_of(trial.strategy)))


def _is_code(option: str, name: str) -> bool:
    """Return whether a name stands for code of the user's: others have names with a colon, too."""
    if option == "dataset":
        return is_function(name)
    return ":" in name and not (option == "backbone" and is_registered(name))


def refuse_unused(given: Mapping[str, Any]) -> None:
    """Refuse options that have no effect beside others.

    Raises:
        DfalError: for --backbone with a network that takes images, and --fit with dfal's settings.
    """
    if given.get("backbone", "none") != "none" and given.get("model") == Trial.model:
        raise DfalError(
            f"{Trial.model} takes images, but --backbone gives features: leave out --model for a"
            " linear layer"
        )
    unused = [field.name for field in dataclasses.fields(Training) if field.name in given]
    if given.get("fit") and unused:
        raise DfalError(
            f"--fit has no use for --{unused[0].replace('_', '-')}: set it in your function, and"
            " leave out the option"
        )


def refuse_unfinished(store: Store, trials: Sequence[Trial]) -> None:
    """Refuse a store with unfinished trials that are not those of this command.

    Raises:
        DfalError: where there are any.
    """
    wanted = {trial.id for trial in trials}
    for trial in store.trials().keys() - wanted:
        records = store.records(trial, twins=False)
        if not records or not records[-1].last:
            raise DfalError(
                f"{store.path} holds other unfinished trials: resume them with --resume, or name"
                " another --store"
            )
