"""The HTTP API: what it answers, what it refuses, and that nothing makes it stumble."""

import asyncio
import contextlib
import io
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from PIL import Image

from dfal.data.datasets import Dataset
from dfal.data.image_folder import Folder
from dfal.errors import DfalError
from dfal.labelling.photos import Photos
from dfal.labelling.store.records import Judgement, Model, RankedImage
from dfal.labelling.store.session import Session
from dfal.labelling.web import security
from dfal.labelling.web.security import MAX_REQUEST_BYTES, Guard
from labelled import DIGITS, a_session, some_pngs
from stored import rows_of
from stubbed import NO_REASON

pytest.importorskip("fastapi", reason="the page is an extra: pip install 'dfal[label]'")

from starlette.testclient import TestClient

from dfal.labelling.web.api import application

ME = {"person": "ann", "client_id": "h1"}


@pytest.fixture
def folder(tmp_path: Path, digits: Dataset) -> Path:
    some_pngs(tmp_path / "photos", digits, 30)
    return tmp_path / "photos"


@pytest.fixture
def session_and_web(folder: Path) -> Iterator[tuple[Session, TestClient]]:
    with a_session(folder, holdout=0.0) as (session, photos):
        guarded = Guard(application(session, photos))
        with TestClient(guarded, base_url="http://127.0.0.1", raise_server_exceptions=True) as web:
            yield session, web


@pytest.fixture
def web(session_and_web: tuple[Session, TestClient]) -> TestClient:
    return session_and_web[1]


def ask(web: TestClient, count: int = 1, **more: object) -> list[dict[str, int]]:
    found: list[dict[str, int]] = web.post("/api/ask", json=ME | {"count": count} | more).json()[
        "questions"
    ]
    return found


def test_ask_tell_undo_decline_flag_correct_progress(
    session_and_web: tuple[Session, TestClient],
) -> None:
    session, web = session_and_web
    first, second, third = ask(web, 3)
    assert (
        web.post(
            "/api/tell", json={"question": first["id"], "label": 7, "person": "ann", "seconds": 1.5}
        ).status_code
        == 200
    )
    assert (
        web.post("/api/decline", json={"question": second["id"], "person": "ann"}).status_code
        == 200
    )
    assert session.state.labels[[first["image"], second["image"]]].tolist() == [7, -2]
    again = web.post("/api/undo", json=ME).json()
    assert again["image"] == second["image"] == again["question"]["image"]
    assert (
        web.post("/api/flag", json={"image": 3, "person": "ann", "note": "blurred"}).status_code
        == 200
    )
    assert (
        web.post(
            "/api/correct", json={"image": first["image"], "label": 1, "person": "ann"}
        ).status_code
        == 200
    )
    now = web.get("/api/progress").json()
    assert (now["annotations"], now["flagged"], now["declined"], now["left"]) == (1, 1, 0, 29)
    assert now["class_counts"]["1"] == 1
    assert now["seconds_per_label"] == 1.5
    assert third["image"] in {one["image"] for one in ask(web, 3, keep=[third["id"]])}


def test_clients_may_still_call_themselves_holder(web: TestClient) -> None:
    asked = web.post("/api/ask", json={"person": "ann", "holder": "h1", "count": 2}).json()
    kept = {question["id"] for question in asked["questions"]}
    assert kept == {question["id"] for question in ask(web, 2, keep=[*kept])}, "the same client"
    both = web.post("/api/ask", json=ME | {"holder": "h1", "count": 1})
    assert both.status_code == 422


def test_a_class_is_added_and_then_an_answer(web: TestClient) -> None:
    assert web.post("/api/classes", json={"name": "eleven", "person": "ann"}).json()["class"] == 10
    (question,) = ask(web)
    assert (
        web.post(
            "/api/tell", json={"question": question["id"], "label": 10, "person": "ann"}
        ).status_code
        == 200
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("<script>alert(1)</script>", "'<'"),
        ("x" * 300, "300 characters"),
        ("cat,dog", "comma"),
        ("  ", "empty"),
        ("..", "dot"),
        ("a/b", "'/'"),
        ("cat\u202e", "cannot be shown"),
        ("9", "already"),
    ],
)
def test_a_bad_class_name_is_refused_with_a_sentence(
    web: TestClient, name: str, sentence: str
) -> None:
    refused = web.post("/api/classes", json={"name": name, "person": "ann"})
    assert refused.status_code == 400
    assert sentence in refused.json()["detail"]
    assert len(refused.json()["detail"]) < 200
    assert len(web.get("/api/progress").json()["classes"]) == 10


