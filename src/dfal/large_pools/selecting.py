"""Select images of a pool: compute its parts, keep what is done on disk, merge, and choose."""

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64
from numpy.typing import NDArray

from dfal.atomic import atomic_write
from dfal.data.datasets.download import writing
from dfal.data.image_array import Images
from dfal.errors import DfalError
from dfal.experiments.executors.base import one_thread
from dfal.experiments.serialization import to_json
from dfal.large_pools.best import Best
from dfal.large_pools.scoring import Job
from dfal.large_pools.workers import Part, Run
from dfal.pool import Pool
from dfal.seeding import generator

SAVE_SECONDS = 5.0
"""Seconds of work that a kill costs at most, beside the parts in flight."""


@dataclass(frozen=True)
class Selected:
    """What to label, the most wanted first.

    Attributes:
        indices: numbers of images in the pool.
        scores: of the strategy, in its own unit.
        paths: of the images in the pool; empty for one that has none.
    """

    indices: list[int]
    scores: list[float]
    paths: list[str]


def select(
    job: Job,
    state: "State",
    run: Run,
    part_blocks: int,
    progress: Callable[[int], None] = lambda images: None,
) -> Selected:
    """Select images of a pool.

    Args:
        job: what to compute.
        state: what is done of it already.
        run: computes parts, as one of `workers` does.
        part_blocks: how many blocks a worker gets at a time; the result does not depend on it.
        progress: called with the number of images of each part that is done.

    Raises:
        DfalError: where the pool, the model and the strategy do not fit each other.
    """
    left = job.blocks.source.count - len(job.excluded)
    if job.k > left:
        raise DfalError(f"-k {job.k} is more than the {left} images to choose from: give fewer")
    blocks = np.flatnonzero(~state.done).tolist()
    parts = [
        tuple(blocks[start : start + part_blocks]) for start in range(0, len(blocks), part_blocks)
    ]
    progress(sum(len(job.blocks.indices(int(block))) for block in np.flatnonzero(state.done)))
    results = run(job, parts, state.limit)
    try:
        for part, result in results:
            state.add(part, result)
            progress(sum(len(job.blocks.indices(block)) for block in part))
    finally:
        results.close()
        state.save()
    with one_thread():
        return state.rank() if job.ranks else state.choose()


class State:
    """What is done of a selection, in a file next to the result, and in another one for features.

    Args:
        job: of which a part may be done already.
        out: the file of the result.
    """

    def __init__(self, job: Job, out: Path):
        self._job, self._saved = job, time.monotonic()
        self._path = out.with_name(f".{out.name}.progress.npz")
        self._features = out.with_name(f".{out.name}.features")
        self.done: Bool[np.ndarray, b] = np.zeros(job.blocks.count, bool)
        self._best, self._width, self._key = Best.none(), 0, key(job)
        self._read()

    def _read(self) -> None:
        """Take over what an interrupted run of the same job has done."""
        try:
            with self._path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                if str(saved["key"]) != self._key:
                    return
                best = Best(saved["indices"], saved["scores"], saved["ties"])
                done, width = saved["done"], int(saved["width"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return  # none, or damaged: it starts anew
        if self._job.ranks or self._features.is_file():
            self.done, self._best, self._width = done, best, width

    def add(self, part: Part, result: Any) -> None:
        """Take in what was computed of a part."""
        if self._job.ranks:
            self._best = self._best.merged(result, self._job.kept)
        else:
            for block, rows in zip(part, result, strict=True):
                self._write(block, rows)
        self.done[list(part)] = True
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save()

    def _write(self, block: int, rows: NDArray[np.float32]) -> None:
        self._width = rows.shape[1]
        mode = "r+b" if self._features.exists() else "w+b"
        with writing(self._features), self._features.open(mode) as file:
            file.seek(block * self._job.blocks.size * rows[0].nbytes)
            file.write(np.ascontiguousarray(rows, np.float32).data)

    def save(self) -> None:
        """Write what is done."""
        best = self._best
        if self._features.exists():  # what is said to be done must be on the disk before
            with self._features.open("rb") as file:
                os.fsync(file.fileno())
        with atomic_write(self._path, "name another with --out") as part, part.open("wb") as file:
            np.savez(
                file,
                key=self._key,
                done=self.done,
                width=self._width,
                indices=best.indices,
                scores=best.scores,
                ties=best.ties,
            )
        self._saved = time.monotonic()

    def limit(self) -> float:
        """Return the k-th smallest score so far."""
        k = self._job.k
        return float(self._best.scores[k - 1]) if len(self._best.scores) >= k else np.inf

    def rank(self) -> Selected:
        """Return the k best images."""
        best = self._job.remeasured(self._best)
        sign = -1 if getattr(self._job.strategy, "largest", False) else 1
        return self._selected(best.indices, sign * best.scores + 0.0)

    def choose(self) -> Selected:
        """Choose images by their features, which are mapped and not read whole."""
        job, count = self._job, self._job.blocks.source.count
        rows = np.memmap(self._features, np.float32, "r", shape=(count, self._width))
        pool = Pool.new(Images(rows), dict.fromkeys(job.excluded.tolist(), 0))
        rng = generator(job.seed, job.round, "select")
        query = pool.validate(job.strategy(job.head(), pool, job.k, rng), job.k)
        return self._selected(query.indices.numpy(), query.scores.double().numpy())

    def _selected(self, indices: Int64[np.ndarray, "n"], scores: NDArray[np.float64]) -> Selected:
        chosen = indices.tolist()
        return Selected(chosen, scores.tolist(), [self._job.blocks.name(i) for i in chosen])

    def forget(self) -> None:
        """Remove the files, when the result is written."""
        self._path.unlink(missing_ok=True)
        self._features.unlink(missing_ok=True)


def key(job: Job) -> str:
    """Return a hash that is another one where the result of a job may be another one."""
    source, path = job.blocks.source, Path(job.blocks.address)
    images = source.key() if source.key else ""
    if not images and path.is_file():
        images = f"{path.stat().st_size} {path.stat().st_mtime_ns}"
    text = json.dumps(
        [
            *(job.blocks.address, source.count, job.blocks.size, images),
            hashlib.sha256(job.model.read_bytes()).hexdigest(),
            *(to_json(job.strategy), job.k, job.seed, job.round),
            hashlib.sha256(job.excluded.tobytes()).hexdigest(),
        ]
    )
    return hashlib.sha256(text.encode()).hexdigest()
