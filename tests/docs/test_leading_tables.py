"""The tables that results.md and performance.md begin with have the figures of the files below."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results" / "mnist-lenet5"
BENCHMARKS = ROOT / "benchmarks" / "results"


def leading_table(page: str) -> list[list[str]]:
    """Return the cells of a page's first table, without its head."""
    text = (ROOT / "docs" / page).read_text()
    lines = text[text.index("\n|---") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def row(page: str, *words: str) -> list[str]:
    """Return the one row whose first cells have all of these words."""
    found = [
        cells for cells in leading_table(page) if all(word in str(cells[:2]) for word in words)
    ]
    assert len(found) == 1, words
    return found[0]


def cells(name: str) -> Iterator[dict[str, str]]:
    with (RESULTS / f"{name}.csv").open() as file:
        yield from csv.DictReader(file)


def cell(name: str, row: str, column: str) -> dict[str, str]:
    (found,) = [one for one in cells(name) if (one["row"], one["column"]) == (row, column)]
    return found


def accuracy(strategy: str) -> dict[str, str]:
    return cell("table1-mnist-lenet5", strategy, "1000")


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("random", "above random sampling"),
        ("ceal", "above CEAL"),
        ("bald", "above BALD"),
        ("uncertainty", "above uncertainty"),
        ("egl", "above EGL"),
        ("core-set", "level with CORE-SET"),
    ],
)
def test_the_lead_over_a_strategy_is_that_of_the_rows(strategy: str, words: str) -> None:
    _, paper, ours, verdict = next(
        cells for cells in leading_table("results.md") if words in cells[0]
    )
    difference = float(accuracy("dfal")["paper"]) - float(accuracy(strategy)["paper"])
    assert paper == f"{difference:+.2f}".replace("-", "−")
    verdicts = (RESULTS / "verdicts.csv").read_text()
    match = re.search(rf"− {strategy} ([+−][\d.]+) \[([+−])([\d.]+), \+([\d.]+)\]", verdicts)
    assert match is not None
    low = match[3] if match[2] == "+" else f"−{match[3]}"
    assert ours == f"{match[1]} ({low} to {match[4]})"
    same = match[2] == "+" and difference > 0  # significant, in the paper's direction
    assert verdict.startswith("reproduced" if same else "not reproduced")


def test_accuracy_and_labels_are_those_of_the_rows() -> None:
    mean, low, high = (float(accuracy("dfal")[name]) for name in ("ours", "low", "high"))
    assert row("results.md", "With 1,000 labels")[2] == f"{mean:.2f} ({low:.2f} to {high:.2f})"
    needed = cell(
        "table2-mnist-lenet5", "dfal, running maximum", "annotations to the paper's 98.54 %"
    )
    ours, low, high = (float(needed[name]) for name in ("ours", "low", "high"))
    assert row("results.md", "Labels to the accuracy")[1:3] == [
        f"{float(needed['paper']):,.0f}",
        f"{ours:,.0f} ({low:,.0f} to {high:,.0f})",
    ]
    faster = cell("table3-mnist-lenet5", "core-set", "times DFAL's")
    assert row("results.md", "selects faster")[1:3] == [faster["paper"], faster["ours_text"]]
    dfal, random = (cell("table4-mnist", name, "lenet5 → vgg8") for name in ("dfal", "random"))
    paper, ours = (float(dfal[name]) - float(random[name]) for name in ("paper", "ours"))
    assert row("results.md", "For VGG8")[1:3] == [f"+{paper:.2f}", f"+{ours:.2f}, one seed"]


def benchmark(name: str) -> Any:
    return json.loads((BENCHMARKS / f"{name}.json").read_text())


def slower(name: str, side: str) -> str:
    ratio = benchmark(name)["speed"][side]["times_as_long"]
    return f"{ratio:.0f}" if ratio >= 99 else f"{ratio:.1f}"