def test_classes_alike_but_for_case_are_refused(web: TestClient) -> None:
    assert web.post("/api/classes", json={"name": "Cat", "person": "ann"}).status_code == 200
    assert (
        "alike but for case"
        in web.post("/api/classes", json={"name": "cAT", "person": "ann"}).json()["detail"]
    )


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/tell", {"question": 99, "label": 1, "person": "ann"}, 404),
        ("/api/tell", {"question": -1, "label": 1, "person": "ann"}, 422),
        ("/api/tell", {"question": 1, "label": 1}, 422),
        ("/api/tell", {"question": 1, "label": 1, "person": "ann", "path": "/etc/passwd"}, 422),
        ("/api/undo", ME, 409),
        ("/api/correct", {"image": 99, "label": 1, "person": "ann"}, 404),
        ("/api/correct", {"image": 1, "label": 99, "person": "ann"}, 404),
        ("/api/flag", {"image": 1, "person": "ann", "note": "x" * 1001}, 422),
        ("/api/ask", ME | {"count": 1000}, 422),
        ("/api/ask", ME | {"count": 1, "person": "\x00"}, 400),
    ],
)
def test_what_makes_no_sense_is_refused(
    web: TestClient, path: str, body: dict[str, object], status: int
) -> None:
    refused = web.post(path, json=body)
    assert refused.status_code == status, refused.text
    assert refused.json()["detail"]


def test_images_come_by_index_only(web: TestClient, folder: Path) -> None:
    whole, small = web.get("/api/images/3"), web.get("/api/images/3?small=true")
    assert whole.headers["content-type"] == small.headers["content-type"] == "image/png"
    assert whole.content == (folder / "00003.png").read_bytes()
    for path in (
        "/api/images/30",
        "/api/images/-1",
        "/api/images/..%2f..%2fetc%2fpasswd",
        "/../labels.db",
        "/%2e%2e/labels.db",
    ):
        assert web.get(path).status_code in {404, 422}, path


def test_what_a_browser_cannot_show_comes_as_png_and_a_lie_too(folder: Path) -> None:
    Image.new("CMYK", (20, 10)).save(folder / "a.tiff")
    Image.new("RGB", (20, 10)).save(folder / "b.jpg", "PNG")
    (folder / "c.png").write_text("<html><script>alert(1)</script></html>")
    with a_session(folder) as (session, photos), TestClient(application(session, photos)) as web:
        index = {path: place for place, path in enumerate(session.state.paths)}
        for name in ("a.tiff", "b.jpg"):
            found = web.get(f"/api/images/{index[name]}")
            assert found.headers["content-type"] == "image/png"
            assert found.content.startswith(b"\x89PNG")
        broken = web.get(f"/api/images/{index['c.png']}")
        assert broken.status_code == 400
        assert "c.png" in broken.json()["detail"] or "set aside" in broken.json()["detail"]
        assert index["c.png"] in session.state.unreadable


def test_an_image_that_has_vanished_is_set_aside_and_not_asked_again(
    web: TestClient, folder: Path
) -> None:
    (question,) = ask(web)
    (folder / f"{question['image']:05}.png").unlink()
    gone = web.get(f"/api/images/{question['image']}")
    assert gone.status_code == 400
    assert "no longer there" in gone.json()["detail"]
    assert question["image"] not in {one["image"] for one in ask(web, 30)}
    assert web.get("/api/progress").json()["unreadable"] == 1
    (listed,) = web.get("/api/set-aside").json()
    assert listed == {
        "image": question["image"],
        "path": question["path"],
        "reason": "it is no longer there",
    }


