"""The paper's tables and figures: what runs, what is printed beside what, and what stored trials
say of a claim."""

import dataclasses
import itertools
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import dfal
import small_networks
from dfal import reproduce
from dfal.analysis.learning_curves import aulc_differences, common
from dfal.analysis.tables import (
    Cell,
    Table,
    accuracy,
    all_of,
    format_seconds,
    needed_cell,
    positive,
    table,
)
from dfal.data.datasets import Dataset
from dfal.experiments import runner
from dfal.experiments.jobs import Job
from dfal.experiments.serialization import from_json
from dfal.experiments.store import Record, Store
from dfal.experiments.trial import Trial
from dfal.reproduce import figure2, figure3, paper, presets, table1, table2, table3, table4
from dfal.reproduce.ranking import ranking
from dfal.reproduce.selection_timing import SelectionTiming
from dfal.reproduce.stored_results import StoredResults, curve_named, name_in, pairs
from dfal.reproduce.transfer import Transfer

NONE = torch.empty(0, dtype=torch.int64)
TINY = "small_networks:tiny"


def small(**changes: object) -> reproduce.Preset:
    """The quick preset, smaller still."""
    settings = {
        "annotations": 60,
        "first": 20,
        "batch": 20,
        "epochs": 3,
        "full_epochs": 1,
        "seeds": 2,
        "candidates": 40,
    }
    return reproduce.preset("quick").changed(
        settings | {"model": TINY, "other": TINY, "until": 80} | changes
    )


# --- presets and the paper's numbers --------------------------------------------------------------


def test_the_papers_preset_is_its_protocol() -> None:
    preset = reproduce.preset("paper")
    trials = preset.trials()
    assert len(trials) == 40
    assert [trial.seed for trial in trials] == [seed for seed in range(5) for _ in range(8)], (
        "seed by seed"
    )
    for trial in trials:
        assert (trial.dataset, trial.model, trial.first, trial.batch, trial.annotations) == (
            "mnist",
            "lenet5",
            10,
            10,
            1000,
        )
        assert trial.training == dfal.Training(), "the default: docs/deviations.md says why"
        assert getattr(trial.strategy, "candidates", 300) == 300, "the same K for all"
    assert trials[0].strategy == dfal.DFAL(candidates=300)
    assert isinstance(trials[2].strategy, dfal.CEAL)
    assert trials[2].strategy.threshold == 0.05


def test_the_ids_of_the_papers_trials_never_change() -> None:
    """A study of days must still be found tomorrow."""
    trials = reproduce.preset("paper").trials()
    assert [trial.id for trial in trials[:8]] == IDS


IDS = [
    Trial(dataset="mnist", annotations=1000, strategy=strategy).id
    for strategy in (
        dfal.DFAL(candidates=300),
        dfal.BALD(candidates=300),
        dfal.CEAL(candidates=300),
        dfal.CoreSet(candidates=300),
        dfal.EGL(candidates=300),
        dfal.Entropy(candidates=300),
        dfal.Random(),
        dfal.DFAL(candidates=300, twins=False),
    )
]


def test_ceals_threshold_is_the_papers_for_each_data_set() -> None:
    for dataset, threshold in (
        ("mnist-5k", 0.05),
        ("shoe-bag-sample", 0.19),
        ("quick-draw", 0.08),
        ("mine.npz", 0.05),
    ):
        strategy = presets.paper_settings("ceal", dataset)
        assert isinstance(strategy, dfal.CEAL)
        assert strategy.threshold == threshold
        assert (
            name_in(Trial(dataset=dataset), dataclasses.replace(strategy, candidates=7)) == "ceal"
        )
    assert name_in(Trial(dataset="shoe-bag"), dfal.CEAL()) == "ceal", (
        "as far as it has no other name"
    )
    assert name_in(Trial(), dfal.CEAL(threshold=0.3)).startswith("CEAL(")


def test_every_setting_can_be_changed_and_reaches_the_trials() -> None:
    preset = small(strategies=("margin", "random"), learning_rate=0.01, candidates=7)
    assert preset.rows() == {"margin": dfal.Margin(candidates=7), "random": dfal.Random()}
    assert {trial.training.learning_rate for trial in preset.trials()} == {0.01}
    assert {trial.annotations for trial in preset.trials()} == {60}
    for bad, sentence in (
        ({"seeds": 0}, "seeds = 0"),
        ({"strategies": ()}, "no strategy"),
        ({"strategies": ("egl2",)}, "egl"),
    ):
        with pytest.raises(dfal.DfalError, match=sentence):
            small(**bad)
    with pytest.raises(dfal.DfalError, match=r"there is no preset 'papre'.*did you mean 'paper'"):
        reproduce.preset("papre")


