"""Rows of measurements and of queried images, as CSV and as data frames."""

import csv
import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dfal
from dfal.analysis.rows import COLUMNS, Kind
from dfal.analysis.studies import studies, write_csv
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial
from stored import a_record

EVERY_JOB = Path(__file__).parents[1] / "stores" / "every-job.db"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    shutil.copy(EVERY_JOB, tmp_path / "study.db")
    with Store(tmp_path / "study.db") as store:
        yield store


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_data_frame_has_the_rows_of_the_csv_file(
    store: Store, tmp_path: Path, kind: Kind
) -> None:
    (study,) = studies(store)
    write_csv([study], tmp_path / "rows.csv", kind)
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    frame = study.to_pandas(kind)
    assert list(frame.columns) == [name for name in COLUMNS[kind] if name != "study"]
    assert len(frame) == len(rows) == 12
    for row, values in zip(rows, frame.to_dict("records"), strict=True):
        for name, value in values.items():
            if isinstance(value, str):
                assert row[str(name)] == value
            else:
                assert math.isclose(float(row[str(name)]), value, abs_tol=5e-4), name


def test_a_queried_image_has_its_score_prediction_and_label(store: Store) -> None:
    (study,) = studies(store)
    frame = study.to_pandas("queries")
    for curve in study.curves:
        for trial, records in zip(curve.trials, curve.records, strict=True):
            rows = frame[frame["trial"] == trial.id]
            assert rows["image"].tolist() == records[0].query.indices.tolist()
            assert rows["score"].tolist() == records[0].query.scores.tolist()
            assert rows["predicted"].tolist() == records[0].seen.tolist()
            assert rows["label"].tolist() == records[0].answers.tolist()
            assert rows["position"].tolist() == [0, 1]


def test_scores_that_are_no_numbers_are_written(tmp_path: Path) -> None:
    """A strategy may give an infinite score; the column stays one of numbers."""
    trial = Trial(annotations=30)
    with Store(tmp_path / "s.db", write=True) as store:
        store.add_run({trial.id: trial.to_json()}, {})
        record = a_record(0)
        counts = {"annotations": 4.0, "labelled_data": 6.0, "accuracy": 0.5}
        object.__setattr__(record, "measurements", counts)
        store.add(trial.id, record)
        (study,) = studies(store)
    assert math.inf in study.to_pandas("queries")["score"].tolist()
    assert study.to_pandas("queries")["score"].dtype == float


def test_without_pandas_one_sentence_says_what_to_install(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    (study,) = studies(store)
    with pytest.raises(dfal.DfalError, match=r"needs pandas: pip install 'dfal\[pandas\]'"):
        study.to_pandas()
