"""A person simulated through the HTTP API of `dfal label`, as the page uses it."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
from safetensors import safe_open

from photograph_data import Photographs

CLIENT = {"person": "simulated", "holder": "simulated"}
AHEAD = 4
"""Images that the page loads while one is on the screen."""
PATIENCE = 1800.0
"""Seconds to wait for features, a ranking or a model."""
POLL = 0.05
"""Seconds between two looks."""
RESTED = 8.0
"""Seconds of rest after which no model will come: the trainer waits for a pause of four."""
GRAPH_RESTED = 5.0
"""Seconds in which the neighbours of the last features are found, and questions ranked anew."""
FEATURES_RESTED = 20.0
"""Seconds after which questions that do not cover the folder are taken: without a backbone there
will be no others."""
UNCHANGED = 0.5
"""Seconds of rest after an answer after which no ranking will come."""


@dataclass(frozen=True)
class PresentModel:
    """The model beside a store.

    Attributes:
        path: of the file.
        annotations: on how many it was trained, as its card says.
        backbone: its backbone, or its network.
        digest: of its weights.
    """

    path: Path
    annotations: int
    backbone: str
    digest: str

    @classmethod
    def read(cls, path: Path) -> "PresentModel":
        with safe_open(path, "pt") as file:
            card = json.loads(file.metadata()["dfal"])
            digest = hashlib.sha256()
            for name in sorted(file.keys()):
                digest.update(name.encode())
                digest.update(file.get_tensor(name).contiguous().numpy().tobytes())
        backbone = card.get("backbone") or card["network"]
        return cls(path, card["annotations"], str(backbone), digest.hexdigest()[:16])


class Labelling:
    """`dfal label` in a process of its own.

    Args:
        data: the images.
        folder: for the store; what is there is removed.
        options: of `dfal label`.
        checkout: whose dfal is run.
    """

    def __init__(self, data: Photographs, folder: Path, options: list[str], checkout: Path):
        self._data, self._folder, self._options = data, folder.resolve(), options
        self._environment = {
            "OMP_NUM_THREADS": "1",
            **os.environ,
            "PYTHONPATH": str(checkout / "src"),
        }
        self._store = self._folder / "photos.labels.db"
        self._process: subprocess.Popen[bytes] | None = None
        self.web = httpx.Client()

    def __enter__(self) -> "Labelling":
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        RUNNING.add(self)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        RUNNING.discard(self)
        for path in self._folder.glob("*.safetensors"):  # there would be hundreds of them
            path.unlink()

    def start(self) -> None:
        """Start `dfal label`, and wait until the page answers."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "dfal", "label", str(self._data.folder), "--no-browser"]
        command += ["--classes", *self._data.classes, "--store", str(self._store)]
        command += ["--port", str(port), *self._options]
        with (self._folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )
        self.web.close()
        self.web = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)
        for _ in patiently("the page"):
            if self._process.poll() is not None:
                raise RuntimeError((self._folder / "log.txt").read_text())
            with contextlib.suppress(httpx.TransportError):
                self.progress()
                return

    def kill(self) -> None:
        """Kill the page and its trainer, as a power failure would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def progress(self) -> dict[str, Any]:
        reply: dict[str, Any] = self.web.get("/api/progress").raise_for_status().json()
        return reply

    def post(self, what: str, **body: object) -> dict[str, Any]:
        reply: dict[str, Any] = self.web.post(f"/api/{what}", json=body).raise_for_status().json()
        return reply

    def classes(self) -> list[str]:
        now = self.progress()
        names: list[str] = now.get("names") or now["classes"]
        return names

    def await_features(self) -> None:
        """Wait until all images are decoded, and have features where a backbone is used."""
        resting_since = time.monotonic()
        for _ in patiently("the features"):
            now = self.progress()
            features = now.get("features")
            is_done = now["training"] not in {"", "starting"} and (
                now["decoded"] >= now["images"] - now.get("unreadable", 0)
                and (features is None or features["done"] >= features["total"])
            )
            if not is_done:
                resting_since = time.monotonic()
                continue
            rested = time.monotonic() - resting_since
            if rested > GRAPH_RESTED and (self._covers() or rested > FEATURES_RESTED):
                return

    def _covers(self) -> bool:
        """Return whether the next questions cover the folder, which takes its features."""
        kinds = {each["kind"] for each in self.post("ask", **CLIENT, count=5)["questions"]}
        self.post("leave", **CLIENT)
        time.sleep(0.5)
        return "coverage" in kinds

    def await_ranking(self, model: int) -> bool:
        """Wait until a newer model than one has ranked the images.

        Returns:
            False where the trainer rests: it will train after more answers.
        """
        resting_since = time.monotonic()
        for _ in patiently("a new ranking"):
            now = self.progress()
            if now["model"] != model:
                return True
            if now["training"] != "waiting":
                resting_since = time.monotonic()
            elif time.monotonic() - resting_since > UNCHANGED:
                break
        return False

    def keep_model(self, teaching: int, *, rest: bool = False) -> PresentModel | None:
        """Return a copy of the model beside the store, as soon as it is trained on all answers.

        Where the trainer has rested for some seconds, an older one is copied, or None returned.

        Args:
            teaching: answers that are not the hold-out's.
            rest: whether the person pauses until the trainer rests, in any case.
        """
        path = self._store.with_name("photos.model.safetensors")
        copy = path.with_name(f"after-{teaching}.safetensors")
        resting_since = time.monotonic()
        for _ in patiently("the model of the latest answers"):
            model = None
            if path.exists():
                shutil.copyfile(path, copy)
                model = PresentModel.read(copy)
            if model is not None and model.annotations == teaching and not rest:
                return model
            now = self.progress()
            if now.get("error"):
                raise RuntimeError(f"the page says: {now['error']}")
            if now["training"] != "waiting":
                resting_since = time.monotonic()
            elif time.monotonic() - resting_since > RESTED:
                return model
        return None


RUNNING: set[Labelling] = set()
"""What must not go on when this process ends."""


def kill_all(*_: object) -> None:
    """End this process and every page that it has started, at a signal."""
    for labelling in list(RUNNING):
        labelling.kill()
    os._exit(1)


class Person:
    """Gives each image its true class.

    Args:
        labelling: the page.
        truth: file name → class.
        wait: for the features before the first question ("features"), for the new ranking after
        each answer too ("ranking"), or for nothing.
        pace: seconds for an answer, with images loaded ahead as the page does. Without it each
        question is asked after the answer before.
    """

    def __init__(
        self, labelling: Labelling, truth: dict[str, str], *, wait: str, pace: float | None
    ):
        self._labelling, self._truth = labelling, truth
        self._wait, self._pace = wait, pace
        self._indices: dict[str, int] = {}
        self._began = 0.0
        self.answers = self.teaching = 0
        self.classes: set[str] = set()
        self.slowest = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the first question."""
        return time.monotonic() - self._began if self._began else 0.0

    def label_until(self, answers: int) -> None:
        """Label until so many answers are given, or nothing is left."""
        if not self._began:
            if self._wait != "nothing":
                self._labelling.await_features()
            self._began = time.monotonic()
            self._indices = {name: index for index, name in enumerate(self._labelling.classes())}
        keep: list[dict[str, Any]] = []
        while self.answers < answers:
            asked = self._labelling.post(
                "ask",
                **CLIENT,
                count=1 if self._pace is None else 1 + AHEAD,
                keep=[question["id"] for question in keep],
            )
            if not asked["questions"]:
                if not asked["left"]:
                    return
                time.sleep(POLL)
                continue
            question, *others = asked["questions"]
            time.sleep(self._pace or 0)
            name = self._truth[question["path"]]
            told = self._labelling.post(
                "tell",
                person=CLIENT["person"],
                question=question["id"],
                label=self._indices[name],
            )
            self.answers += 1
            self.teaching += question["kind"] != "hold-out"
            self.classes.add(name)
            # as the page does: a new model ranks anew, and what is on the screen by now stays
            keep = others if told["model"] == asked["model"] else others[:1]
            if self._pace is None and self._wait == "ranking":
                began = time.monotonic()
                if self._labelling.await_ranking(asked["model"]):
                    self.slowest = max(self.slowest, time.monotonic() - began)


def patiently(what: str) -> Iterator[None]:
    """Yield now and then.

    Raises:
        RuntimeError: after PATIENCE seconds.
    """
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        yield
        time.sleep(POLL)
    raise RuntimeError(f"{what} did not come within {PATIENCE:.0f} s")