def test_why_this_one_and_its_twin(
    session_and_web: tuple[Session, TestClient], digits: Dataset
) -> None:
    import torch

    session, web = session_and_web
    watched = session.state.sample_order
    twin = 0.1 * torch.ones(1, 28, 28)
    model = Model(1, 0.0, 0, 10, 20, 10, 1.0, watched, watched % 10)
    session.model_outputs.add_model(
        model, [RankedImage(5, 0.25, 7, 1, twin, 1), RankedImage(6, float("inf"), 3, 8)]
    )
    near, far, *others = ask(web, 3)
    why = web.get(f"/api/questions/{near['id']}").json()
    assert len(why.pop("version")) == 24
    assert why == {
        "predicted": 7,
        "runner_up": 1,
        "score": 0.25,
        "twin": True,
        "twin_predicted": 1,
        "strategy": "dfal",
        "about": "nearest to the decision boundary, plus adversarial twins",
        "backbone": "none",
    }
    session.model_outputs.add_learner("lite2", "lite2: 97 % right, pixels 71 %")
    assert web.get(f"/api/questions/{near['id']}").json()["backbone"] == "lite2"
    learner = web.get("/api/progress").json()["learner"]
    assert learner == {"backbone": "lite2", "why": "lite2: 97 % right, pixels 71 %"}
    assert web.get(f"/api/questions/{far['id']}").json()["score"] is None
    assert web.get(f"/api/questions/{others[0]['id']}").json() == NO_REASON
    for part in ("image", "change", "twin"):
        assert web.get(f"/api/questions/{near['id']}/{part}").content.startswith(b"\x89PNG")
        assert web.get(f"/api/questions/{far['id']}/{part}").status_code == 404
    import io

    import numpy as np

    shown = np.asarray(
        Image.open(io.BytesIO(web.get(f"/api/questions/{near['id']}/twin").content))
    ).astype(int)
    image = np.asarray(
        Image.open(io.BytesIO(web.get(f"/api/questions/{near['id']}/image").content))
    ).astype(int)
    expected = (image + 25.5).clip(0, 255)
    assert abs(shown - expected).max() <= 1


def test_the_review_finds_filters_and_orders(session_and_web: tuple[Session, TestClient]) -> None:
    session, web = session_and_web
    for image, label in [(1, 4), (2, 4), (3, 9), (4, 9)]:
        session.correct(image, label)
    session.flag(7, "odd")
    watched = session.state.sample_order
    session.model_outputs.add_model(Model(1, 0.0, 0, 10, 20, 10, 1.0, watched, watched % 10), [])
    session.model_outputs.add_judgements(
        1,
        [
            Judgement(1, 4, 0.9),
            Judgement(2, 9, 0.8, 0.2),
            Judgement(3, 4, 0.7, 1.5),
            Judgement(4, 4, 0.99),
        ],
    )
    session.model_outputs.add_judgements(1, [Judgement(4, 9, 0.6)])  # the latest look counts
    for image in range(8, 30):
        session.correct(image, image % 10)
    checked = "Models have checked 4 labels so far. They can doubt one when they have checked 20."
    found = web.get("/api/review", params={"show": "suspicious"}).json()
    assert (found["total"], found["checked"]) == (0, checked)
    session.model_outputs.add_judgements(
        1, [Judgement(image, image % 10, 0.9) for image in range(8, 29)]
    )
    session.model_outputs.add_judgements(
        1, [Judgement(29, 3, 0.95)]
    )  # contradicted, without a reason to doubt the label
    found = web.get("/api/review", params={"show": "suspicious"}).json()
    assert (found["total"], found["checked"]) == (2, "Models agree with 23 of 26 labels.")
    agreed = list(range(8, 30))

    def shown(**wanted: object) -> list[int]:
        answer = web.get("/api/review", params=wanted)  # type: ignore[arg-type]
        assert answer.status_code == 200
        assert answer.json()["total"] >= len(answer.json()["images"])
        return [one["image"] for one in answer.json()["images"]]

    assert shown() == [3, 2, 29, 1, 4, *agreed[:-1]]
    assert shown(show="suspicious") == [3, 2]
    assert shown(show="suspicious", label=4) == [2]
    assert shown(show="flagged") == [7]
    assert shown(text="0004") == [4]
    assert shown(order="path", start=1, most=2) == [2, 3]
    assert shown(order="latest") == [*reversed(agreed), 4, 3, 2, 1]
    assert shown(show="hold-out") == []
    session.model_outputs.add_judgements(
        1, [Judgement(image, 0, 0.9, 1.0) for image in range(8, 30) if image % 10]
    )
    assert shown(show="suspicious") == [], "a model that is right so rarely suspects nobody"
    assert "agree with 4 of 26 labels: not often enough" in web.get("/api/review").json()["checked"]


