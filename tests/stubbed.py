"""The page in front of a server that replies what a test wants: refusals, curves, pictures that a
real one gives only after a while. Each reply is checked against the OpenAPI description."""

import io
import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image

from dfal.labelling.web.security import POLICY
from openapi import reply_faults

PAGE = Path(str(files("dfal.labelling.web"))) / "page"
URL = "http://127.0.0.1:8765"


class Stubbed:
    """A browser's page, and all that its server says.

    Attributes:
        files: the folder of the page's files.
        replies: path → status and body: what the server says there, instead of what it would.
        held: path → requests that wait there, for `release`: a slow connection.
        sent: what the page posted, as pairs of a path and a body.
        pictures: image → its size, or bytes that are none, or None where it is set aside; a
        photograph by default.
        shown: the images whose pictures the page asked for.
        store: which one the server has: a page that was opened over another one is refused.
        queries: path → the query of its latest request.
        versions: image → the version in questions; none by default.
        progress: what differs from the beginning of a session.
        errors: what the browser complained about, and replies that are not as described.
    """

    def __init__(
        self,
        browser: Any,
        classes: list[str],
        *,
        images: int = 5,
        person: str | None = "Ada",
        files: Path = PAGE,
        **view: Any,
    ):
        self.classes, self.images, self.person = list(classes), images, person
        self.files = files
        self.replies: dict[str, tuple[int, Any]] = {}
        self.held: dict[str, list[Any]] = {}
        self.sent: list[tuple[str, Any]] = []
        self.pictures: dict[int, tuple[int, int] | bytes | None] = {}
        self.progress: dict[str, Any] = {}
        self.shown: list[int] = []
        self.store = "s1"
        self.queries: dict[str, str] = {}
        self.versions: dict[int, str] = {}
        self.answered: dict[int, int | None] = {}
        self.aside: set[int] = set()
        self.errors: list[str] = []
        self.page = browser.new_page(**({"viewport": {"width": 1280, "height": 800}} | view))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console",
            lambda message: self._complain(message.text) if message.type == "error" else None,
        )
        self.page.route("**/*", self._serve)

    def open(self, view: str = "label") -> Any:
        """The page itself, opened."""
        self.page.goto(f"{URL}/#{view}")
        return self.page

    def told(self, path: str) -> list[Any]:
        """What was posted there."""
        return [body for posted, body in self.sent if posted == path]

    def wait_until(self, so: Callable[[], Any]) -> None:
        """Let the page go on until this is so."""
        for _ in range(1500):
            if so():
                return
            self.page.wait_for_timeout(20)
        raise AssertionError("it never came to be so")

    def _complain(self, text: str) -> None:
        if "Failed to load resource" not in text:  # the browser says so of every refusal
            self.errors.append(text)

    def _serve(self, route: Any) -> None:
        path = urlsplit(route.request.url).path
        self.queries[path] = urlsplit(route.request.url).query
        if (self.files / path[1:]).exists():
            file = self.files / (path[1:] or "index.html")
            route.fulfill(
                path=file, headers={"content-security-policy": POLICY, "content-type": _kind(file)}
            )
            return
        body = json.loads(route.request.post_data or "{}")
        if route.request.method == "POST":
            self.sent.append((path, body))
        if path.startswith("/api/images/"):
            self.shown.append(int(path.rpartition("/")[2]))
            self._show(route, self.shown[-1])
            return
        if re.match("/api/questions/[0-9]+/", path):
            self._show(route, 0)
            return
        if parse_qs(self.queries[path]).get("store", [self.store]) != [self.store]:
            sentence = "this page was opened over another store: reload it to label green"
            self._reply(route, 412, {"detail": sentence, "store": self.store})
            return
        if path in self.held:
            self.held[path].append((route, body))
            return
        status, reply = self.replies.get(path) or (200, self._answer(path, body))
        self._reply(route, status, reply)

    def _reply(self, route: Any, status: int, reply: Any) -> None:
        path = urlsplit(route.request.url).path
        if status != 500:  # a server that breaks follows no description
            self.errors += reply_faults(route.request.method.lower(), path, status, reply)
        route.fulfill(status=status, json=reply)

    def release(self, path: str, reply: Any = None) -> Any:
        """Answer the first request that is held there, and return its body."""
        while not self.held[path]:
            self.page.wait_for_timeout(20)
        route, body = self.held[path].pop(0)
        self._reply(route, 200, self._answer(path, body) if reply is None else reply)
        return body

    def asked(self, *images: int, **status: Any) -> dict[str, Any]:
        """Return the reply that asks about these images."""
        return self.status(**status) | {"questions": [self._question(image) for image in images]}

    def status(self, **changed: Any) -> dict[str, Any]:
        """Return what every reply says."""
        left = len(self._left())
        status = {"last_answer_id": len(self.answered), "model": 0, "left": left}
        return status | {"store": self.store} | changed

    def _show(self, route: Any, image: int) -> None:
        picture = self.pictures.get(image, (640, 480))
        if picture is None:
            self.aside.add(image)
            route.fulfill(status=400, json={"detail": f"image {image} is set aside: it is empty"})
            return
        if isinstance(picture, tuple):
            file = io.BytesIO()
            Image.new("RGBA", picture, (0, 0, 0, 0)).save(file, "PNG")
            picture = file.getvalue()
        route.fulfill(body=picture, content_type="image/png")

    def _answer(self, path: str, body: Any) -> Any:
        if path == "/api/tell":
            self.answered[body["question"]] = body["label"]
        if path == "/api/decline":
            self.answered[body["question"]] = None
        if path in {"/api/classes", "/api/rename"}:
            index = body.get("class", len(self.classes))
            self.classes[index : index + 1] = [body["name"]]
            added = {"class": index} if path == "/api/classes" else {}
            return {"classes": self.classes, "store": self.store} | added
        if path == "/api/ask":
            return self.asked(*self._left()[: body["count"]])
        if re.match("/api/questions/", path):
            return NO_REASON
        if path == "/api/review":
            rows = [self._reviewed(image, label) for image, label in self.answered.items()]
            return {"images": rows, "total": 1, "checked": "", "store": self.store}
        return self._progress() if path == "/api/progress" else self.status()

    def _left(self) -> list[int]:
        gone = self.answered.keys() | self.aside
        return [image for image in range(self.images) if image not in gone]

    def _question(self, image: int) -> dict[str, Any]:
        version = self.versions.get(image)
        question = {"id": image, "image": image, "version": version, "path": "a.png"}
        return question | {"kind": "random", "note": None}

    def _progress(self) -> dict[str, Any]:
        labels = [label for label in self.answered.values() if label is not None]
        return {
            **self.status(),
            **NO_PROGRESS,
            "images": self.images,
            "annotations": len(labels),
            "declined": len(self.answered) - len(labels),
            "classes": self.classes,
            "class_counts": dict.fromkeys(self.classes, 0),
            "person": self.person,
            "decoded": self.images,
            **self.progress,
        }

    def _reviewed(self, image: int, label: int | None) -> dict[str, Any]:
        return {
            "image": image,
            "path": "a.png",
            "version": self.versions.get(image),
            "label": label,
            "declined": label is None,
            "disputed": False,
            "source": "people",
            "votes": {"Ada": label},
            "note": None,
            "predicted": None,
            "confidence": None,
            "distance": None,
            "suspicion": 0,
            "hold_out": False,
        }


