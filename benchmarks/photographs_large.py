"""How well does `dfal label` cope with 10,000 photographs of 1 to 12 megapixels?

    python benchmarks/photographs_large.py --sample FOLDER [--images 10000] [--made FOLDER]

FOLDER holds small photographs, those of a class in a sub-folder, such as the sample cat-dog. Each
of the large ones is one of them enlarged (bicubic) to a size between 1 and 12 megapixels, spread
evenly on a logarithmic scale, with grain added (Gaussian, standard deviation 5 of 255, alike in the
three channels) and saved as JPEG of quality 90: about 2 bits a pixel. 10,000 of them take 11 GB and
are kept in --made, where it is given.

`dfal label` runs in a process of its own, with an empty cache. The simulated person answers one
question after another, at --pace seconds each, until all features are computed and --after answers
more are given. The time of an answer is that of three requests: the answer is sent, the next
question comes, and its picture comes; the page loads pictures ahead, so that a person waits less.
Memory is the peak resident size of the page's process and of the trainer's.
"""

import argparse
import contextlib
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
from jaxtyping import Int8
from PIL import Image

from measure import taken_on, write

MEGAPIXELS = 1.0, 12.0
GRAIN = 5.0
"""Standard deviation of the grain, of 255."""
QUALITY = 90
PATIENCE = 3600.0
"""Seconds for all features."""
CLIENT = {"person": "simulated", "holder": "simulated"}


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--sample", type=Path, required=True)
    arguments.add_argument("--images", type=int, default=10_000)
    arguments.add_argument("--made", type=Path)
    arguments.add_argument("--backbone", default="lite0")
    arguments.add_argument("--pace", type=float, default=1.0)
    arguments.add_argument("--after", type=int, default=20)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.made or Path(temporary) / "photographs").resolve()
        truth = make(options.sample, folder, options.images)
        size = sum((folder / name).stat().st_size for name in truth)
        figures = {
            "images": len(truth),
            "gigabytes": round(size / 1e9, 2),
            "backbone": options.backbone,
            "pace, s": options.pace,
        } | measured(folder, truth, options.backbone, options.pace, options.after)
    for name, value in figures.items():
        print(f"{name:48} {value}")
    write(
        Path(__file__).parent / "results" / f"photographs-large-{options.backbone}.json",
        taken_on(["torch", "pillow"]) | figures,
    )


def make(sample: Path, folder: Path, images: int, seed: int = 0) -> dict[str, str]:
    """Make large photographs of small ones; those that are there already stay.

    Args:
        sample: holds the small ones, those of a class in a sub-folder.
        folder: that the large ones are written to.
        images: how many.
        seed: of sizes, sources and grain.

    Returns:
        Name of a file → class.
    """
    sources = sorted(sample.rglob("*.jpg"))
    grain = _grain(seed)
    folder.mkdir(parents=True, exist_ok=True)
    truth = {}
    for number in range(images):
        rng = np.random.default_rng((seed, number))
        source = sources[rng.integers(len(sources))]
        pixels = 1e6 * math.exp(rng.uniform(*np.log(MEGAPIXELS)))
        file = folder / f"{number:05}.jpg"
        truth[file.name] = source.parent.name
        if not file.exists():
            partial = file.with_suffix(".part")
            _enlarged(source, pixels, grain, rng).save(partial, "JPEG", quality=QUALITY)
            partial.rename(file)
    if len(list(folder.iterdir())) > images:
        raise SystemExit(f"{folder} holds more than {images} images: name another folder")
    return truth


def _grain(seed: int) -> Int8[np.ndarray, "h w"]:
    """Return a field of noise that is larger than the largest photograph, to cut from."""
    values = np.random.default_rng(seed).normal(0, GRAIN, (6000, 6000))
    return values.round().clip(-127, 127).astype(np.int8)


def _enlarged(
    source: Path, pixels: float, grain: Int8[np.ndarray, "h w"], rng: np.random.Generator
) -> Image.Image:
    """Return a photograph enlarged to so many pixels, with grain."""
    with Image.open(source) as image:
        scale = math.sqrt(pixels / (image.width * image.height))
        size = round(image.width * scale), round(image.height * scale)
        enlarged = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC), np.int16)
    height, width = enlarged.shape[:2]
    top, left = (
        rng.integers(side - needed + 1)
        for side, needed in zip(grain.shape, (height, width), strict=True)
    )
    noise = grain[top : top + height, left : left + width, None]
    return Image.fromarray((enlarged + noise).clip(0, 255).astype(np.uint8))