def test_the_page_and_its_policy(web: TestClient) -> None:
    page = web.get("/")
    assert page.status_code == 200
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    text = page.text
    assert "http://" not in text
    assert "https://" not in text
    for file in ("main.js", "style.css", "label.js", "grid.js", "review.js", "icon.svg"):
        assert web.get(f"/{file}").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"host": "[::1", "origin": "http://[::1"},
    ],
)
def test_other_sites_are_refused(web: TestClient, headers: dict[str, str]) -> None:
    for path in ("/api/ask", "/api/tell"):
        refused = web.post(path, json=ME | {"count": 1}, headers=headers)
        assert refused.status_code == 403, refused.text
        assert refused.json()["detail"]
    assert web.get("/api/progress", headers=headers).status_code == 403
    assert web.get("/api/images/1", headers=headers).status_code == 403


def test_a_link_from_elsewhere_opens_the_page_and_the_page_may_talk(web: TestClient) -> None:
    assert (
        web.get(
            "/", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        ).status_code
        == 200
    )
    own = {"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"}
    assert web.post("/api/ask", json=ME | {"count": 1}, headers=own).status_code == 200


def test_on_another_address_a_token_is_needed(folder: Path) -> None:
    with a_session(folder) as (session, photos):
        guarded = Guard(application(session, photos, here=False), token="s3cret")
        with TestClient(guarded, base_url="http://192.168.0.7:8000", follow_redirects=False) as web:
            for path in ("/", "/api/progress", "/main.js", "/?token=wrong", "/?token="):
                assert web.get(path).status_code == 401, path
            assert (
                web.get("/api/progress", headers={"authorization": "Bearer s3cret"}).status_code
                == 200
            )
            opened = web.get("/?token=s3cret")
            assert (opened.status_code, opened.headers["location"]) == (303, "./")
            assert "HttpOnly" in opened.headers["set-cookie"]
            assert web.get("/").status_code == 200
            assert web.get("/api/progress").json()["person"] is None


def test_what_is_too_large_or_too_much_is_refused(web: TestClient) -> None:
    assert web.post("/api/ask", content=b"x" * (MAX_REQUEST_BYTES + 1)).status_code == 413

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b"[" * 10_000

    with_chunks = web.post(
        "/api/ask", content=endless(), headers={"content-type": "application/json"}
    )
    assert 400 <= with_chunks.status_code < 500


def test_who_asks_too_often_waits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "RATE", 0.0)
    with (
        a_session(folder) as (session, photos),
        TestClient(
            Guard(application(session, photos), burst=20), base_url="http://127.0.0.1"
        ) as web,
    ):
        codes = [web.get("/icon.svg").status_code for _ in range(25)]
    assert codes == [200] * 20 + [429] * 5


def test_a_full_disk_is_a_sentence_and_nothing_is_lost(
    session_and_web: tuple[Session, TestClient],
) -> None:
    session, web = session_and_web
    asked = ask(web, 2)
    assert (
        web.post(
            "/api/tell", json={"question": asked[0]["id"], "label": 1, "person": "ann"}
        ).status_code
        == 200
    )
    (pages,) = session._log._db.execute("PRAGMA page_count").fetchone()
    session._log._db.execute(f"PRAGMA max_page_count = {pages}")
    for _ in range(3000):
        refused = web.post("/api/flag", json={"image": 1, "person": "ann", "note": "x" * 900})
        if refused.status_code != 200:
            break
    assert refused.status_code == 507
    assert "full disk" in refused.json()["detail"]
    session._log._db.execute("PRAGMA max_page_count = 1000000")
    assert (
        web.post(
            "/api/tell", json={"question": asked[1]["id"], "label": 2, "person": "ann"}
        ).status_code
        == 200
    )
    assert session.state.labels[[one["image"] for one in asked]].tolist() == [1, 2]


