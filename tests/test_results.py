"""From records to curves: the numbers by hand."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import dfal
from dfal.results import studies, titles, write_csv
from dfal.statistics import paired_p
from dfal.store import Record, Store
from dfal.trial import Trial
from dfal.types import DfalError

CURVES: dict[dfal.Strategy, list[list[float]]] = {
    dfal.DFAL(): [[0.2, 0.6, 0.9], [0.4, 0.8, 1.0]],
    dfal.Random(): [[0.2, 0.4, 0.7], [0.4, 0.6, 0.7]],
}


def record(place: int, accuracy: float, twins: bool, last: bool) -> Record:
    asked = torch.arange(0 if last else 10) + 10 * place
    annotations = 10 + 10 * place
    measured = {"annotations": annotations, "labelled_data": annotations + 10 * place * twins, "accuracy": accuracy}
    query = dfal.Query(asked, torch.zeros(len(asked)))
    return Record(place, query, asked % 10, asked % 10, torch.empty(0, dtype=torch.int64), measured)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two strategies, two seeds, three rounds."""
    store = Store(tmp_path / "s.db", write=True)
    for strategy, seeds in CURVES.items():
        for seed, accuracies in enumerate(seeds):
            trial = Trial(annotations=30, strategy=strategy, seed=seed)
            store.add_run({trial.id: trial.to_json()}, {"data": {}})
            for place, accuracy in enumerate(accuracies):
                store.add(trial.id, record(place, accuracy, strategy == dfal.DFAL(), place == 2))
    return store


def test_curves(store: Store) -> None:
    (study,) = studies(store)
    ours, random = study.curves
    assert (ours.name, random.name) == ("dfal", "random")
    assert study.baseline is random
    assert ours.finished
    np.testing.assert_array_equal(ours.annotations, [10, 20, 30])
    np.testing.assert_allclose(ours.labelled_data, [10, 30, 50])
    np.testing.assert_allclose(random.labelled_data, [10, 20, 30])
    np.testing.assert_allclose(ours.mean, [0.3, 0.7, 0.95])
    np.testing.assert_allclose(ours.spread, np.array([0.2, 0.2, 0.1]) / np.sqrt(2))
    np.testing.assert_allclose(ours.area, [(0.4 + 0.75) / 2, (0.6 + 0.9) / 2])
    falling = dataclasses.replace(ours, accuracy=np.array([[0.2, 0.8, 0.5], [0.4, 0.3, 0.6]]))
    np.testing.assert_allclose(falling.running_maximum, [0.3, 0.6, 0.7], err_msg="of each seed, then the mean")
    np.testing.assert_allclose(ours.interval, [[0.2, 0.6, 0.9], [0.4, 0.8, 1.0]], err_msg="of two seeds: from one to the other")
    assert ours.needed(random.mean[-1]) == 20
    assert ours.needed(0.99) is None
    assert study.budgets(2) == [10, 30]
    assert study.budgets(10) == [10, 20, 30]
    assert study.budgets(1, at=[30, 20]) == [30, 20]
    with pytest.raises(
        dfal.DfalError, match="no accuracy was measured at 25 annotations for every strategy: there are 10, 20, 30"
    ):
        study.budgets(1, at=[25])


def test_every_measurement_is_a_row(store: Store, tmp_path: Path) -> None:
    write_csv(studies(store), tmp_path / "all.csv")
    header, *rows = (tmp_path / "all.csv").read_text().splitlines()
    assert header.split(",")[:7] == ["dataset", "model", "strategy", "seed", "annotations", "labelled_data", "accuracy"]
    assert len(rows) == 12
    assert rows[4].startswith("mnist-5k,lenet5,dfal,1,20,30,0.8,")
    with pytest.raises(dfal.DfalError, match="cannot be written"):
        write_csv(studies(store), tmp_path / "no" / "folder.csv")