def test_the_full_training_set_is_a_trial_that_asks_about_nothing(digits: Dataset) -> None:
    full = small().full()
    assert [trial.seed for trial in full] == [0, 1]
    (record,) = full[0].run(digits)
    assert record.measurements["annotations"] == len(digits.images)
    assert record.last


def test_the_papers_numbers() -> None:
    mnist = paper.table1("mnist-5k", "lenet5")
    assert mnist["dfal"]["1000"] == pytest.approx(0.9802)
    assert mnist[paper.FULL]["all"] == pytest.approx(0.9904)
    assert paper.table1("shoe-bag", "vgg8")["core-set"]["100"] == 0.5, "a fraction among percents"
    assert paper.table1("fashion-mnist", "lenet5") == {}
    assert paper.table2("mnist", "lenet5")["dfal"] == paper.Table2Row("1210", "2410")
    assert paper.table2("mnist", "lenet5")["ceal"] == paper.Table2Row("≥ 6000", "≥ 6150")
    assert paper.table3() == {"dfal": 126.54, "core-set-robust": 891.78, "core-set": 784.99}
    assert paper.table4("mnist")["dfal", paper.Direction("lenet5", "vgg8")] == pytest.approx(0.978)
    x, y = paper.curves("mnist", "lenet5")["dfal"]
    assert (x[0], x[-1]) == (10, 1000)
    assert y == sorted(y), "running maxima only rise"
    assert paper.figure3()["LeNet5 DFAL"][1][-1] == pytest.approx(0.994)
    names = ["mnist", "mnist-5k", "fashion-mnist", "quick-draw-4", "shoe-bag-sample", "mnist.npz"]
    assert [paper.dataset_of(name) for name in names] == [
        "mnist",
        "mnist",
        None,
        "quick-draw",
        "shoe-bag",
        None,
    ]


# --- cells and verdicts, by hand ------------------------------------------------------------------


def test_a_cell_is_ours_beside_the_papers() -> None:
    values = np.array([0.97, 0.98, 0.99])
    cell = accuracy(values, 0.95)
    assert (cell.ours, cell.spread, cell.paper, cell.above) == ("98.00", "± 2.48", "95.00", True)
    assert cell.p == pytest.approx(0.0351, abs=1e-3), "t of 3 √3 with two degrees of freedom"
    assert cell.differs == 1
    assert accuracy(values, 0.98).differs == 0
    assert accuracy(values, 1.2).differs == -1
    assert accuracy(None, 0.95) == Cell(paper="95.00")
    assert accuracy(values[:1], 0.95).spread == ""
    assert accuracy(values[:1], 0.5).differs == 0, "one seed decides nothing"


def test_a_table_corrects_its_p_values_and_drops_empty_rows() -> None:
    made = table(
        "t",
        "t",
        "",
        ["a", "b"],
        [("x", [Cell("1", p=0.03), Cell("2", p=0.01)]), ("empty", [Cell(), Cell()])],
    )
    assert [name for name, _ in made.rows] == ["x"]
    assert [cell.p for cell in made.rows[0][1]] == pytest.approx([0.03, 0.02])


UP, DOWN, NEITHER = (
    np.array([0.10, 0.11, 0.12]),
    np.array([-0.10, -0.11, -0.12]),
    np.array([-0.2, 0.0, 0.21]),
)


def test_a_claim_holds_does_not_or_is_undecided() -> None:
    assert positive([UP]) == "reproduced"
    assert positive([DOWN]) == "not reproduced"
    assert positive([NEITHER]) == "undecided"
    assert positive([UP, NEITHER]) == "undecided"
    assert positive([UP, NEITHER, DOWN]) == "not reproduced"
    assert positive([UP[:1]]) == "undecided", "one seed decides nothing"
    assert positive([]) == all_of([]) == "undecided"
    barely = np.array([0.1, 0.2, 0.3, 0.12])
    assert positive([barely]) == "reproduced"
    assert positive([barely] * 5) == "undecided", "five tests are corrected for"


# --- a store written by hand ----------------------------------------------------------------------

BUDGETS = [10, 20, 30]
WRITTEN: dict[str, list[list[float]]] = {
    "dfal": [[0.30, 0.80, 0.95], [0.31, 0.82, 0.96], [0.29, 0.81, 0.94]],
    "dfal-no-twins": [[0.30, 0.60, 0.90], [0.31, 0.61, 0.91], [0.29, 0.62, 0.92]],
    "random": [[0.30, 0.50, 0.80], [0.31, 0.49, 0.81], [0.29, 0.51, 0.82]],
    "core-set": [[0.30, 0.55, 0.96], [0.31, 0.54, 0.96], [0.29, 0.56, 0.94]],
}