def test_answers_wait_while_the_store_is_away_and_are_written_back_when_its_place_is_free(
    session_and_web: tuple[Session, TestClient], tmp_path: Path
) -> None:
    session, web = session_and_web
    asked = ask(web, 3)
    answers = [
        {"question": one["id"], "label": 1 + place, "person": "ann"}
        for place, one in enumerate(asked)
    ]
    assert web.post("/api/tell", json=answers[0]).status_code == 200
    session.path.unlink()
    assert web.post("/api/tell", json=answers[1]).status_code == 200  # written back
    session.path.unlink()
    session.path.write_text("another file")
    for _ in range(2):
        refused = web.post("/api/tell", json=answers[2])
        assert refused.status_code == 507  # at which the page keeps the answer and tries again
        assert (
            "was replaced by another file while it was open, and nothing is saved now"
            in refused.json()["detail"]
        )
        assert web.get("/api/progress").status_code == 200
    session.path.unlink()
    assert web.post("/api/tell", json=answers[2]).status_code == 200
    with Session.open(session.path, write=False) as reader:
        assert reader.state.labels[[one["image"] for one in asked]].tolist() == [1, 2, 3]


def test_a_disk_that_can_no_longer_be_written_is_a_sentence_and_nothing_is_lost(
    session_and_web: tuple[Session, TestClient],
) -> None:
    session, web = session_and_web
    asked = ask(web, 2)
    session._log._db.execute("PRAGMA query_only = ON")
    for path, body in [
        ("tell", {"question": asked[0]["id"], "label": 1, "person": "ann"}),
        ("ask", {"person": "ann", "holder": "h", "count": 3}),
        ("classes", {"person": "ann", "name": "new"}),
    ]:
        refused = web.post(f"/api/{path}", json=body)
        assert refused.status_code == 507
        assert "cannot be written" in refused.json()["detail"]
    assert web.get("/api/progress").status_code == 200
    session._log._db.execute("PRAGMA query_only = OFF")
    assert (
        web.post(
            "/api/tell", json={"question": asked[0]["id"], "label": 1, "person": "ann"}
        ).status_code
        == 200
    )
    assert session.classes == list(DIGITS)
    assert (session.state.labels >= 0).sum() == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("tell", '{"question": 1, "label": 0, "person": "ann", "seconds": NaN}'),
        ("tell", '{"question": 1, "label": 0, "person": "ann", "seconds": 1e999}'),
        ("tell", '{"question": 1, "label": true, "person": "ann"}'),
        ("tell", '{"question": "1", "label": 0, "person": "ann"}'),
        ("classes", '{"name": "x", "person": "\\ud800"}'),
        ("classes", '{"name": "' + "x" * 5000 + '", "person": "ann"}'),
        ("rename", '{"class": -1, "name": "x", "person": "ann"}'),
        ("leave", '{"person": "ann"}'),
    ],
)
def test_what_is_not_described_is_one_short_sentence(web: TestClient, path: str, body: str) -> None:
    refused = web.post(f"/api/{path}", content=body, headers={"content-type": "application/json"})
    assert refused.status_code == 422
    assert 10 < len(refused.json()["detail"]) <= 300
    assert "xxx" not in refused.text


def test_a_page_that_is_closed_gives_its_questions_back_and_a_class_gets_another_name(
    web: TestClient,
) -> None:
    asked = {question["image"] for question in ask(web, 3)}
    assert web.post("/api/leave", json=ME).status_code == 200
    assert {question["image"] for question in ask(web, 3, client_id="h2")} == asked
    assert (
        web.post("/api/rename", json={"class": 3, "name": "three", "person": "ann"}).json()[
            "classes"
        ][3]
        == "three"
    )
    assert (
        web.post("/api/rename", json={"class": 30, "name": "thirty", "person": "ann"}).status_code
        == 404
    )


def test_the_labels_come_home_as_a_table(web: TestClient) -> None:
    (question,) = ask(web)
    web.post("/api/tell", json={"question": question["id"], "label": 7, "person": "ann"})
    lines = web.get("/api/export").text.splitlines()
    assert lines[0] == "path,label,by,at,how,confidence,flagged,note"
    assert lines[1].startswith(f"{question['image']:05}.png,7,ann,20")
    assert lines[1].endswith(",given,1.0,False,")


def version_of(web: TestClient, image: int) -> str:
    """The version that the API names for an image now."""
    (question,) = [one for one in ask(web, 30) if one["image"] == image]
    return str(question["version"])


