"""The final model through the page's API: one at a time, cancelled, reported, refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dfal.data.datasets import Dataset
from dfal.labelling.learning.final_process import FinalTraining, Status
from labelled import a_session, some_pngs
from stubbed import NO_FINAL

pytest.importorskip("fastapi", reason="the page is an extra: pip install 'dfal[label]'")


class Training(FinalTraining):
    """A training that is as far as a test wants it."""

    def __init__(self) -> None:
        self.now, self.stopped = Status("computing features", 3, 7), False

    def status(self) -> Status:
        return self.now

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def trainings() -> list[Training]:
    """The trainings that were started."""
    return []


@pytest.fixture
def web(tmp_path: Path, digits: Dataset, trainings: list[Training]) -> Iterator[Any]:
    from fastapi.testclient import TestClient

    from dfal.labelling.web.api import application
    from dfal.labelling.web.final_model import FinalModel

    def begin() -> Training:
        trainings.append(Training())
        return trainings[-1]

    some_pngs(tmp_path / "photos", digits, 6)
    with a_session(tmp_path / "photos") as (session, photos):
        yield TestClient(application(session, photos, final=FinalModel(begin)))


def final(web: Any) -> Any:
    return web.get("/api/progress").json()["final"]


def test_one_training_at_a_time_which_can_be_cancelled(web: Any, trainings: list[Training]) -> None:
    assert final(web) == NO_FINAL
    assert web.post("/api/final/cancel").json() == NO_FINAL
    running = NO_FINAL | {"activity": "computing features", "state": "running"}
    assert web.post("/api/final").json() == running | {"done": 3, "total": 7}
    assert final(web)["state"] == "running"
    refused = web.post("/api/final")
    assert (refused.status_code, len(trainings)) == (409, 1)
    assert "already" in refused.json()["detail"]
    assert web.post("/api/final/cancel").json() == NO_FINAL
    assert trainings[0].stopped
    assert final(web) == NO_FINAL
    assert web.post("/api/final").json()["state"] == "running"
    assert len(trainings) == 2


def test_what_came_out_is_reported_without_the_folder_it_is_in(
    web: Any, trainings: list[Training]
) -> None:
    web.post("/api/final")
    accuracy = {"right": 9, "of": 10, "value": 0.9, "low": 0.6, "high": 0.98}
    report = {
        "path": "/home/ann/photos.final.safetensors",
        "network": "lite2, fine-tuned",
        "labels": 40,
        "accuracy": accuracy,
        "notes": ("flips help",),
        "why": (),
        "seconds": 3.0,
    }
    trainings[0].now = Status("done", 1, 1, report)
    assert final(web) == NO_FINAL | {
        "state": "done",
        "file": "photos.final.safetensors",
        "network": "lite2, fine-tuned",
        "labels": 40,
        "accuracy": accuracy,
        "notes": ["flips help"],
    }
    web.post("/api/final/cancel")
    assert not trainings[0].stopped, "it is over"
    assert final(web)["state"] == "done"
    web.post("/api/final")
    trainings[1].now = Status(error="labels of one class only")
    assert final(web) == NO_FINAL | {"state": "failed", "error": "labels of one class only"}


def test_without_a_way_to_train_it_is_refused(tmp_path: Path, digits: Dataset) -> None:
    from fastapi.testclient import TestClient

    from dfal.labelling.web.api import application

    some_pngs(tmp_path / "photos", digits, 6)
    with a_session(tmp_path / "photos") as (session, photos):
        web = TestClient(application(session, photos))
        assert final(web)["state"] == "unavailable"
        refused = web.post("/api/final")
    assert refused.status_code == 409
    assert "dfal train" in refused.json()["detail"]
