"""Taking labels home: a table, folders by class, or a folder that Hugging Face's `datasets` loads
as it is."""

import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from dfal.atomic import atomic_write
from dfal.errors import DfalError
from dfal.labelling.names import NO_LABEL_FOLDER
from dfal.labelling.store.session import Session
from dfal.labelling.validation import image_file, target_file
from dfal.spreadsheet import defused, row_writer


@dataclass(frozen=True)
class Label:
    """An image and its label.

    Attributes:
        path: of the image, in the folder.
        label: the name of its class; empty where people declined.
        by: who gave it, with semicolons where there were several; the network where it guessed.
        at: when, in UTC; empty where the image came with its label.
        how: "given" by people; "known" from the folder; "declined" where all who answered skipped
            it; "disputed" where their votes are tied; "guessed" by the network; or "flagged" only.
        confidence: of a guess, the network's probability; of what several people gave, the fraction
        that gave it; else 1.
        flagged: whether somebody put a flag on it.
        note: what was written on the flag.
    """

    path: str
    label: str
    by: str
    at: str
    how: str
    confidence: float
    flagged: bool = False
    note: str = ""


def labels(session: Session, guesses: Mapping[int, tuple[int, float]] | None = None) -> list[Label]:
    """Every image with a label or a flag, by index; with those that a network guesses where nobody
    gave one.

    Args:
        session: whose labels.
        guesses: image → class and probability.
    """
    state = session.refresh()
    last: dict[int, tuple[str, float]] = {}
    for image, person, at in session.rows("SELECT image, person, at FROM answers ORDER BY answer"):
        last[image] = (person, at)
    found = []
    for image, path in enumerate(state.paths):
        label = int(state.labels[image])
        votes = state.votes.get(image, {})
        if label >= 0 and not votes and image not in state.corrected:
            found.append(Label(path, state.classes[label], "", "", "known", 1.0))
        elif label >= 0 or votes or image in state.corrected:
            person, at = last[image]
            agreeing = [one for one, vote in votes.items() if vote == label]
            corrected = image in state.corrected
            how = "given" if label >= 0 else "disputed" if state.is_disputed(image) else "declined"
            if label < 0 and len(votes) < state.settings.votes and not corrected:
                continue  # votes are still missing
            by = [person] if corrected else agreeing or list(votes)
            sure = 1.0 if corrected or not votes else len(agreeing) / len(votes)
            found.append(
                Label(
                    path,
                    state.classes[label] if label >= 0 else "",
                    "; ".join(by),
                    _utc(at),
                    how,
                    sure if label >= 0 else 0.0,
                )
            )
        elif guesses and image in guesses:
            guess, sure = guesses[image]
            found.append(
                Label(path, state.classes[guess], "network", "", "guessed", round(sure, 4))
            )
        elif image in state.flags:
            found.append(Label(path, "", "", "", "flagged", 0.0))
        else:
            continue
        if image in state.flags:
            found[-1] = replace(found[-1], flagged=True, note=state.flags[image])
    return found