def write(store: Store, trial: Job, records: list[Record]) -> None:
    store.add_run({trial.id: trial.to_json()}, {"data": {}})
    for record in records:
        store.add(trial.id, record)


def at(place: int, annotations: int, value: float, more: int = 10, **measured: float) -> Record:
    asked = torch.arange(more) + 100 * place
    measured |= {"annotations": annotations, "labelled_data": annotations, "accuracy": value}
    return Record(
        place,
        dfal.Query(asked, torch.zeros(more)),
        asked % 10,
        asked % 10,
        NONE,
        measured,
        {"fit": 2.0, "select": 0.5},
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Four strategies, three seeds and three budgets, and the full training set at 0.95."""
    preset = reproduce.preset("paper").changed({"annotations": 30, "dataset": "mnist", "seeds": 3})
    store = Store(tmp_path / "s.db", write=True)
    for name, seeds in WRITTEN.items():
        for trial, accuracies in zip(preset.trials([name]), seeds, strict=True):
            rows = zip(BUDGETS, accuracies, [10, 10, 0], strict=True)
            write(
                store,
                trial,
                [
                    at(place, budget, value, more)
                    for place, (budget, value, more) in enumerate(rows)
                ],
            )
    full = dataclasses.replace(preset.trial, first=4000, annotations=4000, strategy=dfal.Random())
    for seed, value in enumerate((0.94, 0.95, 0.96)):
        write(store, dataclasses.replace(full, seed=seed), [at(0, 4000, value, 0)])
    return store


@pytest.fixture
def found(store: Store) -> StoredResults:
    """What that store holds."""
    return reproduce.read_results(store)


def test_the_shelf_sorts_a_store(found: StoredResults) -> None:
    (study,) = found.main
    assert {one.name for one in study.curves} == set(WRITTEN)
    assert found.reproduced
    full = found.full_accuracy(study)
    assert full is not None
    np.testing.assert_allclose(full, [0.94, 0.95, 0.96])
    dfal_, random_ = curve_named(study, "dfal"), curve_named(study, "random")
    assert dfal_ is not None
    assert random_ is not None
    assert curve_named(study, "bald") is None
    np.testing.assert_allclose(np.array(pairs(dfal_, random_, 30)), [0.15, 0.15, 0.12])
    assert pairs(dfal_, random_, 25) is None
    np.testing.assert_allclose(np.array(aulc_differences(dfal_, random_)), [0.1875, 0.2025, 0.18])


def test_curves_of_different_length_and_seeds_are_compared_where_they_meet(
    found: StoredResults,
) -> None:
    (study,) = found.main
    whole = study.curves[0]
    part = dataclasses.replace(
        whole,
        trials=whole.trials[1:],
        records=whole.records[1:],
        annotations=whole.annotations[:2],
        labelled_data=whole.labelled_data[:2],
        accuracy=whole.accuracy[1:, :2] - 0.1,
    )
    np.testing.assert_allclose(np.array(aulc_differences(whole, part)), [0.1, 0.1])
    one, other = common([whole, part])
    assert one.accuracy.shape == other.accuracy.shape == (2, 2)
    np.testing.assert_allclose(one.accuracy - other.accuracy, 0.1)
    assert [trial.seed for trial in one.trials] == [1, 2]


def test_a_seed_that_is_not_finished_does_not_shorten_those_that_are(store: Store) -> None:
    preset = reproduce.preset("paper").changed({"annotations": 30, "seeds": 4})
    write(store, preset.trials(["dfal"])[3], [at(0, 10, 0.1)])
    write(store, preset.trials(["margin"])[3], [at(0, 10, 0.2)])
    (study,) = reproduce.read_results(store).main
    dfal_, margin = curve_named(study, "dfal"), curve_named(study, "margin")
    assert dfal_ is not None
    assert margin is not None
    assert dfal_.accuracy.shape == (3, 3)
    assert margin.accuracy.tolist() == [[0.2]], "where nothing is finished, what there is"


def test_other_data_than_the_papers_are_not_tested_against_its_numbers(tmp_path: Path) -> None:
    preset = reproduce.preset("quick").changed({"annotations": 100, "first": 100, "seeds": 2})
    with Store(tmp_path / "s.db", write=True) as store:
        for seed, trial in enumerate(preset.trials(["dfal"])):
            write(store, trial, [at(0, 100, 0.7 + 0.001 * seed, 0)])
        for seed, trial in enumerate(preset.full()):
            write(store, trial, [at(0, 4000, 0.5 + 0.001 * seed, 0)])
        found = reproduce.read_results(store)
    accuracies = table1.tables(found)[0]
    inside = cells(accuracies)
    for row, column in (("dfal", "100"), ("full training set", "all")):
        assert inside[row, column].paper
        assert math.isnan(inside[row, column].p)
    for made in (accuracies, *table2.tables(found)):
        assert "mnist-5k is not the paper's mnist" in made.caption
    assert "Coloured" not in accuracies.caption
    alone = dataclasses.replace(found, full=())
    assert table2.verdicts(alone) == [], "the paper's accuracy on other data is no target"


def test_trials_with_another_k_stand_in_tables_of_their_own(store: Store) -> None:
    preset = reproduce.preset("paper").changed({"annotations": 30, "candidates": 20})
    write(store, preset.trials(["dfal"])[0], [at(0, 10, 0.1), at(1, 20, 0.2), at(2, 30, 0.3, 0)])
    found = reproduce.read_results(store)
    (study,) = found.main
    assert {one.name for one in study.curves} == set(WRITTEN)
    other = next(one for one in found.studies if one is not study)
    assert [(one.name, len(one.trials)) for one in other.curves] == [("dfal", 1), ("random", 3)]


def test_hours_are_minutes_where_they_are_few(found: StoredResults) -> None:
    costs = table1.tables(found)[2]
    assert costs.head[-1] == "seconds in all"
    assert cells(costs)["dfal", "seconds in all"].ours == "22.5"
    assert [format_seconds(value) for value in (0.04, 12.34, 1234.5)] == ["0.04", "12.3", "1,234"]


def test_figure_3_needs_budgets_on_the_way() -> None:
    preset = reproduce.preset("paper").changed(
        {"dataset": "mnist-5k", "annotations": 20, "first": 10, "batch": 10}
    )
    with pytest.raises(
        dfal.DfalError,
        match=r"figure 3 needs 3 budgets or more, .* there are 2: give more annotations",
    ):
        figure3.stages(preset)


def test_a_plain_run_is_not_held_against_the_paper(found: StoredResults) -> None:
    assert reproduce.tables(found)
    assert reproduce.verdicts(found)
    plain = dataclasses.replace(found, reproduced=False)
    assert reproduce.tables(plain) == []
    assert reproduce.verdicts(plain) == []


def cells(made: Table) -> dict[tuple[str, str], Cell]:
    return {
        (name, head): cell
        for name, row in made.rows
        for head, cell in zip(made.head, row, strict=True)
    }


def test_table_1_is_by_hand(found: StoredResults) -> None:
    accuracies, statistics, costs = table1.tables(found)
    inside = cells(accuracies)
    assert inside["dfal", "30"].ours == "95.00"
    assert inside["full training set", "all"].ours == "95.00"
    assert inside["full training set", "all"].paper == "99.04"
    assert inside["full training set", "all"].differs == -1
    inside = cells(statistics)
    assert inside["dfal", "labels to the target"].ours == "30", "94.5 %"
    assert inside["random", "labels to the target"] == Cell("> 30")
    assert inside["random", "DFAL − this"].ours == "+19.00"
    assert float(inside["random", "seeds to detect it"].ours) <= 3
    assert inside["dfal", "running maximum"].ours == "95.00"
    assert cells(costs)["dfal", "seed 1"].ours == "7.50", "3 rounds of 2.5 s"


def test_verdicts_of_figure_2_are_by_hand(found: StoredResults) -> None:
    above, lead, twins = figure2.verdicts(found)
    assert above.answer == "reproduced"
    assert lead.answer == "undecided", "CORE-SET is level with it"
    assert "core-set −0.33 [−1.77, +1.10]" in lead.numbers
    assert "dfal-no-twins" not in lead.numbers, "which the paper's table does not have"
    assert twins.answer == "reproduced"


def test_table_2_is_by_hand(found: StoredResults) -> None:
    (made,) = table2.tables(found)
    inside = cells(made)
    assert made.head[0] == "annotations to the paper's 98.54 %"
    assert made.head[2] == "annotations to our 94.50 %"
    assert inside["dfal", made.head[0]] == Cell("> 30", "", "1210")
    assert (inside["dfal", made.head[2]].ours, inside["dfal", made.head[2]].paper) == (
        "30",
        "",
    ), "theirs is for their target"
    assert inside["ceal", made.head[0]] == Cell(paper="≥ 6000"), (
        "what we did not run stands there, too"
    )
    assert inside["ceal", made.head[2]] == Cell()
    savings = {one.claim.split(" for ")[0]: one for one in table2.verdicts(found)}
    assert savings["DFAL needs fewer annotations than core-set"].answer == "not reproduced", (
        "both need 30, whoever is drawn"
    )
    assert savings["DFAL needs fewer annotations than random"].answer == "not reproduced", (
        "30 is also where it ends"
    )


def test_table_2_takes_each_strategy_as_far_as_it_went(store: Store) -> None:
    preset = reproduce.preset("paper").changed({"annotations": 40, "dataset": "mnist", "seeds": 3})
    for trial in preset.trials(["core-set"]):
        accuracies = zip((10, 20, 30, 40), (0.6, 0.7, 0.8, 0.96), [10, 10, 10, 0], strict=True)
        write(
            store,
            trial,
            [
                at(place, budget, value, more)
                for place, (budget, value, more) in enumerate(accuracies)
            ],
        )
    found = reproduce.read_results(store)
    (made,) = table2.tables(found)
    inside = cells(made)
    assert inside["dfal", made.head[2]].ours == "30"
    assert inside["core-set", made.head[2]].ours == "40"
    assert ("random", made.head[2]) not in inside, "which nobody asked to go on"
    (verdict,) = table2.verdicts(found)
    assert verdict.numbers == "dfal 30, core-set 40: 10 fewer [0, 10]", (
        "some draws of DFAL's seeds are not there by 30"
    )
    other = dataclasses.replace(
        preset, trial=dataclasses.replace(preset.trial, annotations=50, batch=20)
    )
    write(
        store,
        other.trials(["core-set"])[0],
        [at(0, 10, 0.5, 20), at(1, 30, 0.6, 20), at(2, 50, 0.97, 0)],
    )
    (made,) = table2.tables(reproduce.read_results(store))
    assert "dfal" not in {name for name, cells in made.rows if any(cell.ours for cell in cells)}, (
        "n_query differs"
    )


def test_table_2_also_counts_by_running_maxima_as_the_paper_does(
    found: StoredResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    (study,) = found.main
    up_and_down = np.array([[0.95, 0.5, 0.5], [0.5, 0.95, 0.5], [0.5, 0.5, 0.95]])
    changed = dataclasses.replace(
        study, curves=(dataclasses.replace(study.curves[0], name="dfal", accuracy=up_and_down),)
    )
    monkeypatch.setattr(table2, "_longest", lambda _: [changed])
    (made,) = table2.tables(found)
    inside = cells(made)
    assert inside["dfal", made.head[2]].ours == "> 30"
    assert inside["dfal, running maximum", made.head[2]].ours == "30"
    assert inside["dfal, running maximum", made.head[0]].paper == "1210"


def test_savings_are_judged_by_their_interval(found: StoredResults) -> None:
    (study,) = found.main
    ours, theirs = curve_named(study, "dfal"), curve_named(study, "core-set")
    assert ours is not None
    assert theirs is not None
    early = table2.savings(study, ours, theirs, 0.78)
    assert early.answer == "reproduced"
    assert "dfal 20, core-set 30: 10 fewer [10, 10]" in early.numbers
    assert table2.savings(study, theirs, ours, 0.78).answer == "not reproduced"
    never = table2.savings(study, ours, theirs, 0.999)
    assert (never.answer, never.numbers) == (
        "undecided",
        "dfal > 30, core-set > 30: neither reached it",
    )


def test_table_3_is_by_hand(store: Store) -> None:
    preset = reproduce.preset("paper")
    (questions,) = table3.stages(preset)
    seconds = {
        "dfal": [0.5, 0.6, 0.7],
        "core-set-robust": [0.2, 0.1, 0.3],
        "core-set": [0.55, 0.9, 0.8],
    }
    for question, times in zip(questions, seconds.values(), strict=True):
        rows = [
            Record(i, dfal.Query.nothing(), NONE, NONE, NONE, {"picks": 10}, {"select": one})
            for i, one in enumerate(times)
        ]
        write(store, question, rows)
    found = reproduce.read_results(store)
    (made,) = table3.tables(found)
    inside = cells(made)
    assert inside["dfal", "seconds"] == Cell("0.600", "0.500 to 0.700", "126.54")
    assert inside["core-set-robust", "times DFAL's"] == Cell("0.33", "", "7.05")
    robust, greedy = table3.verdicts(found)
    assert (robust.answer, greedy.answer) == ("not reproduced", "undecided")
    assert "takes 0.33 times DFAL's 0.600 s; the paper: 7.05 times 126.54 s" in robust.numbers
    assert (
        table3.faster("", "core-set", np.array([1.0, 1.1]), np.array([2.0, 2.1])).answer
        == "reproduced"
    )


def test_table_4_is_by_hand(store: Store) -> None:
    preset = reproduce.preset("paper").changed({"annotations": 30, "seeds": 2})
    _, transfers = table4.stages(preset)
    gains = {"dfal": 0.03, "core-set": 0.02, "random": 0.0}
    for transfer in transfers:
        assert isinstance(transfer, Transfer)
        name = name_in(transfer.source, transfer.source.strategy)
        fooled = {"fooled": 0.4, "noise": 0.05, "twins": 10.0} if name == "dfal" else {}
        value = 0.9 + gains[name] + 0.001 * transfer.source.seed * (name == "dfal")
        write(
            store,
            transfer,
            [at(place, budget, value, 0, **fooled) for place, budget in enumerate(transfer.at)],
        )
    found = reproduce.read_results(store)
    accuracies, twins = table4.tables(found)
    inside = cells(accuracies)
    assert set(accuracies.head) == {"lenet5 → vgg8", "vgg8 → lenet5"}
    assert inside["dfal", "lenet5 → vgg8"].ours == "93.05"
    assert inside["dfal", "lenet5 → vgg8"].paper == "97.80"
    assert inside["random", "vgg8 → lenet5"].ours == "90.00", (
        "run once, it counts for every network"
    )
    assert ("dfal: lenet5 → lenet5 (another initialisation)", "twins that fool") in cells(twins)
    assert cells(twins)["dfal: lenet5 → vgg8", "noise that fools"].ours == "5.0"
    assert [one.answer for one in table4.verdicts(found)] == ["reproduced", "reproduced"]
    stray = transfers[0]
    assert isinstance(stray, Transfer)
    stray = dataclasses.replace(
        stray, source=dataclasses.replace(stray.source, strategy=dfal.DFAL(candidates=20))
    )
    write(store, stray, [at(0, 30, 0.1, 0)])
    again = table4.tables(reproduce.read_results(store))[0]
    assert again.rows == accuracies.rows, "with another K they are not mixed in"
    assert "left out for their other settings: 1." in again.caption


def test_half_of_table_4_asks_nothing_of_the_other_network(store: Store) -> None:
    preset = reproduce.preset("paper").changed({"annotations": 30, "seeds": 2, "one_way": True})
    choosing, transfers = table4.stages(preset)
    assert {trial.model for trial in choosing} == {"lenet5"}
    ways = {
        (name_in(one.source, one.source.strategy), one.source.model, one.model)
        for one in transfers
        if isinstance(one, Transfer)
    }
    trained = {(name, "lenet5", "vgg8") for name in ("dfal", "core-set", "random")}
    assert ways == trained | {("dfal", "lenet5", "lenet5")}
    assert {one.id for one in transfers} < {
        one.id for one in table4.stages(preset.changed({"one_way": False}))[1]
    }
    for transfer in transfers:
        assert isinstance(transfer, Transfer)
        write(
            store, transfer, [at(place, budget, 0.9, 0) for place, budget in enumerate(transfer.at)]
        )
    accuracies, *_ = table4.tables(reproduce.read_results(store))
    assert accuracies.head == ("lenet5 → vgg8",)
    assert len(accuracies.rows) == 3


def test_a_ranking_is_over_seeds_of_one_setting_or_over_settings(store: Store) -> None:
    alone = ranking(reproduce.read_results(store))
    assert alone is not None
    assert alone.over == "the 3 seeds of one setting (mnist, lenet5)"
    assert dict(zip(alone.names, alone.ranks.mean, strict=True))["dfal"] == 1
    for name, seeds in WRITTEN.items():
        other = reproduce.preset("paper").changed({"annotations": 30, "seeds": 3, "model": "vgg8"})
        for trial, accuracies in zip(other.trials([name]), seeds, strict=True):
            write(
                store,
                trial,
                [
                    at(place, b, a, 10 * (place < 2))
                    for place, (b, a) in enumerate(zip(BUDGETS, accuracies, strict=True))
                ],
            )
    both = ranking(reproduce.read_results(store))
    assert both is not None
    assert both.over == "2 settings"
    assert dict(zip(both.names, both.ranks.mean, strict=True)) == dict(
        zip(alone.names, alone.ranks.mean, strict=True)
    )


# --- what runs ------------------------------------------------------------------------------------


def bought(preset: reproduce.Preset, path: Path) -> tuple[Trial, list[Record]]:
    trial = preset.trials(["dfal"])[0]
    with Store(path, write=True) as store:
        list(runner.run([trial], store, 1))
        return trial, store.records(trial.id)


def test_a_transfer_trains_another_network_on_what_was_bought(
    digits: Dataset, tmp_path: Path
) -> None:
    trial, records = bought(small(), tmp_path / "s.db")
    transfer = Transfer(trial, TINY, (20, 40, 60), training=trial.training)
    first, second, last = transfer.run(digits, [], [records])
    assert [one.measurements["annotations"] for one in (first, second, last)] == [20, 40, 60]
    assert [one.measurements["labelled_data"] for one in (first, second, last)] == [
        20,
        60,
        100,
    ], "twins, too"
    assert first.measurements["twins"] == 40, "all that follow"
    assert second.measurements["twins"] == 20
    assert "fooled" not in last.measurements, "no twins follow"
    again = list(transfer.run(digits, [first], [records]))
    assert [one.measurements for one in again] == [
        second.measurements,
        last.measurements,
    ], "it goes on as if never stopped"
    assert from_json(Transfer, transfer.to_json()) == transfer
    with pytest.raises(dfal.DfalError, match="has no round at 60 annotations: run it first"):
        list(transfer.run(digits, [], [records[:1]]))
    with pytest.raises(dfal.DfalError, match="must be ascending budgets from 20 to 60"):
        dataclasses.replace(transfer, at=(10, 20))


def test_twins_fool_the_network_they_were_made_for_and_noise_as_long_hardly_does(
    digits: Dataset, tmp_path: Path
) -> None:
    """With the trial's own initialisation the network is the one that the twins of that round were
    made for."""
    trial, records = bought(small(epochs=30, first=60, annotations=80), tmp_path / "s.db")
    pool = trial.first_pool(digits)
    model = dfal.fit(
        lambda: small_networks.tiny((1, 28, 28), 10),
        pool.labelled_data(),
        trial.training,
        dfal.derive_seed(0, 0, "fit"),
    )
    from dfal.reproduce.transfer import _fooled

    measured = _fooled(model, digits, records, dfal.generator(0, 0, "noise"))
    assert measured["fooled"] == 1
    assert measured["noise"] < 0.5
    assert measured["twins"] == 20


def test_a_question_is_timed_and_goes_on(digits: Dataset) -> None:
    question = SelectionTiming(
        "mnist-5k",
        TINY,
        dfal.Entropy(),
        labelled=20,
        unlabelled=30,
        picks=3,
        repeats=3,
        training=dfal.Training(epochs=2),
    )
    records = list(question.run(digits, [], []))
    assert [one.round for one in records] == [0, 1, 2]
    assert all(one.costs["select"] > 0 for one in records)
    assert records[0].measurements == {"labelled": 20, "unlabelled": 30, "picks": 3}
    assert [one.round for one in question.run(digits, records[:1], [])] == [1, 2]
    assert list(question.run(digits, records, [])) == []
    asked: list[int] = []

    def counting(
        model: torch.nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator
    ) -> dfal.Query:
        asked.append(k)
        return dfal.Random()(model, pool, k, rng)

    assert len(list(dataclasses.replace(question, strategy=counting).run(digits, [], []))) == 3
    assert asked == [3] * 4, "the first warms caches up and is not timed"
    assert from_json(SelectionTiming, question.to_json()) == question
    with pytest.raises(dfal.DfalError, match="are more than the 4000 images of mnist-5k"):
        dataclasses.replace(question, unlabelled=5000).check(digits)


def test_a_longer_trial_goes_on_from_a_shorter_one_to_the_bit(tmp_path: Path) -> None:
    short, long = (
        small().trials(["dfal"], annotations=n)[0] for n in (50, 90)
    )  # 20, 40, and a last batch of 10
    with Store(tmp_path / "alone.db", write=True) as alone:
        list(runner.run([long], alone, 1))
        whole = [row for rows in alone.contents().values() for row in rows]
    with Store(tmp_path / "both.db", write=True) as both:
        list(runner.run([short], both, 1))
        records = list(runner.run([long], both, 1))
        assert [record.round for _, record in records] == [0, 1, 2, 3, 4]
        costs = [both.records(one.id)[0].costs for one in (short, long)]
        assert costs[0] == costs[1], "the first round was not run again"
        fresh = [both.records(one.id)[1].costs for one in (short, long)]
        assert fresh[0] != fresh[1], "the second asked about 10 only"
        assert [
            row for rows in both.contents().values() for row in rows if row[0] == long.id
        ] == whole


def test_a_shorter_trial_takes_what_it_can_from_a_longer_one(tmp_path: Path) -> None:
    short, long = (small().trials(["margin"], annotations=n)[0] for n in (40, 60))
    with Store(tmp_path / "alone.db", write=True) as alone:
        list(runner.run([short], alone, 1))
        whole = [row for rows in alone.contents().values() for row in rows]
    with Store(tmp_path / "both.db", write=True) as both:
        list(runner.run([long], both, 1))
        list(runner.run([short], both, 1))
        assert [
            row for rows in both.contents().values() for row in rows if row[0] == short.id
        ] == whole


def test_a_trial_does_not_take_rounds_from_another(tmp_path: Path) -> None:
    one = small().trials(["margin"], annotations=40)[0]
    others = [
        dataclasses.replace(one, seed=1, annotations=60),
        dataclasses.replace(one, batch=10, annotations=60),
    ]
    with Store(tmp_path / "alone.db", write=True) as alone:
        list(runner.run([one], alone, 1))
        whole = alone.contents()["questions"]
    with Store(tmp_path / "s.db", write=True) as store:
        list(runner.run(others, store, 1))
        list(runner.run([one], store, 1))
        assert [row for row in store.contents()["questions"] if row[0] == one.id] == whole


@pytest.mark.parametrize("what", sorted(reproduce.ARTEFACTS))
def test_everything_can_run_and_be_told_apart(what: str) -> None:
    """Ids are distinct, sources come in an earlier stage, and what is needed by two is one
    trial."""
    stages = reproduce.ARTEFACTS[what].stages(
        reproduce.preset("paper").changed({"dataset": "mnist-5k"})
    )
    ids = [job.id for stage in stages for job in stage]
    assert len(set(ids)) == len(ids)
    for earlier, stage in itertools.pairwise(stages):
        assert {source.id for job in stage for source in job.sources} <= {job.id for job in earlier}
    for job in itertools.chain(*stages):
        assert job.label
        assert all(effort > 0 for effort in job.round_costs)


def test_table_2_and_figure_3_are_the_papers_budgets() -> None:
    preset = reproduce.preset("paper")
    (stage,) = table2.stages(preset.changed({"dataset": "mnist-5k"}))
    assert {job.annotations for job in stage if isinstance(job, Trial)} == {2000, 4000}
    assert figure3.budgets(preset) == (200, 300, 400, 500, 600, 700, 800, 900, 1000)
    assert table4.budgets(preset.trial) == (500, 1000)


COMMAND = [
    *(
        sys.executable,
        "-m",
        "dfal",
        "reproduce",
        "table1",
        "--preset",
        "quick",
        "--annotations",
        "60",
        "--epochs",
        "2",
    ),
    *(
        "--seeds",
        "2",
        "--full-epochs",
        "1",
        "--strategy",
        "dfal,random",
        "--processes",
        "2",
        "--store",
        "s.db",
    ),
]


def stored_rounds(path: Path) -> int:
    try:
        with Store(path) as store:
            return sum(len(store.records(trial, twins=False)) for trial in store.trials())
    except dfal.DfalError:  # not there yet
        return 0


@pytest.mark.slow
def test_killed_on_all_cores_and_given_again_it_ends_in_the_same_store(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    (tmp_path / "whole").mkdir()
    subprocess.run(
        COMMAND, cwd=tmp_path / "whole", env=environment, capture_output=True, check=True
    )
    with Store(tmp_path / "whole" / "s.db") as store:
        whole = store.contents()
    rng = random.Random(0)
    for kill in range(4):
        folder = tmp_path / str(kill)
        folder.mkdir()
        process = subprocess.Popen(
            COMMAND, cwd=folder, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
        )
        rounds = rng.randrange(
            1, 14
        )  # of 14: 2 strategies, 2 seeds, 3 rounds, and 2 full training sets
        while process.poll() is None and stored_rounds(folder / "s.db") < rounds:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.3))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        subprocess.run(COMMAND, cwd=folder, env=environment, capture_output=True, check=True)
        with Store(folder / "s.db") as store:
            assert store.contents() == whole, kill


def test_infinite_and_missing_numbers_have_words(found: StoredResults) -> None:
    (study,) = found.main
    one = dataclasses.replace(study.curves[0], accuracy=study.curves[0].accuracy[:1])
    assert needed_cell(one, 0.78, "1210") == Cell("20", "", "1210")
    assert needed_cell(one, 2.0).ours == "> 30"
    assert math.isnan(Cell().p)
