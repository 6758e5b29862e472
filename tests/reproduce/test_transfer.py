"""Networks trained on labels that another network selected."""

import dataclasses
from pathlib import Path

import pytest

import dfal
import small_networks
from dfal import reproduce
from dfal.data.datasets import Dataset
from dfal.experiments import runner
from dfal.experiments.serialization import from_json
from dfal.experiments.store import Record, Store
from dfal.experiments.trial import Trial
from dfal.reproduce.transfer import Transfer
from paper_store import TINY, small


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