def measured(
    folder: Path, truth: dict[str, str], backbone: str, pace: float, after: int
) -> dict[str, Any]:
    """Label a folder until its features are computed, and some images more."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "dfal", "label", str(folder), "--no-browser"]
        command += ["--classes", *sorted({*truth.values()}), "--port", port]
        command += ["--backbone", backbone, "--store", f"{temporary}/large.labels.db"]
        environment = os.environ | {"XDG_CACHE_HOME": temporary}
        began = time.perf_counter()
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            try:
                with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as web:
                    return Person(web, process.pid, truth, pace).label(began, after)
            finally:
                process.terminate()


class Person:
    """Answers the questions of a page, and notes how long that takes.

    Args:
        web: the page.
        process: its number.
        truth: name of a file → class.
        pace: seconds to look at an image.
    """

    def __init__(self, web: httpx.Client, process: int, truth: dict[str, str], pace: float):
        self._web, self._process, self._truth, self._pace = web, process, truth, pace

    def label(self, began: float, after: int) -> dict[str, Any]:
        """Label until all features are computed, and so many images more.

        Args:
            began: when the page was started.
            after: images.
        """
        question = self._first_question()
        first_question = time.perf_counter() - began
        names = self._progress()["classes"]
        samples: list[tuple[float, int]] = []
        busy: list[float] = []
        idle: list[float] = []
        while len(idle) < after:
            if time.perf_counter() - began > PATIENCE:
                raise RuntimeError(f"not all features after {PATIENCE:.0f} s: {samples[-1:]}")
            time.sleep(self._pace)
            features = self._progress()["features"]
            if features:
                samples.append((time.perf_counter() - began, features["done"]))
            elif samples and samples[-1][1] < len(self._truth):
                samples.append((time.perf_counter() - began, len(self._truth)))
            start = time.perf_counter()
            label = names.index(self._truth[question["path"]])
            told = {"question": question["id"], "image": question["image"], "label": label}
            self._web.post("/api/tell", json={"person": CLIENT["person"]} | told).raise_for_status()
            question = self._next_question()
            (busy if features or not samples else idle).append(time.perf_counter() - start)
        (first, before), (last, done) = samples[0], samples[-1]
        return {
            "first question, s": round(first_question, 2),
            "features from, s": round(first, 1),
            "features until, s": round(last, 1),
            "features a second": round((done - before) / (last - first), 1),
            **_latency("while features are computed", busy),
            **_latency("afterwards", idle),
            **_memory(self._process),
        }

    def _first_question(self) -> dict[str, Any]:
        while True:
            with contextlib.suppress(httpx.TransportError):
                return self._next_question()
            time.sleep(0.05)

    def _next_question(self) -> dict[str, Any]:
        """Return a question whose picture is there."""
        while True:
            reply = self._web.post("/api/ask", json=CLIENT | {"count": 1}).raise_for_status()
            if questions := reply.json()["questions"]:
                question: dict[str, Any] = questions[0]
                self._web.get(f"/api/images/{question['image']}").raise_for_status()
                return question
            time.sleep(0.02)

    def _progress(self) -> dict[str, Any]:
        reply: dict[str, Any] = self._web.get("/api/progress").raise_for_status().json()
        return reply


def _latency(when: str, seconds: list[float]) -> dict[str, float]:
    """Return the times from an answer to the next picture."""
    milliseconds = 1000 * np.array(seconds or [np.nan])
    return {
        f"answers {when}": len(seconds),
        f"next picture {when}, median ms": round(float(np.median(milliseconds)), 1),
        f"next picture {when}, 95th percentile ms": round(
            float(np.quantile(milliseconds, 0.95)), 1
        ),
        f"next picture {when}, slowest ms": round(float(milliseconds.max()), 1),
    }


def _memory(process: int) -> dict[str, float]:
    """Return the peak resident sizes of a process and of those that it started. Linux."""
    peaks = {process: _peak(process)}
    for number in _children(process):
        peaks[number] = _peak(number)
    return {
        "peak memory of the page, MB": peaks.pop(process),
        "peak memory of the trainer, MB": max(peaks.values()),
        "peak memory together, MB": round(_peak(process) + sum(peaks.values()), 1),
    }


def _children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").iterdir()
    children = [int(word) for task in tasks for word in (task / "children").read_text().split()]
    return children + [below for child in children for below in _children(child)]


def _peak(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3, 1)


if __name__ == "__main__":
    main()
