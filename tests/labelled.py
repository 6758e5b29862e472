"""What the tests of labelling share: digits as PNG files, a session over them, and a server in a
process of its own."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
from PIL import Image

from dfal.data.datasets import Dataset
from dfal.data.image_folder import Folder
from dfal.labelling.photos import Photos
from dfal.labelling.store.schema import Settings
from dfal.labelling.store.session import Session

DIGITS = tuple("0123456789")


def grey_pngs(folder: Path, n: int) -> Path:
    """n grey images as 0.png, 1.png, each brighter than the one before."""
    folder.mkdir()
    for place in range(n):
        Image.new("L", (20, 20), 240 // n * place).save(folder / f"{place}.png")
    return folder


def some_pngs(folder: Path, digits: Dataset, n: int) -> dict[str, int]:
    """n digits as PNG files; the class of each by its name."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = {}
    for place in range(n):
        index = place * len(digits.images) // n
        Image.fromarray(digits.images.array[index][0]).save(folder / f"{place:05}.png")
        truth[f"{place:05}.png"] = int(digits.labels[index])
    return truth


@contextlib.contextmanager
def a_session(
    folder: Path, known: dict[str, str] | None = None, **settings: object
) -> Iterator[tuple[Session, Photos]]:
    """A session over a folder, with the store and the cache beside it, that trains networks on the
    pixels of labelled images unless something else is given."""
    settings = {"backbone": "none", "labels_only": True, **settings}
    given = Settings(folder=str(folder), cache=str(folder.parent / "cache"), **settings)  # type: ignore[arg-type]
    store = folder.parent / "labels.db"
    stored: list[str] = []
    if store.exists():
        with Session.open(store) as before:
            stored = before.state.paths
    with (
        Folder.open(folder, given.cache, order=stored) as opened,
        Session.start(
            store, given, [*stored, *opened.paths[len(stored) :]], DIGITS, known, person="ann"
        ) as session,
    ):
        yield session, Photos(session, opened)


class Served:
    """`dfal label` in a process of its own."""

    def __init__(self, folder: Path, *options: str, port: int | None = None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = port or free.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "dfal",
            "label",
            str(folder),
            "--no-browser",
            "--port",
            str(self.port),
            *(() if "--backbone" in options else ("--backbone", "none", "--labels-only")),
            *options,
        ]
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "XDG_CACHE_HOME": str(folder.parent / "cache"),
        }
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, timeout=30)
        for _ in range(600):
            if self.process.poll() is not None:
                raise RuntimeError(self.process.communicate()[0])
            with contextlib.suppress(httpx.TransportError):
                if self.http.get("/api/progress").status_code in {
                    200,
                    401,
                }:  # 401: it wants its token
                    return
            time.sleep(0.05)
        raise RuntimeError("the page does not answer")

    def trainer(self) -> int | None:
        """The process id of its trainer."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob(
            "*/children"
        )  # a thread of its own starts it
        children = [child for task in tasks for child in task.read_text().split()]
        spawned = [
            int(one)
            for one in children
            if "spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes().decode()
        ]
        return spawned[0] if spawned else None

    def wait_for_trainer(self, seconds: float = 60) -> int:
        """Its process id, as soon as there is one."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if trainer := self.trainer():
                return trainer
            time.sleep(0.05)
        raise RuntimeError(f"no trainer within {seconds} s")

    def wait_until(
        self, reached: Callable[[dict[str, Any]], object], seconds: float = 60
    ) -> dict[str, Any]:
        """The reply of `/api/progress`, as soon as it says what is waited for."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            now: dict[str, Any] = self.http.get("/api/progress").json()
            if reached(now):
                return now
            time.sleep(0.1)
        raise RuntimeError(f"what is waited for does not come within {seconds} s: {now}")

    def wait_for_model(self, number: int, seconds: float = 60) -> dict[str, Any]:
        """Wait until so many networks are trained."""
        return self.wait_until(lambda now: now["model"] >= number, seconds)

    def stop(self, *, kill: bool = False) -> str:
        """End it; what it printed."""
        self.http.close()
        (self.process.kill if kill else self.process.terminate)()
        out, _ = self.process.communicate(timeout=20)
        return str(out)


def index_in(alt: str) -> tuple[int, str]:
    """The image and the path in the text that stands for a picture."""
    found = re.search(r"Image (\d+), (\S+)", alt)
    assert found
    return int(found[1]), found[2]
