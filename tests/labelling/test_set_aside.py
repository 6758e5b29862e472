"""Images that a session cannot read: set aside where the file is at fault, tried again where it is
not, and taken back."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfal.data.image_files import Unavailable
from dfal.data.image_folder import Folder
from dfal.data.listing import GONE
from dfal.errors import DfalError
from dfal.labelling.learning.training_process import _decode
from dfal.labelling.photos import Photos
from dfal.labelling.store.schema import Settings
from dfal.labelling.store.session import Session
from labelled import grey_pngs


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return grey_pngs(tmp_path / "photos", 8)


@contextlib.contextmanager
def begun(images: Path) -> Iterator[tuple[Session, Photos]]:
    settings = Settings(folder=str(images), cache=str(images.parent / "cache"), holdout=0)
    paths = [f"{place}.png" for place in range(8)]
    with (
        Folder.open(images, settings.cache, order=paths) as folder,
        Session.start(images.parent / "s.db", settings, paths, ["a", "b"], person="ann") as session,
    ):
        yield session, Photos(session, folder)


def test_a_folder_that_is_away_sets_nothing_aside(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def come_back(_: float) -> None:
        images.with_name("away").rename(images)

    monkeypatch.setattr(time, "sleep", come_back)
    with begun(images) as (session, photos):
        images.rename(images.with_name("away"))
        for look in (photos.original, photos.thumbnail, photos.network_image):
            with pytest.raises(Unavailable, match="is away"):
                look(3)
        assert session.refresh().unreadable == {}
        _decode(session, photos)  # the folder comes back in the first pause
        assert session.refresh().unreadable == {}
        assert photos.ready().all()
        assert len(session.ask(8)) == 8


def test_what_cannot_be_read_is_set_aside_and_asked_about_again_when_it_can(images: Path) -> None:
    good = (images / "3.png").read_bytes()
    (images / "3.png").write_bytes(b"hello")
    (images / "4.png").rename(images / "elsewhere")
    with begun(images) as (session, photos):
        for image, reason in ((3, "it is no JPEG"), (4, "no longer there")):
            with pytest.raises(DfalError, match=reason):
                photos.network_image(image)
        assert session.refresh().unreadable.keys() == {3, 4}
        _decode(session, photos)
        assert {question.image for question in session.ask(8)} == {0, 1, 2, 5, 6, 7}
        session.leave()
    (images / "3.png").write_bytes(good)
    (images / "elsewhere").rename(images / "4.png")
    for _ in range(2):
        with begun(images) as (session, photos):
            _decode(session, photos)
            assert session.refresh().unreadable == {}
            assert session.state.left == 8
            assert {question.image for question in session.ask(8)} == set(range(8))
            session.leave()
    with sqlite3.connect(images.parent / "s.db") as database:
        rows = database.execute(
            "SELECT image, reason = '' FROM set_aside ORDER BY number"
        ).fetchall()
    database.close()
    assert rows == [(3, 0), (4, 0), (3, 1), (4, 1)]  # nothing is written twice


def test_what_an_earlier_version_set_aside_for_good_is_taken_back(images: Path) -> None:
    with begun(images):
        pass
    with sqlite3.connect(images.parent / "s.db") as database:
        for image in range(6):
            database.execute(
                "INSERT INTO unreadable (image, reason, at) VALUES (?, ?, 0)", (image, GONE)
            )
    database.close()
    with begun(images) as (session, photos):
        assert session.state.left == 2
        _decode(session, photos)
        assert (session.refresh().left, session.state.unreadable) == (8, {})


def test_a_file_that_may_not_be_read_is_set_aside_until_it_may(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, refusing, pauses = Path.read_bytes, [True], [0]

    def read(path: Path) -> bytes:
        if path.name == "5.png" and refusing[0]:
            raise PermissionError(13, "Permission denied")
        return whole(path)

    def sleep(_: float) -> None:
        pauses[0] += 1
        if pauses[0] == 4:
            assert session.refresh().unreadable == {
                5: "5.png: it cannot be read just now (Permission denied)"
            }
            refusing[0] = False

    monkeypatch.setattr(Path, "read_bytes", read)
    monkeypatch.setattr(time, "sleep", sleep)
    with begun(images) as (session, photos):
        _decode(session, photos)
        assert pauses == [4]
        assert session.refresh().unreadable == {}


def test_the_page_is_told_to_try_again(images: Path) -> None:
    pytest.importorskip("fastapi", reason="the page is an extra: pip install 'dfal[label]'")
    from starlette.testclient import TestClient

    from dfal.labelling.web.api import application

    with begun(images) as (session, photos), TestClient(application(session, photos)) as web:
        images.rename(images.with_name("away"))
        answer = web.get("/api/images/3")
        assert (answer.status_code, "is away" in answer.json()["detail"]) == (503, True)
        images.with_name("away").rename(images)
        assert web.get("/api/images/3").status_code == 200
        (images / "3.png").write_bytes(b"hello")
        assert (
            web.get("/api/images/3").status_code == 400
        )  # the file is at fault: the page goes on without it
        assert session.refresh().unreadable.keys() == {3}


def test_what_is_taken_back_is_asked_about_again_in_the_same_session(images: Path) -> None:
    with begun(images) as (session, photos):
        first = session.state.random_order[:5].tolist()
        session.model_outputs.set_aside(dict.fromkeys(first, "it cannot be read"))
        assert {question.image for question in session.ask(8)} == set(range(8)) - set(first)
        session.leave()
        session.model_outputs.restore(~photos.ready())
        assert {question.image for question in session.ask(8)} == set(range(8))
