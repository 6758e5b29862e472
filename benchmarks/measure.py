"""What benchmarks share: sides timed in turns, what the figures were taken on, and a JSON file of
them."""

import json
import os
import platform
import shlex
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from dfal.stats.significance import half_width

T = TypeVar("T")


@dataclass(frozen=True)
class Measured(Generic[T]):
    """Seconds of each round, and what the last one returned."""

    seconds: list[float]
    result: T

    def figures(self, items: int) -> dict[str, Any]:
        middle = median(self.seconds)
        return {
            "seconds": [round(s, 4) for s in self.seconds],
            "median": round(middle, 4),
            "min": round(min(self.seconds), 4),
            "max": round(max(self.seconds), 4),
            "per_second": round(items / middle, 1),
        }


def interleaved(sides: Mapping[str, Callable[[], T]], repeats: int) -> dict[str, Measured[T]]:
    """Every side once a round, so that a slow spell of the machine meets them all; each round
    starts with another side."""
    names = list(sides)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    results: dict[str, T] = {}
    for turn in range(repeats):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = perf_counter()
            results[name] = sides[name]()
            seconds[name].append(perf_counter() - start)
    return {name: Measured(seconds[name], results[name]) for name in names}


def difference(points: list[float]) -> str:
    """The mean of paired differences with half of its 95 % t interval, for a table."""
    if not points:
        return "–"
    spread = f" ± {half_width(np.array(points)):.1f}" if len(points) > 1 else ""
    return f"{np.mean(points):+.1f}{spread}"


def ratio(slower: Measured[T], faster: Measured[T]) -> float:
    """How many times as long: the median of the ratios within a round."""
    return median(a / b for a, b in zip(slower.seconds, faster.seconds, strict=True))


def taken_on(packages: Iterable[str]) -> dict[str, Any]:
    """The machine, versions, threads and command that figures belong to."""
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "versions": (
            {"python": platform.python_version()} | {name: _version(name) for name in packages}
        ),
    }


def write(path: Path, figures: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # dfal may be run from its source tree
        return "not installed as a package"


def resident(*, peak: bool = False) -> float:
    """The resident size of this process in MB (10⁶ bytes), or its peak since `reset_peak`.
    Linux."""
    key = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(
        int(next(line.split()[1] for line in lines if line.startswith(key))) * 1024 / 1e6, 1
    )


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def product_rate(side: int = 1024, repeats: int = 20) -> float:
    """Floating-point operations a second of a product of two square matrices: the machine's
    practical peak."""
    a, b = torch.rand(2, side, side)
    best = min(_timed(lambda: a @ b) for _ in range(repeats))
    return 2 * side**3 / best


def _timed(function: Callable[[], object]) -> float:
    start = perf_counter()
    function()
    return perf_counter() - start


def label_command(folder: Path) -> tuple[list[str], str]:
    """Return a command that serves a folder to be labelled with one class, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = ["label", str(folder), "--classes", "one", "--no-browser", "--port", port]
    return [sys.executable, "-m", "dfal", *command], f"http://127.0.0.1:{port}"