def test_the_address_of_a_picture_names_its_content(
    session_and_web: tuple[Session, TestClient], folder: Path
) -> None:
    session, web = session_and_web
    asked = {one["image"]: str(one["version"]) for one in ask(web, 30)}
    assert len(set(asked.values())) == 30, "no two images share an address"
    session.correct(3, 1)
    assert web.get("/api/review?show=all").json()["images"][0]["version"] == asked[3]
    assert web.post("/api/undo", json=ME).json()["image"] == 3
    question = ask(web, 1)[0]
    web.post(
        "/api/decline",
        json={"question": question["id"], "image": question["image"], "person": "ann"},
    )
    assert web.post("/api/undo", json=ME).json()["question"]["version"] == asked[question["image"]]

    for small in ("", "&small=true"):
        kept = web.get(f"/api/images/3?version={asked[3]}{small}")
        assert kept.headers["cache-control"] == "private, max-age=86400, immutable"
        for other in ("", f"version={asked[4]}", "version=x"):
            asked_for_again = web.get(f"/api/images/3?{other}{small}")
            assert asked_for_again.headers["cache-control"] == "private, no-cache"
            assert asked_for_again.content == kept.content
            tag = {"if-none-match": f'"other", W/{asked_for_again.headers["etag"]}'}
            assert web.get(f"/api/images/3?{other}{small}", headers=tag).status_code == 304
            assert web.get(f"/api/images/4?{other}{small}", headers=tag).status_code == 200

    # A file is replaced under its name, by one of the same size and modification time.
    file = folder / "00003.png"
    before, status = file.read_bytes(), file.stat()
    after = before[:-20] + bytes(20)
    file.write_bytes(after)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    replaced = web.get(
        f"/api/images/3?version={asked[3]}", headers={"if-none-match": f'"{asked[3]}"'}
    )
    assert (replaced.status_code, replaced.content) == (200, after)
    assert replaced.headers["cache-control"] == "private, no-cache"
    assert version_of(web, 3) not in asked.values()


def test_small_pictures_and_those_of_other_forms_follow_their_files(folder: Path) -> None:
    def colour(web: TestClient, index: int, query: str = "") -> int:
        picture = Image.open(io.BytesIO(web.get(f"/api/images/{index}?{query}").content))
        found = picture.convert("L").getpixel((0, 0))
        assert isinstance(found, int)
        return found

    Image.new("L", (300, 300), 10).save(folder / "a.tiff")
    with a_session(folder) as (session, photos), TestClient(application(session, photos)) as web:
        index = session.state.paths.index("a.tiff")
        assert [colour(web, index), colour(web, index, "small=true")] == [10, 10]
        Image.new("L", (300, 300), 200).save(folder / "a.tiff")
        assert [colour(web, index), colour(web, index, "small=true")] == [200, 200]


