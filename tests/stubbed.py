"""The page before a server that says what a test wants: refusals, curves, pictures that a real one
gives only after a while."""

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

PAGE = Path(str(files("dfal.labelling.web"))) / "page"
URL = "http://127.0.0.1:8765"


class Stubbed:
    """A browser's page, and all that its server says.

    Attributes:
        replies: path → status and body: what the server says there, instead of what it would.
        held: path → requests that wait there, for `release`: a slow connection.
        sent: what the page posted, as pairs of a path and a body.
        pictures: image → its size, or bytes that are none, or None where it is set aside; a
        photograph by default.
        shown: the images whose pictures the page asked for.
        store: which one the server has: a page that was opened over another one is refused.
        queries: path → the query of its latest request.
        versions: image → the version that questions say; none by default.
        progress: what differs from the beginning of a session.
        errors: what the browser complained about.
    """

    def __init__(
        self,
        browser: Any,
        classes: list[str],
        *,
        images: int = 5,
        person: str | None = "Ada",
        **view: Any,
    ):
        self.classes, self.images, self.person = list(classes), images, person
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
        if (PAGE / path[1:]).exists():
            file = PAGE / (path[1:] or "index.html")
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
        if parse_qs(self.queries[path]).get("store", [self.store]) != [self.store]:
            said = {
                "detail": "this page was opened over another store: reload it to label green",
                "store": self.store,
            }
            route.fulfill(status=412, json=said)
            return
        if path in self.held:
            self.held[path].append((route, body))
            return
        status, said = self.replies.get(path) or (200, self._say(path, body))
        route.fulfill(status=status, json=said)

    def release(self, path: str, said: Any = None) -> Any:
        """Answer the first request that is held there; what it said."""
        while not self.held[path]:
            self.page.wait_for_timeout(20)
        route, body = self.held[path].pop(0)
        route.fulfill(json=self._say(path, body) if said is None else said)
        return body

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

    def _say(self, path: str, body: Any) -> Any:
        if path == "/api/tell":
            self.answered[body["question"]] = body["label"]
        if path == "/api/decline":
            self.answered[body["question"]] = None
        if path in {"/api/classes", "/api/rename"}:
            at = body.get("class", len(self.classes))
            self.classes[at : at + 1] = [body["name"]]
            return {"class": at, "classes": self.classes}
        left = [
            image
            for image in range(self.images)
            if image not in self.answered and image not in self.aside
        ]
        now = {"answers": len(self.answered), "model": 0, "left": len(left), "store": self.store}
        if path == "/api/ask":
            note = {"path": "a.png", "kind": "random", "note": None}
            shown = left[: body["count"]]
            rows = [
                {"id": image, "image": image, "version": self.versions.get(image), **note}
                for image in shown
            ]
            return now | {"questions": rows}
        if re.match("/api/questions/", path):
            return {"seen": None}
        if path == "/api/review":
            return {
                "images": [self._reviewed(image, label) for image, label in self.answered.items()],
                "total": 1,
            }
        return now | self._progress() if path == "/api/progress" else now

    def _progress(self) -> dict[str, Any]:
        given = [label for label in self.answered.values() if label is not None]
        zeros = dict.fromkeys(
            ["unreadable", "known", "trained_on", "held_out", "flagged", "disputed"], 0
        )
        return {
            **zeros,
            "images": self.images,
            "annotations": len(given),
            "declined": len(self.answered) - len(given),
            "classes": dict.fromkeys(self.classes, 0),
            "names": self.classes,
            "people": {},
            "curve": [],
            "seconds": None,
            "target": 0.95,
            "reached": False,
            "to_confirm": None,
            "labels_left": None,
            "agreement": [],
            "stop": False,
            "alpha": None,
            "trouble": "",
            "person": self.person,
            "folder": "photos",
            "decoded": self.images,
            "training": "",
            "strategy": "dfal",
            "batch": 10,
            "first": 10,
            **self.progress,
        }

    @staticmethod
    def _reviewed(image: int, label: int | None) -> dict[str, Any]:
        judged = {"seen": None, "sure": None, "distance": None, "suspicion": 0, "hold_out": False}
        said = {
            "label": label,
            "declined": label is None,
            "disputed": False,
            "source": "people",
            "votes": {"Ada": label},
            "note": None,
        }
        return {"image": image, "path": "a.png", **said, **judged}


def _kind(file: Path) -> str:
    return {
        ".html": "text/html",
        ".js": "text/javascript",
        ".css": "text/css",
        ".svg": "image/svg+xml",
    }[file.suffix]
