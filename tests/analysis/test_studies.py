"""From records to curves: the numbers by hand."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import dfal
from dfal.analysis.learning_curves import refuse_unmeasured
from dfal.analysis.studies import studies, titles, write_csv
from dfal.errors import DfalError
from dfal.experiments.recipes import RECIPES, describe_learning
from dfal.experiments.store import Record, Store
from dfal.experiments.trial import Trial
from dfal.stats.significance import paired_p
from dfal.strategies import name_of

CURVES: dict[dfal.Strategy, list[list[float]]] = {
    dfal.DFAL(): [[0.2, 0.6, 0.9], [0.4, 0.8, 1.0]],
    dfal.Random(): [[0.2, 0.4, 0.7], [0.4, 0.6, 0.7]],
}


def record(place: int, accuracy: float, twins: bool, last: bool) -> Record:
    asked = torch.arange(0 if last else 10) + 10 * place
    annotations = 10 + 10 * place
    measured = {
        "annotations": annotations,
        "labelled_data": annotations + 10 * place * twins,
        "accuracy": accuracy,
    }
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
    np.testing.assert_allclose(ours.aulc, [(0.4 + 0.75) / 2, (0.6 + 0.9) / 2])
    falling = dataclasses.replace(ours, accuracy=np.array([[0.2, 0.8, 0.5], [0.4, 0.3, 0.6]]))
    np.testing.assert_allclose(
        falling.running_maximum.mean, [0.3, 0.6, 0.7], err_msg="of each seed, then the mean"
    )
    np.testing.assert_allclose(
        ours.interval,
        [[0.2, 0.6, 0.9], [0.4, 0.8, 1.0]],
        err_msg="of two seeds: from one to the other",
    )
    assert ours.needed(random.mean[-1]) == 20
    assert ours.needed(0.99) is None
    assert study.budgets(2) == [10, 30]
    assert study.budgets(10) == [10, 20, 30]
    assert study.budgets(1, at=[30, 20]) == [30, 20]
    assert study.budgets(1, at=[20, 25]) == [20], "another study of the store may have it"
    assert study.budgets(1, at=[25]) == [30]
    refuse_unmeasured([dataclasses.replace(study, curves=study.curves[:0]), study], [10, 20])
    refuse_unmeasured([], [25])
    with pytest.raises(
        dfal.DfalError, match="no accuracy was measured at 25 annotations: there are 10, 20, 30"
    ):
        refuse_unmeasured([study], [10, 25])


def test_every_measurement_is_a_row(store: Store, tmp_path: Path) -> None:
    write_csv(studies(store), tmp_path / "all.csv")
    header, *rows = (tmp_path / "all.csv").read_text().splitlines()
    assert header.split(",")[:7] == [
        "dataset",
        "model",
        "strategy",
        "seed",
        "annotations",
        "labelled_data",
        "accuracy",
    ]
    assert len(rows) == 12
    assert rows[4].startswith("mnist-5k,lenet5,dfal,1,20,30,0.8,")
    with pytest.raises(dfal.DfalError, match="cannot be written"):
        write_csv(studies(store), tmp_path / "no" / "folder.csv")


def put(
    store: Store, strategy: dfal.Strategy, seed: int, accuracies: list[float], *, last: bool = True
) -> None:
    trial = Trial(annotations=30, strategy=strategy, seed=seed)
    store.add_run({trial.id: trial.to_json()}, {"data": {}})
    for place, accuracy in enumerate(accuracies):
        store.add(trial.id, record(place, accuracy, False, last and place == len(accuracies) - 1))


def test_an_unfinished_seed_is_left_out_and_said(store: Store) -> None:
    """It does not shorten the others."""
    put(store, dfal.DFAL(), 2, [0.6], last=False)
    put(store, dfal.Margin(), 0, [0.2, 0.5], last=False)
    (study,) = studies(store)
    ours, random, margin = study.curves
    assert ours.finished
    assert ours.accuracy.shape == random.accuracy.shape == (2, 3)
    assert not margin.finished, "where nothing is finished, what there is"
    assert study.budgets(10) == [10, 20, 30]
    assert study.aulc(margin) is None
    assert study.aulc(ours) is not None
    left_out, seeds, short = study.notes
    assert left_out == "Left out, as they are not finished yet: dfal, seed 2."
    assert seeds.startswith(
        "The strategies have different seeds: dfal 0, 1, random 0, 1, margin 0."
    )
    assert short.startswith("Not all have reached 30 annotations: margin 20.")


def test_curves_with_different_k_are_not_one_curve(store: Store, tmp_path: Path) -> None:
    """They would count as more seeds."""
    put(store, dfal.DFAL(candidates=20), 0, [0.1, 0.2, 0.3])
    (study,) = studies(store)
    assert [(curve.name, curve.seeds) for curve in study.curves] == [
        ("dfal (K = 20)", [0]),
        ("dfal (K = 300)", [0, 1]),
        ("random", [0, 1]),
    ]
    first, second = studies(store, apart=True)
    assert {curve.name for study in (first, second) for curve in study.curves} == {"dfal", "random"}
    assert sorted(titles([first, second])) == [
        "mnist-5k, lenet5, candidates 20",
        "mnist-5k, lenet5, candidates 300",
    ]
    write_csv([first, second], tmp_path / "all.csv")
    rows = list(csv.DictReader((tmp_path / "all.csv").read_text().splitlines()))
    assert len(rows) == 15, "random sampling belongs to both studies, and is written once"
    assert {(row["strategy"], row["candidates"]) for row in rows} == {
        ("dfal", "20"),
        ("dfal", "300"),
        ("random", ""),
    }


def test_names_that_mean_two_strategies_say_what_differs(store: Store) -> None:
    put(store, dfal.Stochastic(dfal.BALD(candidates=7)), 0, [0.1, 0.2, 0.3])
    put(store, dfal.CEAL(), 0, [0.1, 0.2, 0.3])
    put(store, dfal.CEAL(threshold=0.19), 0, [0.1, 0.2, 0.3])
    (study,) = studies(
        store,
        named=lambda _, strategy: "ceal" if isinstance(strategy, dfal.CEAL) else name_of(strategy),
    )
    names = [curve.name for curve in study.curves]
    assert {"dfal (K = 300)", "random", "power-bald (K = 7)"} < set(names)
    assert len({name for name in names if name.startswith("CEAL(")}) == 2


def test_a_strategy_of_ones_own_says_its_k_too(store: Store) -> None:
    put(store, dfal.WithTwins(dfal.Margin(candidates=7)), 0, [0.1, 0.2, 0.3])
    for candidates in (7, 8):
        put(store, Mine(candidates), 0, [0.1, 0.2, 0.3])
    names = [curve.name for curve in studies(store)[0].curves]
    assert len(set(names)) == len(names) == 5
    assert {name[-8:] for name in names if "Mine" in name} == {" (K = 7)", " (K = 8)"}


@dataclasses.dataclass(frozen=True)
class Mine:
    """Someone's own strategy."""

    candidates: int | None = None

    def __call__(
        self, model: torch.nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator
    ) -> dfal.Query:
        return dfal.Query.nothing()


