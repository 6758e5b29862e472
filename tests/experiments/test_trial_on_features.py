"""Trials on features: their configuration, their rounds, and what they are given."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_trial import lines
from torch import nn

import dfal
from dfal.analysis.studies import studies, titles
from dfal.data import datasets
from dfal.errors import DfalError
from dfal.experiments import runner, trial_data
from dfal.experiments.provenance import environment
from dfal.experiments.spreading import fit_spread
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial
from dfal.nn.networks import linear
from dfal.strategies import STRATEGIES

BACKBONE = "small_backbones:patches"


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    """120 grey images of three classes, which differ in where they are bright."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = rng.integers(0, 160, (120, 16, 16))
    for image, label in zip(images, labels, strict=True):
        image[4 * label : 4 * label + 4] += 80
    folder = tmp_path_factory.mktemp("data")
    np.savez(folder / "bright.npz", images=images.astype(np.uint8), labels=labels)
    return str(folder / "bright.npz")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    trial_data.forget()


@pytest.fixture
def trial(name: str) -> Trial:
    return Trial(
        dataset=name,
        backbone=BACKBONE,
        annotations=24,
        first=6,
        batch=6,
        strategy=dfal.DFAL(candidates=30),
        training=dfal.Training(epochs=20, learning_rate=0.02),
    )