def _utc(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # a clock was set to what is in no calendar
        return ""


def as_csv(rows: Sequence[Label]) -> str:
    """Return a table with a first line of names, of which no cell but a path runs as a formula.

    A path stays what it is, or its image would not be found again.
    """
    text = io.StringIO()
    write = row_writer(text)
    write([field.name for field in fields(Label)])
    for row in rows:
        safe = replace(row, label=defused(row.label), by=defused(row.by), note=defused(row.note))
        write([*asdict(safe).values()])
    return text.getvalue()


def write_csv(rows: Sequence[Label], path: Path) -> None:
    """The table as CSV."""
    check_target(path, as_csv([]).encode())
    _whole(
        path, lambda part: part.write_text(as_csv(rows), encoding="utf-8", errors="surrogateescape")
    )


def write_parquet(rows: Sequence[Label], path: Path) -> None:
    """The table as Parquet, which keeps its types.

    Raises:
        DfalError: where pyarrow is not installed.
    """
    try:
        import pyarrow  # an extra
        import pyarrow.parquet
    except ImportError:
        raise DfalError(
            "writing Parquet needs pyarrow: pip install 'dfal[parquet]', or export as CSV"
        ) from None
    check_target(path, b"PAR1")
    columns = {field.name: [getattr(row, field.name) for row in rows] for field in fields(Label)}
    columns["path"] = [path.encode("utf-8", "replace").decode() for path in columns["path"]]
    _whole(path, lambda part: pyarrow.parquet.write_table(pyarrow.table(columns), part))


def check_target(path: Path, begin: bytes) -> None:
    """Raise unless nothing is lost when this file is written: there is none, or one that begins as
    this export does."""
    if not path.name:
        raise DfalError(f"{path} is a folder: name a file with --out")
    try:
        with path.open("rb") as file:
            if file.read(len(begin)) != begin:
                raise DfalError(
                    f"{path} is there already and no such export: name another file with --out"
                )
    except FileNotFoundError:
        return
    except OSError as error:
        raise DfalError(
            f"{path} cannot be written ({error.strerror}): name another with --out"
        ) from None


def write_folders(rows: Sequence[Label], source: Path, path: Path) -> list[str]:
    """Write a folder for each class with copies of its images, and one for those without a label.

    Returns:
        The paths of images that have vanished and are left out.
    """
    kept = [row for row in rows if row.label or row.how in {"declined", "disputed"}]
    return _copies(kept, source, path, lambda row: row.label or NO_LABEL_FOLDER, [])


def write_hugging_face(rows: Sequence[Label], source: Path, path: Path) -> list[str]:
    """A folder that `datasets.load_dataset("imagefolder", data_dir=…)` loads: images and
    metadata.jsonl, without declined ones.

    Returns:
        The paths of images that have vanished and are left out.
    """
    kept = [row for row in rows if row.label]
    if not kept:
        raise DfalError(
            "no image has a label yet, and a data set of none cannot be loaded: answer some"
            " questions first"
        )
    lines: list[tuple[str, Label]] = []
    return _copies(kept, source, path, lambda row: "train", lines)


def _copies(
    rows: Sequence[Label],
    source: Path,
    path: Path,
    where: Callable[[Label], str],
    lines: list[tuple[str, Label]],
) -> list[str]:
    """Copies in a new folder, which is there whole or not at all."""
    if path.exists() or not path.name:
        raise DfalError(f"{path} is there already: name a folder that is not")
    missing = []
    part = path.with_name(f".{path.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for row in rows:
            folder = target_file(part, where(row))
            folder.mkdir(exist_ok=True)
            name = _free(row.path, folder)
            try:
                shutil.copy2(image_file(source, row.path), target_file(folder, name))
            except FileNotFoundError:
                missing.append(row.path)
                continue
            lines.append((name, row))
        if lines and where(lines[0][1]) == "train":
            with (part / "train" / "metadata.jsonl").open(
                "w", encoding="utf-8", errors="surrogateescape"
            ) as file:
                for name, row in lines:
                    file.write(
                        json.dumps({"file_name": name} | asdict(row), ensure_ascii=False) + "\n"
                    )
        part.replace(path)
    except OSError as error:
        raise DfalError(
            f"{path} cannot be written ({error.strerror}): name a folder where there is space"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return missing


def _free(path: str, folder: Path) -> str:
    """The name of a file in one folder, though files of several had the same."""
    name = path.replace("/", "-")
    number = 1
    while (folder / name).exists():
        number += 1
        name = f"{number}-{path.replace('/', '-')}"
    return name


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    """A file is there whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DfalError(
            f"{path} cannot be written ({error.strerror}): name another with --out"
        ) from None
    with atomic_write(path, "name another with --out") as part:
        write(part)
