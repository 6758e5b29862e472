"""The studies and curves that a store holds."""

import dataclasses

import numpy as np

from dfal import reproduce
from dfal.analysis.learning_curves import aulc_differences, common
from dfal.experiments.store import Store
from dfal.reproduce.stored_results import StoredResults, curve_named, pairs
from paper_store import WRITTEN, at, write


def test_the_shelf_sorts_a_store(paper_results: StoredResults) -> None:
    (study,) = paper_results.main
    assert {one.name for one in study.curves} == set(WRITTEN)
    assert paper_results.reproduced
    full = paper_results.full_accuracy(study)
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
    paper_results: StoredResults,
) -> None:
    (study,) = paper_results.main
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


def test_a_seed_that_is_not_finished_does_not_shorten_those_that_are(paper_store: Store) -> None:
    preset = reproduce.preset("paper").changed({"annotations": 30, "seeds": 4})
    write(paper_store, preset.trials(["dfal"])[3], [at(0, 10, 0.1)])
    write(paper_store, preset.trials(["margin"])[3], [at(0, 10, 0.2)])
    (study,) = reproduce.read_results(paper_store).main
    dfal_, margin = curve_named(study, "dfal"), curve_named(study, "margin")
    assert dfal_ is not None
    assert margin is not None
    assert dfal_.accuracy.shape == (3, 3)
    assert margin.accuracy.tolist() == [[0.2]], "where nothing is finished, what there is"


def test_trials_with_another_k_stand_in_tables_of_their_own(paper_store: Store) -> None:
    preset = reproduce.preset("paper").changed({"annotations": 30, "candidates": 20})
    write(
        paper_store, preset.trials(["dfal"])[0], [at(0, 10, 0.1), at(1, 20, 0.2), at(2, 30, 0.3, 0)]
    )
    found = reproduce.read_results(paper_store)
    (study,) = found.main
    assert {one.name for one in study.curves} == set(WRITTEN)
    other = next(one for one in found.studies if one is not study)
    assert [(one.name, len(one.trials)) for one in other.curves] == [("dfal", 1), ("random", 3)]


def test_a_plain_run_is_not_held_against_the_paper(paper_results: StoredResults) -> None:
    assert reproduce.tables(paper_results)
    assert reproduce.verdicts(paper_results)
    plain = dataclasses.replace(paper_results, reproduced=False)
    assert reproduce.tables(plain) == []
    assert reproduce.verdicts(plain) == []
