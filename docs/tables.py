"""Write the tables of the docs that are made from the code, between their markers.

python docs/tables.py            # writes them
python docs/tables.py --check    # exit status 1 where a table is not that of the code
"""

import argparse
import contextlib
import dataclasses
import inspect
import re
import sqlite3
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dfal.attacks import ATTACKS
from dfal.data.datasets import DATASETS
from dfal.data.sources import SOURCES
from dfal.labelling.store.schema import LabelStore
from dfal.strategies import STRATEGIES, WithTwins, short_repr

DOCS = Path(__file__).resolve().parent

Rows = list[list[str]]


def section(kind: type, name: str) -> str:
    """Return what follows `name:` in the docstring of a class, as one line; empty if nothing."""
    found = re.search(rf"^{name}: (.*?)(?=^\w+: |\Z)", inspect.getdoc(kind) or "", re.S | re.M)
    return " ".join(found[1].split()).rstrip(".") if found else ""


def settings(kind: type) -> dict[str, str]:
    """Return what the docstring of a class, or of one that it is made from, says of each field."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        attributes = re.search(r"^Attributes:\n((?: .*\n?|\n)*)", inspect.getdoc(base) or "", re.M)
        for name, text in re.findall(
            r"^    (\w+): (.*(?:\n     +.*)*)", attributes[1] if attributes else "", re.M
        ):
            found[name] = " ".join(text.split()).rstrip(".")
    return {field.name: found.get(field.name, "") for field in dataclasses.fields(kind)}


def strategy_names() -> Rows:
    """Return a row for each name of a strategy."""
    rows = [["name", "class", "queries", "source"]]
    for name, strategy in STRATEGIES.items():
        kind = f"`{short_repr(strategy).removesuffix('()')}`"
        rows.append([f"`{name}`", kind, STRATEGIES.about(name), section(type(strategy), "Source")])
    twins = "what `NAME` queries, plus adversarial twins"
    return [*rows, ["`NAME+twins`", "`WithTwins`", twins, section(WithTwins, "Source")]]


def strategy_classes() -> list[type]:
    """Return the classes of strategies, in the order of their names."""
    return [*dict.fromkeys(type(strategy) for strategy in STRATEGIES.values()), WithTwins]


def strategy_costs() -> Rows:
    """Return a row for each class of strategies."""
    return [
        ["class", "cost", "memory"],
        *(
            [f"`{kind.__name__}`", section(kind, "Cost"), section(kind, "Memory") or "–"]
            for kind in strategy_classes()
        ),
    ]


def setting_rows(kinds: Iterable[type]) -> Rows:
    """Return a row for each setting, with all classes that have it with that default."""
    classes: dict[tuple[str, str, str], list[str]] = {}
    for kind in kinds:
        meanings = settings(kind)
        for field in dataclasses.fields(kind):
            default = "–" if field.default is dataclasses.MISSING else short_repr(field.default)
            key = (field.name, default, meanings[field.name])
            classes.setdefault(key, []).append(f"`{kind.__name__}`")
    rows = [
        [f"`{name}`", f"`{default}`", ", ".join(kinds), meaning]
        for (name, default, meaning), kinds in classes.items()
    ]
    return [["setting", "default", "classes", "meaning"], *rows]


def attack_names() -> Rows:
    """Return a row for each attack."""
    return [
        ["name", "class", "finds"],
        *([f"`{name}`", f"`{ATTACKS[name].__name__}`", ATTACKS.about(name)] for name in ATTACKS),
    ]


def data_sets() -> Rows:
    """Return a row for each data set."""
    rows = [["name", "pool / test set", "what", "test set", "origin; licence", "checksum"]]
    for name, card in DATASETS.items():
        channels, height, width = card.image
        shape = f"{height}×{width}" + (f"×{channels}" if channels > 1 else "")
        checksum = "published" if card.sums else "–" if card.get else "recorded at first use"
        rows.append(
            [
                f"`{name}`",
                f"{card.pool:,} / {card.test:,} of {shape}",
                DATASETS.about(name),
                card.split,
                f"{card.origin}; {card.licence}",
                checksum,
            ]
        )
    return rows


LABELLING_TABLES = {
    "settings": "version of the settings of the session, as JSON",
    "classes": "class, as it was first called",
    "images": "image of the folder, with the class that was known when it was added",
    "unreadable": "image that could not be read, and why, in stores of earlier versions",
    "models": "trained model: its training's time, labels, and predictions of the watched images."
    " `heard` is the last answer before it, `watched` and `seen` are arrays",
    "queue": "image that a model ranks to be labelled: score, predicted class, runner-up, and the"
    " twin minus the image as float16",
    "looks": "prediction of an image by a model that was not trained on it: class, confidence, and"
    " the distance to the decision boundary",
    "questions": "question: the image, who is asked until when, on which page (`holder`), and why"
    " (`kind`, `model`, `position` in its queue)",
    "returned": "question that was released without an answer",
    "answers": "answer, correction or undo (`kind`); an undo names the answer that it takes back",
    "flags": "flag that was set on an image or removed from it, with its note",
    "troubles": "error of the training process",
    "renamed": "class that was renamed",
    "known": "label from the folder or a CSV that came after its image",
    "set_aside": "image that cannot be read, and why; without a reason where it can be read again",
    "learners": "choice of what models learn from, from one model on",
    "coverage": "image of a ranking before there is a model; the last `ranking` counts",
}
"""What a row of each table of a labelling store is about."""


def labelling_tables() -> Rows:
    """Return a row for each table of a labelling store."""
    rows = [["table", "columns", "a row for each"]]
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(LabelStore.schema)
        for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'"):
            columns = [column for _, column, *_ in db.execute(f"PRAGMA table_info({name})")]
            cells = ", ".join(f"`{column}`" for column in columns)
            rows.append([f"`{name}`", cells, LABELLING_TABLES[name]])
    return rows


def source_names() -> Rows:
    """Return a row for each way in for own images."""
    return [
        ["name", "as `--dataset`", "what"],
        *(
            [
                f"`{name}`",
                ", ".join(f"`{form}`" for form in SOURCES.form(name).split(", ") if form) or "–",
                SOURCES.about(name),
            ]
            for name in SOURCES
        ),
    ]


TABLES: dict[str, tuple[str, Callable[[], Rows]]] = {
    "strategy names": ("strategies.md", strategy_names),
    "strategy costs": ("strategies.md", strategy_costs),
    "strategy settings": ("strategies.md", lambda: setting_rows(strategy_classes())),
    "attack names": ("strategies.md", attack_names),
    "labelling store": ("labelling-store.md", labelling_tables),
    "data sets": ("data.md", data_sets),
    "sources": ("data.md", source_names),
    "attack settings": ("strategies.md", lambda: setting_rows(ATTACKS.values())),
}
"""Tables by the name in their markers: the page and what makes the rows, the head first."""


def markdown(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows as a table of Markdown, the first one as its head."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    columns = lines[0].replace("\\|", "").count("|") - 1
    return "\n".join([lines[0], "|---" * columns + "|", *lines[1:]])


def with_tables(page: str, text: str) -> str:
    """Return the text of a page with its tables as the code has them now."""
    for name, (place, rows) in TABLES.items():
        if place == page:
            begin, end = f"<!-- table: {name} -->", "<!-- end of table -->"
            before, marked, rest = text.partition(begin)
            _, closed, after = rest.partition(end)
            if not (marked and closed):
                raise SystemExit(f"docs/{page} has no {begin} … {end}")
            text = f"{before}{begin}\n{markdown(rows())}\n{end}{after}"
    return text


def main() -> int:
    """Write every page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    stale = False
    for page in dict.fromkeys(page for page, _ in TABLES.values()):
        path = DOCS / page
        text = path.read_text(encoding="utf-8")
        made = with_tables(page, text)
        if made != text:
            stale = True
            print(f"docs/{page} {'is stale: run python docs/tables.py' if check else 'written'}")
            if not check:
                path.write_text(made, encoding="utf-8")
    return int(check and stale)


if __name__ == "__main__":
    sys.exit(main())