def test_ratios_are_those_of_the_benchmarks() -> None:
    ratio = {tuple(cells[:2]): cells[2] for cells in leading_table("performance.md")}
    digits = "DeepFool on digits, LeNet5"
    runs = [slower(f"deepfool-lenet5-{count}", "Foolbox") for count in (4000, 800)]
    assert ratio[digits, "Foolbox"] == " to ".join(runs)
    assert ratio[digits, "ART"] == slower("deepfool-lenet5-800-art", "ART")
    clipped = "the same, with pixels clipped to 0 to 1"
    assert ratio[clipped, "Foolbox"] == slower("deepfool-lenet5-800-clip", "Foolbox")
    assert ratio["DeepFool on digits, VGG8", "Foolbox"] == slower("deepfool-vgg8-200", "Foolbox")
    for name, network, file in (
        ("a residual network", "residual", "deepfool-autograd"),
        ("a vision transformer", "vit", "deepfool-autograd"),
        ("ResNet-18", "resnet18", "deepfool-autograd-resnet18"),
    ):
        figures = benchmark(file)["networks"][network]
        foolbox, art = (one["times_as_long_as_dfal"] for one in (figures, figures["ART"]))
        art = f"{art:.0f}" if art >= 10 else f"{art:.1f}"
        cell = ratio[f"DeepFool on digits, {name}, by autograd", "Foolbox, ART"]
        assert cell == f"{foolbox['Foolbox']:.1f}, {art}"
    every = benchmark("deepfool-many-classes-128")["sides"]["all gradients"]
    photographs = "DeepFool on photographs, 1,000 classes", "the gradient of each class"
    assert ratio[photographs] == f"{every['times_as_long_as_dfal']:.0f}"
    ten = benchmark("deepfool-many-classes-resnet18-224")["sides"]
    others = [ten[f"{name}, ten"]["times_as_long_as_dfal"] for name in ("Foolbox", "ART")]
    photographs = "DeepFool on photographs, ResNet-18, the ten likeliest classes", "Foolbox, ART"
    assert ratio[photographs] == ", ".join(f"{other:.1f}" for other in others)
    full, early = (
        next(
            one["seconds"]
            for one in benchmark("early-termination")["rows"]
            if (one["K"], one["form"]) == (59_000, form)
        )
        for form in ("full", "early termination")
    )
    queries = [cells[2] for cells in leading_table("performance.md") if "query" in cells[0]]
    assert queries[0] == f"{full / early:.1f}, the same 10 images"
    pool = {
        one["strategy"]: one["seconds"]
        for one in benchmark("pool")["rows"]
        if one["images"] == 1_000_000
    }
    table3 = benchmark("table3")["|L| = 1000"]["core-set"]["times_dfals"]
    assert queries[1:] == [f"{pool['core-set'] / pool['dfal']:.2f}", f"{table3:.2f}"]
    step = benchmark("training")["sides"]["dfal"]["1 at once"]["times_faster"]
    assert row("performance.md", "a training step")[2] == f"{step:.2f}"
    consistency = benchmark("training-consistency")["times_as_long_as_dfal"]["eager"]
    assert row("performance.md", "with 128 unlabelled images")[2] == f"{consistency:.2f}"
    on_gpu = benchmark("gpu")["parts"]["training"]["networks in step, 1000 labels"]
    alone, graph, in_step = (
        on_gpu[f"{side}, hold-out 0.0"]["seconds_of_each"]
        for side in ("one by one", "one by one, as a graph", "in step")
    )
    assert row("performance.md", "training LeNet5 on a GPU")[2] == f"{alone / graph:.1f}"
    assert row("performance.md", "training 35 networks")[2] == f"{alone / in_step:.0f}"
    trial = benchmark("trial-mnist-5k-300")["strategies"]["dfal"]
    ours = trial["plain"]["seconds"] / trial["dfal"]["seconds"]
    assert row("performance.md", "a whole DFAL trial")[2] == f"{ours:.2f}"