def test_two_texts_of_one_trial_are_one_seed(store: Store) -> None:
    """As where a setting that is not stored at its default was stored by an older dfal."""
    trial = Trial(annotations=30, strategy=dfal.DFAL(), seed=0)
    store.add_run({"another id": trial.to_json() + " "}, {"data": {}})
    store.add("another id", record(0, 0.9, True, last=False))
    (study,) = studies(store)
    assert study.curves[0].seeds == [0, 1]
    assert study.curves[0].accuracy.shape == (2, 3)


def test_differences_are_over_the_seeds_that_both_have(store: Store) -> None:
    put(store, dfal.Random(), 2, [0.9, 0.9, 0.9])
    put(store, dfal.Entropy(), 7, [0.5, 0.5, 0.5])
    (study,) = studies(store)
    (one,) = study.comparisons
    assert (one.curve.name, one.reference.name, one.seeds) == ("dfal", "random", 2)
    assert one.gain == pytest.approx(np.mean([0.575 - 0.425, 0.75 - 0.575]))
    assert study.seeds == "1 to 3 seeds"
    assert study.notes[-1] == "uncertainty and random have no seed in common and are not compared."


def test_a_full_training_set_is_no_random_choice(store: Store, tmp_path: Path) -> None:
    full = Trial(annotations=4000, first=4000, strategy=dfal.Random())
    store.add_run({full.id: full.to_json()}, {"data": {}})
    store.add(full.id, record(0, 0.97, False, last=True))
    write_csv(studies(store), tmp_path / "all.csv")
    rows = list(csv.DictReader((tmp_path / "all.csv").read_text().splitlines()))
    assert [row["strategy"] for row in rows].count("full training set") == 1
    assert sum(row["strategy"] == "random" for row in rows) == 6
    assert [study.against for study in studies(store, against="dfal")].count("dfal") == 1, (
        "and nothing to compare with"
    )


def test_other_settings_are_another_study(store: Store) -> None:
    trial = dataclasses.replace(Trial(annotations=30), batch=5)
    store.add_run({trial.id: trial.to_json()}, {"data": {}})
    assert len(studies(store)) == 1, "a trial without a round is not shown"
    store.add(trial.id, record(0, 0.6, True, last=False))
    assert [study.settings.batch for study in studies(store)] == [10, 5]
    assert titles(studies(store)) == ["mnist-5k, lenet5, batch 10", "mnist-5k, lenet5, batch 5"]
    assert titles(studies(store)[:1]) == ["mnist-5k, lenet5"]
    assert studies(store)[1].baseline is None


PAPER, QUICK, BEST = (Trial(**RECIPES[name]) for name in ("paper", "quick", "best"))
WITHOUT_VAT = dataclasses.replace(
    BEST, training=dataclasses.replace(BEST.training, unlabelled="pseudo-labels")
)