def test_a_file_that_is_replaced_while_it_is_read_is_not_shown_under_the_old_address(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [
        (folder / name).read_bytes()
        for name in ("00001.png", "00002.png", "00004.png", "00005.png")
    ]
    with a_session(folder) as (session, photos), TestClient(application(session, photos)) as web:
        read, original = Path.read_bytes, photos.folder.original
        now = [0]

        def replace_first(times: int) -> None:
            if now[0] < times:
                now[0] += 1
                (folder / "00003.png").write_bytes(contents[now[0]])

        for times in (1, 99):
            for query in ("", "small=true&"):
                now[0] = 0
                (folder / "00003.png").write_bytes(contents[0])
                version = photos.version(3)

                def slow_bytes(path: Path, times: int = times) -> bytes:
                    replace_first(times)
                    found = read(path)
                    replace_first(times)
                    return found

                def slow_original(index: int, times: int = times) -> Any:
                    replace_first(times)
                    return original(index)

                monkeypatch.setattr(Path, "read_bytes", slow_bytes)
                monkeypatch.setattr(photos.folder, "original", slow_original)
                contents[3:] = contents[3:4] * 20
                found = web.get(f"/api/images/3?{query}version={version}")
                monkeypatch.undo()
                assert found.status_code == 200
                assert found.headers["cache-control"] in {"private, no-cache", "no-store"}
                if times == 1:
                    assert found.headers["etag"] == f'"{photos.version(3)}"'
                    if not query:
                        assert found.content == contents[now[0]]


def test_other_stores_and_folders_have_other_addresses(folder: Path) -> None:
    def versions(photos_folder: Path) -> tuple[int, int, str]:
        with (
            a_session(photos_folder) as (session, photos),
            TestClient(application(session, photos)) as web,
        ):
            (question,) = ask(web)
            store = web.get("/api/progress").json()["store"]
            return question["image"], question["version"], store

    first = versions(folder)
    assert versions(folder) == first, "a restart changes nothing"
    (folder.parent / "labels.db").unlink()
    again = versions(folder)
    assert again[0] == first[0]
    assert again[1] != first[1], "a store that is begun anew under its name"
    assert again[2] != first[2]
    shutil.copytree(folder, folder.parent / "b" / "photos")
    shutil.copy(folder.parent / "labels.db", folder.parent / "b" / "labels.db")
    copied = versions(folder.parent / "b" / "photos")
    assert (copied[0], copied[2]) == (again[0], again[2])
    assert copied[1] != again[1], "the same store over another folder"


def test_a_page_that_was_opened_over_another_store_is_refused(
    session_and_web: tuple[Session, TestClient],
) -> None:
    session, web = session_and_web
    (question,) = ask(web)
    store = web.get("/api/progress").json()["store"]
    told = {"question": question["id"], "image": question["image"], "label": 1, "person": "ann"}
    posts: list[tuple[str, dict[str, Any]]] = [
        ("decline", told),
        ("tell", told),
        ("correct", {"image": 1, "label": 1, "person": "ann"}),
        ("flag", {"image": 1, "person": "ann"}),
        ("undo", ME),
        ("ask", ME | {"count": 1}),
        ("leave", ME),
        ("classes", {"name": "new", "person": "ann"}),
        ("rename", {"class": 0, "name": "newer", "person": "ann"}),
    ]
    for path, body in posts:
        refused = web.post(f"/api/{path}?store=0123", json=body)
        assert refused.status_code == 412, path
        assert refused.json() == {
            "detail": "this page was opened over another store: reload it to label photos",
            "store": store,
        }
    for path in (
        "progress",
        "review",
        "images/1",
        f"questions/{question['id']}",
        "set-aside",
        "export",
    ):
        assert web.get(f"/api/{path}?store=0123").status_code == 412, path
        assert web.get(f"/api/{path}?store={store}").status_code == 200, path
    assert len(rows_of(session.path, "SELECT * FROM answers")) == 0
    for path, body in posts[1:]:
        replied = web.post(f"/api/{path}?store={store}", json=body)
        assert (replied.status_code, replied.json()["store"]) == (200, store), path
    assert web.get("/api/review").json()["store"] == store


def test_an_answer_names_its_image(
    session_and_web: tuple[Session, TestClient], folder: Path
) -> None:
    session, web = session_and_web
    # A power loss takes a question with it: its number is given to another image, and the old page
    # answers.
    before = folder.parent / "before.db"
    with (
        contextlib.closing(sqlite3.connect(before)) as kept,
        contextlib.closing(sqlite3.connect(session.path)) as store,
    ):
        store.backup(kept)
    (lost,) = ask(web)
    with (
        Session.open(before, person="ann") as session,
        Folder.open(folder, folder.parent / "cache") as images,
        TestClient(application(session, Photos(session, images))) as web,
    ):
        _answers_of_an_old_page_are_refused(session, web, lost)


def _answers_of_an_old_page_are_refused(
    session: Session, web: TestClient, lost: dict[str, int]
) -> None:
    session.correct(lost["image"], 2)
    (found,) = ask(web)
    assert found["id"] == lost["id"]
    assert found["image"] != lost["image"]
    body = {"question": lost["id"], "image": lost["image"], "person": "ann"}
    for path, more in (("tell", {"label": 7}), ("decline", {})):
        refused = web.post(f"/api/{path}", json=body | more)
        assert refused.status_code == 409
        assert (
            f"about image {found['image']}, not about image {lost['image']}"
            in refused.json()["detail"]
        )
    old = replace(session.state.open[found["id"]], image=lost["image"])
    with pytest.raises(DfalError, match="ask again"):
        session.tell(old, 7)
    with pytest.raises(DfalError, match="ask again"):
        session.decline(found["id"], image=lost["image"])
    assert session.state.labels[found["image"]] == -1
    assert (
        web.post("/api/tell", json=body | {"image": found["image"], "label": 7}).status_code == 200
    )
    assert session.state.labels[found["image"]] == 7


TOKEN = "s3cret"
OURS = f"dfal-8000={TOKEN}"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("cookie", OURS)], 200),
        *[
            ([("cookie", f"{other}; {OURS}{after}")], 200)
            for other in (
                'prefs={"a":1}',
                "foo[bar]=1",
                "a=hello world",
                "flag",
                "a@b=1",
                "path=/x",
                "=",
                "a=\xff\xfe",
                "",
            )
            for after in ("", f"; {other}")
        ],
        ([("cookie", f' dfal-8000 = "{TOKEN}" ')], 200),
        ([("cookie", f"dfal-8000=old; {OURS}")], 200),
        ([("cookie", f"{OURS}; dfal-8000=old")], 200),
        ([("cookie", "a=1"), ("cookie", OURS)], 200),
        ([("cookie", f"x{OURS}")], 401),
        ([("cookie", f"a=1,{OURS}")], 401),
        ([("cookie", "dfal-8000=")], 401),
        ([("cookie", f"dfal-8001={TOKEN}")], 401),
        ([("cookie", "dfal-8000=\xe9")], 401),
        ([("authorization", f"Bearer {TOKEN}")], 200),
        ([("authorization", f"bearer   {TOKEN} ")], 200),
        ([("authorization", TOKEN)], 401),
        ([("authorization", f"Basic {TOKEN}")], 401),
        ([("authorization", "Bearer \xff")], 401),
        ([("authorization", "")], 401),
        ([("cookie", OURS), ("x-\xe9", "\xff")], 200),
        ([("cookie", OURS), ("origin", "http://[::1")], 403),
        ([("cookie", OURS), ("origin", "http://192.168.0.7:99999")], 403),
        ([("cookie", OURS), ("origin", "http://\xff")], 403),
        (
            [
                ("cookie", OURS),
                ("origin", "http://192.168.0.7:8000"),
                ("origin", "http://192.168.0.7:8000"),
            ],
            403,
        ),
        ([("cookie", OURS), ("sec-fetch-site", "\xff")], 403),
        ([("cookie", OURS), ("content-length", "9" * 5000)], 413),
        ([("cookie", OURS), ("content-length", "-1")], 413),
        ([("cookie", OURS), ("content-length", "\xb2")], 413),
        ([("cookie", OURS), ("content-length", " 0 ")], 200),
    ],
)
def test_other_programs_headers_are_passed_over(
    headers: list[tuple[str, str]], status: int
) -> None:
    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    rows = [("host", "192.168.0.7:8000"), *headers]
    assert replied(Guard(page, token=TOKEN), rows)[0] == status