NO_FINAL: dict[str, Any] = {
    **{"state": "none", "activity": "", "done": 0, "total": 0, "labels": 0, "file": None},
    **{"network": "", "accuracy": None, "notes": [], "error": ""},
}
NO_REASON: dict[str, Any] = {
    "predicted": None,
    "runner_up": None,
    "score": None,
    "twin": False,
    "twin_predicted": None,
    "version": None,
    "strategy": None,
    "about": None,
    "backbone": None,
}
NO_PROGRESS: dict[str, Any] = {
    **dict.fromkeys(
        ["unreadable", "prelabelled", "trained_on", "held_out", "flagged", "disputed"], 0
    ),
    "newer": 0,
    "rare": [],
    "answers_by_person": {},
    "curve": [],
    "baseline": None,
    "seconds_per_label": None,
    "target": 0.95,
    "reached": False,
    "answers_to_confirm": None,
    "labels_left": None,
    "agreement": [],
    "stop": False,
    "alpha": None,
    "error": "",
    "folder": "photos",
    "training": "",
    "steps": None,
    "final": NO_FINAL,
    "learner": {"backbone": "auto", "why": ""},
    "features": None,
    "photos_extra": True,
    "strategy": "dfal",
    "batch": 10,
    "first": 10,
}


def _kind(file: Path) -> str:
    return {
        ".html": "text/html",
        ".js": "text/javascript",
        ".css": "text/css",
        ".svg": "image/svg+xml",
    }[file.suffix]