def test_an_unfinished_seed_shortens_its_curve_and_says_so(store: Store) -> None:
    trial = Trial(annotations=30, strategy=dfal.DFAL(), seed=2)
    store.add_run({trial.id: trial.to_json()}, {"data": {}})
    store.add(trial.id, record(0, 0.6, True, last=False))
    (study,) = studies(store)
    ours, random = study.curves
    assert not ours.finished
    assert random.finished
    np.testing.assert_allclose(ours.accuracy, [[0.2], [0.4], [0.6]])
    assert study.budgets(10) == [10]


def test_other_settings_are_another_study(store: Store) -> None:
    trial = dataclasses.replace(Trial(annotations=30), batch=5)
    store.add_run({trial.id: trial.to_json()}, {"data": {}})
    assert len(studies(store)) == 1, "a trial without a round is not shown"
    store.add(trial.id, record(0, 0.6, True, last=False))
    assert [study.settings.batch for study in studies(store)] == [10, 5]
    assert titles(studies(store)) == ["mnist-5k, lenet5, batch 10", "mnist-5k, lenet5, batch 5"]
    assert titles(studies(store)[:1]) == ["mnist-5k, lenet5"]
    assert studies(store)[1].baseline is None


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    with Store(tmp_path / "one.db", write=True) as store:
        trial = Trial(annotations=10, strategy=dfal.Random())
        store.add_run({trial.id: trial.to_json()}, {"data": {}})
        store.add(trial.id, record(0, 0.6, False, last=True))
        (curve,) = studies(store)[0].curves
    assert curve.spread.tolist() == [0]
    assert curve.area.tolist() == [0.6]


def test_every_strategy_is_compared_with_its_reference(store: Store) -> None:
    """Twins with the same without them, all others with random choice; seeds in pairs."""
    more: dict[dfal.Strategy, list[float]] = {
        dfal.DFAL(twins=False): [0.5, 0.6],
        dfal.Margin(): [0.6, 0.7],
        dfal.WithTwins(dfal.Margin()): [0.7, 0.9],
        dfal.WithTwins(dfal.BALD()): [0.7, 0.9],
        dfal.BatchDFAL(): [0.7, 0.9],
    }
    for strategy, flat in more.items():
        for seed, accuracy in enumerate(flat):
            trial = Trial(annotations=30, strategy=strategy, seed=seed)
            store.add_run({trial.id: trial.to_json()}, {"data": {}})
            for place in range(3):
                store.add(trial.id, record(place, accuracy, False, place == 2))
    alone = Trial(annotations=30, strategy=dfal.Entropy(), seed=7)
    store.add_run({alone.id: alone.to_json()}, {"data": {}})
    for place in range(3):
        store.add(alone.id, record(place, 0.5, False, place == 2))
    (study,) = studies(store)
    found = {one.curve.name: one for one in study.comparisons}
    assert {name: one.reference.name for name, one in found.items()} == {
        "dfal": "dfal-no-twins",
        "dfal-no-twins": "random",
        "dfal-batch": "random",
        "margin": "random",
        "margin+twins": "margin",
        "bald+twins": "random",
    }, "entropy has another seed, and nothing to be paired with"
    margin = found["margin+twins"]
    assert margin.gain == pytest.approx(0.15)
    np.testing.assert_allclose(margin.half_width, 12.706 * 0.05, rtol=1e-3)  # t₀.₉₇₅ of one degree of freedom, s/√2 = 0.05
    differences = [np.array([0.1, 0.2]), np.array([0.6, 0.7]) - study.baseline.area] if study.baseline else []
    assert paired_p(differences[0]) < margin.p <= 6 * paired_p(differences[0])


def test_every_strategy_is_compared_with_one_that_is_named(store: Store) -> None:
    (study,) = studies(store, against="dfal")
    assert [(one.curve.name, one.reference.name) for one in study.comparisons] == [("random", "dfal")]
    (usual,) = studies(store)
    assert study.comparisons[0].gain == -usual.comparisons[0].gain != 0
    with pytest.raises(DfalError, match="no strategy margin to compare with: there are dfal, random"):
        studies(store, against="margin")