def test_the_network_is_a_linear_layer_and_auto_is_a_backbone() -> None:
    assert Trial(backbone="pixels").model == "linear"
    assert Trial(backbone="pixels", model="mine:net").model == "mine:net"
    assert Trial(backbone="auto") == Trial(backbone="lite2")
    assert Trial(backbone="none") == Trial()
    assert Trial(backbone="none").model == "lenet5"
    text = Trial(backbone="auto", size=96).to_json()
    assert Trial.from_json(text) == Trial(backbone="lite2", size=96)
    assert '"backbone": "lite2"' in text
    ids = {t.id for t in (Trial(), Trial(backbone="lite2"), Trial(backbone="lite0"), Trial(size=9))}
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"size": 7}, r"size must be 8 to 2048 pixels, or 0 \(got 7\)"),
        ({"size": -1}, "size must be"),
        ({"size": 2049}, "size must be"),
        ({"fit": "a:b", "training": dfal.Training(epochs=3)}, "a:b has no use for the settings"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(DfalError, match=sentence):
        Trial(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_runs_and_resumes_to_the_bit(trial: Trial, strategy: str) -> None:
    trial = dataclasses.replace(trial, strategy=STRATEGIES[strategy])
    trial.check(trial.data_to_check())
    records = list(trial.run(trial.data()))
    assert [record.measurements["annotations"] for record in records] == [6, 12, 18, 24]
    trial_data.forget()
    resumed = list(trial.run(trial.data(), records[:2]))
    assert lines(resumed) == lines(records[2:])


def test_features_are_learnt_from(trial: Trial) -> None:
    records = list(
        dataclasses.replace(trial, annotations=60, strategy=dfal.Random()).run(trial.data())
    )
    assert records[-1].measurements["accuracy"] > 0.8


def test_the_boundary_is_measured_in_closed_form(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = list(trial.run(trial.data()))
    steps = dataclasses.replace(trial, strategy=dfal.DFAL(dfal.DeepFool(classes=3), candidates=30))
    by_steps = list(steps.run(trial.data()))
    assert [record.query.indices.tolist() for record in exact] == [
        record.query.indices.tolist() for record in by_steps
    ]
    monkeypatch.setattr(dfal.DeepFool, "nearest", None)
    monkeypatch.setattr(dfal.DeepFool, "__call__", None)
    assert lines(list(trial.run(trial.data()))) == lines(exact)


def deep(image: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(image[0], 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, classes))


def test_another_network_may_take_the_features(trial: Trial) -> None:
    trial = dataclasses.replace(trial, model="test_trial_on_features:deep")
    trial.check(trial.data_to_check())
    records = list(trial.run(trial.data()))
    assert len(records) == 4
    assert records[0].query.twins is not None, "DeepFool finds them in the space of the features"


def test_a_network_for_images_is_refused(trial: Trial) -> None:
    with pytest.raises(
        DfalError, match=r"vgg8 takes images, but it is given .* features .*--model linear"
    ):
        trial = dataclasses.replace(trial, model="vgg8")
        trial.check(trial.data_to_check())
    with pytest.raises(DfalError, match=r"runs on features of .*, but it is given images"):
        list(trial.run(datasets.load(trial.dataset)))


def test_images_are_resized_for_a_network(trial: Trial) -> None:
    small = dataclasses.replace(trial, backbone="", size=20, model="lenet5")
    small.check(small.data_to_check())
    (record, *_) = small.run(small.data())
    assert record.query.twins is not None
    assert record.query.twins.shape[1:] == (1, 20, 20)


def test_checking_computes_no_features(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfal.experiments.featuriser.Featuriser.__call__", None)
    runner.check([trial])
    with pytest.raises(DfalError, match="is more than the 96 images of the pool"):
        runner.check([dataclasses.replace(trial, annotations=1000)])


def test_processes_share_the_file_and_the_store_knows_the_backbone(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [dataclasses.replace(trial, seed=seed) for seed in range(2)]
    runner.prepare(trials)
    alone = [list(trial.run(trial.data())) for trial in trials]
    with Store(tmp_path / "s.db", write=True) as store:
        for _ in runner.run(trials, store, processes=1):
            pass
        assert [lines(store.records(trial.id)) for trial in trials] == [lines(a) for a in alone]
        (run,) = store.environments()
    known = run["backbones"][trial.dataset]
    assert list(known) == [BACKBONE]
    assert environment(trials)["backbones"][trial.dataset] == known

    import small_backbones

    make = small_backbones.patches

    def other(argument: str = "", image: tuple[int, int, int] | None = None) -> object:
        backbone = make(argument, image)
        with torch.no_grad():
            backbone.network.scale.mul_(1.5)  # type: ignore[operator]
        return backbone

    monkeypatch.setattr(small_backbones, "patches", other)
    trial_data.forget()
    with (
        Store(tmp_path / "s.db", write=True) as store,
        pytest.raises(DfalError, match=f"the backbone {BACKBONE} is not the one that"),
    ):
        list(runner.run(trials, store, processes=1))


@pytest.fixture
def spreading(trial: Trial) -> Trial:
    return dataclasses.replace(trial, training=dfal.Training(unlabelled="spreading"))


@pytest.mark.parametrize("strategy", ["margin", "dfal", "ceal", "core-set", "bald", "egl"])
def test_labels_that_spread_are_those_that_were_given(spreading: Trial, strategy: str) -> None:
    spreading = dataclasses.replace(spreading, strategy=STRATEGIES[strategy])
    spreading.check(spreading.data_to_check())
    data = spreading.data()
    records = list(spreading.run(data))
    assert lines(list(spreading.run(data, records[:2]))) == lines(records[2:])
    known = torch.cat(
        [spreading.first_pool(data).labelled, *(record.query.indices for record in records)]
    )
    others = torch.ones(len(data.labels), dtype=torch.bool)
    others[known] = False
    assert others.sum() == 96 - 24
    labels = data.labels.clone()
    labels[others] = (labels[others] + 1) % 3
    assert lines(list(spreading.run(dataclasses.replace(data, labels=labels)))) == lines(records)
    if strategy == "dfal":
        assert records[-1].measurements["labelled_data"] == 24 + 18


def test_unlabelled_images_teach(spreading: Trial) -> None:
    data = spreading.data()
    pool, network = spreading.first_pool(data), linear(data.images.shape, 3)
    before = fit_spread(network, pool, 3).state_dict()["2.weight"].clone()
    rows = data.images.take(torch.arange(96))
    rows[pool.unlabelled] = rows[pool.unlabelled].flip(1)
    moved = dfal.Pool.new(rows, {int(i): int(data.labels[i]) for i in pool.labelled})
    after = fit_spread(network, moved, 3).state_dict()["2.weight"]
    assert torch.equal(moved.labelled_data().images, pool.labelled_data().images)
    assert (before - after).abs().max() > 0.1


def test_spreading_trains_nothing_but_a_linear_layer_on_features(spreading: Trial) -> None:
    with pytest.raises(
        DfalError, match="unlabelled must not be spreading with the network mine:net"
    ):
        dataclasses.replace(spreading, model="mine:net")
    with pytest.raises(DfalError, match="unlabelled must not be spreading without --backbone"):
        dataclasses.replace(spreading, backbone="")
    with pytest.raises(DfalError, match="has no use for the settings"):
        dataclasses.replace(spreading, fit="mine:fit")
    data = spreading.data()
    with pytest.raises(DfalError, match="this network is none"):
        fit_spread(deep(data.images.shape, 3), spreading.first_pool(data), 3)
    with pytest.raises(DfalError, match=r"give it to a dfal\.Trial with a backbone"):
        dfal.fit(
            lambda: linear((3,), 2),
            spreading.first_pool(data).labelled_data(),
            spreading.training,
            0,
        )


def test_it_is_named_wherever_its_results_are(spreading: Trial, tmp_path: Path) -> None:
    with Store(tmp_path / "s.db", write=True) as store:
        for _ in runner.run([spreading], store, processes=1):
            pass
        (title,) = titles(studies(store))
    assert title == f"bright.npz, linear on {BACKBONE}, unlabelled spreading"


def quick_fit(make: Callable[[], nn.Module], data: dfal.LabelledData, seed: int) -> nn.Module:
    return dfal.fit(make, data, dfal.Training(epochs=5), seed)


def test_a_training_of_the_users_own(trial: Trial, tmp_path: Path) -> None:
    plain = dataclasses.replace(trial, training=dfal.Training(epochs=5))
    mine = dataclasses.replace(
        trial, training=dfal.Training(), fit="test_trial_on_features:quick_fit"
    )
    mine.check(mine.data_to_check())
    records = list(mine.run(mine.data()))
    assert lines(list(mine.run(mine.data(), records[:2]))) == lines(records[2:])
    expected = list(plain.run(plain.data()))
    assert records[0].measurements == expected[0].measurements, "the same seed"
    assert "test_trial_on_features:quick_fit" in environment([mine])["trainings"]
    with pytest.raises(DfalError, match="the training 'nowhere:fit' cannot be found"):
        (broken := dataclasses.replace(mine, fit="nowhere:fit")).check(broken.data_to_check())