@pytest.mark.parametrize(
    ("trials", "endings"),
    [
        ([PAPER], [""]),
        ([Trial(training=dfal.Training(epochs=7))], [""]),
        ([QUICK], [", recipe quick"]),
        ([BEST], [", recipe best"]),
        ([dataclasses.replace(QUICK, seed=3, batch=30)], [", recipe quick"]),
        ([PAPER, BEST], [", recipe paper, first 10", ", recipe best, first 30"]),
        ([WITHOUT_VAT], [", recipe best, unlabelled pseudo-labels"]),
        (
            [BEST, WITHOUT_VAT],
            [", recipe best, unlabelled consistency", ", recipe best, unlabelled pseudo-labels"],
        ),
        ([dataclasses.replace(BEST, first_by="random")], [", recipe best, first_by random"]),
        ([dataclasses.replace(PAPER, first_by="typical")], [", first_by typical"]),
        ([Trial(training=dfal.Training(steps=500))], [", steps 500"]),
        (
            [Trial(training=dfal.Training(epochs=epochs)) for epochs in (5, 7)],
            [", epochs 5", ", epochs 7"],
        ),
        ([Trial(fit="mine:fit")], [", fit mine:fit"]),
    ],
)
def test_a_title_names_how_the_trials_learn(
    store: Store, trials: list[Trial], endings: list[str]
) -> None:
    (study,) = studies(store)
    several = [dataclasses.replace(study, settings=trial) for trial in trials]
    assert titles(several) == [f"mnist-5k, lenet5{ending}" for ending in endings]


def test_each_row_says_how_its_trial_learns() -> None:
    said = [describe_learning(trial) for trial in (PAPER, QUICK, BEST, WITHOUT_VAT)]
    assert said == ["paper", "quick", "best", "best, unlabelled pseudo-labels"]
    assert describe_learning(Trial(training=dfal.Training(epochs=50))) == "paper, epochs 50"
    assert describe_learning(Trial(fit="mine:fit")) == "mine:fit"


def test_a_folder_goes_by_its_name_unless_two_have_the_same(store: Store) -> None:
    (study,) = studies(store)
    at = [
        dataclasses.replace(study, settings=dataclasses.replace(study.settings, dataset=place))
        for place in PLACES
    ]
    assert titles(at[:2]) == ["cats, lenet5", "dogs, lenet5"]
    assert titles(at) == ["/a/cats, lenet5", "dogs, lenet5", "/c/cats, lenet5"]


PLACES = ("/a/cats", "/b/dogs", "/c/cats")


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    with Store(tmp_path / "one.db", write=True) as store:
        trial = Trial(annotations=10, strategy=dfal.Random())
        store.add_run({trial.id: trial.to_json()}, {"data": {}})
        store.add(trial.id, record(0, 0.6, False, last=True))
        (curve,) = studies(store)[0].curves
    assert curve.spread.tolist() == [0]
    assert curve.aulc.tolist() == [0.6]


def test_every_strategy_is_compared_with_its_reference(store: Store) -> None:
    """Each with random sampling, DFAL first, and then twins with the same without them; seeds in
    pairs."""
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
    found = {(one.curve.name, one.reference.name): one for one in study.comparisons}
    assert list(found) == [
        ("dfal", "random"),
        ("dfal-no-twins", "random"),
        ("dfal-batch", "random"),
        ("margin", "random"),
        ("bald+twins", "random"),
        ("margin+twins", "random"),
        ("dfal", "dfal-no-twins"),
        ("margin+twins", "margin"),
    ], "entropy has another seed, and nothing to be paired with"
    margin = found["margin+twins", "margin"]
    assert margin.gain == pytest.approx(0.15)
    np.testing.assert_allclose(
        margin.half_width, 12.706 * 0.05, rtol=1e-3
    )  # t₀.₉₇₅ of one degree of freedom, s/√2 = 0.05
    differences = (
        [np.array([0.1, 0.2]), np.array([0.6, 0.7]) - study.baseline.aulc] if study.baseline else []
    )
    smaller = 5  # of the family of eight: Holm's factor for the sixth is 3
    assert margin.p == pytest.approx((8 - smaller) * paired_p(differences[0]))
    np.testing.assert_allclose(
        paired_p(differences[0]), 0.204833, rtol=1e-5
    )  # of t = 3 with one degree of freedom
    dfal_ = found["dfal", "random"]
    assert study.baseline is not None
    np.testing.assert_allclose(dfal_.gain, (dfal_.curve.aulc - study.baseline.aulc).mean())


def test_every_strategy_is_compared_with_one_that_is_named(store: Store) -> None:
    (study,) = studies(store, against="dfal")
    assert [(one.curve.name, one.reference.name) for one in study.comparisons] == [
        ("random", "dfal")
    ]
    (usual,) = studies(store)
    assert study.comparisons[0].gain == -usual.comparisons[0].gain != 0
    with pytest.raises(
        DfalError, match="no strategy margin to compare with: there are dfal, random"
    ):
        studies(store, against="margin")