def replied(
    guarded: Guard, headers: list[tuple[str, str]], path: str = "/api/progress", **scope: Any
) -> tuple[int, dict[str, str]]:
    """The status and the headers with which a request is answered."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    path, _, query = path.partition("?")
    asked = {
        **{
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": query.encode(),
            "server": ("10.0.0.1", 8000),
        },
        **{
            "client": ("10.0.0.2", 1),
            "headers": [
                (name.encode("latin-1"), value.encode("latin-1")) for name, value in headers
            ],
        },
        **scope,
    }
    asyncio.run(guarded(asked, lambda: None, send))  # type: ignore[arg-type, return-value]
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


@pytest.mark.parametrize("requests", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_every_request_that_the_description_allows_is_answered(folder: Path, requests: int) -> None:
    """What schemathesis makes of the description of the API: nothing may end in an error of the
    server's."""
    schemathesis = pytest.importorskip("schemathesis")

    with a_session(folder) as (session, photos):
        app = application(session, photos)
        schema = schemathesis.openapi.from_dict(app.openapi())
        operations = [found.ok() for found in schema.get_all_operations()]
        assert len(operations) >= 12
        with TestClient(
            Guard(app), base_url="http://127.0.0.1", raise_server_exceptions=False
        ) as web:
            for operation in operations:
                _try(operation.as_strategy(), web, requests)
                web.app._buckets.clear()  # type: ignore[attr-defined]


def _try(strategy: Any, web: TestClient, requests: int) -> None:
    from hypothesis import HealthCheck, Phase, given, settings

    @settings(
        max_examples=requests,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
        database=None,
    )
    @given(case=strategy)
    def send(case: Any) -> None:
        sent = case.as_transport_kwargs(base_url="http://127.0.0.1")
        answer: httpx.Response = web.request(
            **{key: value for key, value in sent.items() if value is not None and key != "cookies"}
        )
        assert answer.status_code < 500, answer.text

    send()
