"""dfal select: the same images whatever computes them, and as a choice from the whole pool."""

import csv
import dataclasses
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import dfal
from dfal.data.datasets import Dataset
from dfal.experiments.executors.on_ray import Ray
from dfal.large_pools import workers
from dfal.large_pools.best import Best, tie_breaks
from dfal.large_pools.blocks import PoolBlocks
from dfal.large_pools.scoring import SLACK, Job, SharedLimit
from dfal.large_pools.selecting import Selected, State, select
from dfal.nn.features import last_layer_inputs
from dfal.strategies import STRATEGIES, with_candidates
from shell import Shell

K = 12


@pytest.fixture(scope="module")
def pool_file(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Path:
    """300 digits that the model was not trained on; 30 of them are there twice."""
    path = tmp_path_factory.mktemp("pool") / "pool.npy"
    indices = np.arange(1, 4000, 13)[:300]
    indices[270:] = indices[:30]
    np.save(path, digits.images.raw(indices))
    return path


def job(pool_file: Path, model_file: Path, strategy: str, **settings: Any) -> Job:
    made = with_candidates(STRATEGIES[strategy], None)
    blocks = PoolBlocks(str(pool_file), (1, 28, 28), 40)
    plain: dict[str, Any] = {"k": K, "seed": 0, "round": 0, "excluded": np.empty(0, np.int64)}
    return Job(blocks, model_file, None, made, **(plain | settings))


def selected(made: Job, folder: Path, run: workers.Run = workers.here, part: int = 1) -> Selected:
    return select(made, State(made, folder / "out.csv"), run, part)


def whole(pool_file: Path) -> torch.Tensor:
    return torch.from_numpy(np.load(pool_file)).float() / 255


@pytest.mark.parametrize("strategy", ["margin", "entropy", "least-confidence", "dfal", "egl"])
def test_a_ranking_is_that_of_the_whole_pool(
    strategy: str, tmp_path: Path, pool_file: Path, model_file: Path, trained: nn.Sequential
) -> None:
    found = selected(job(pool_file, model_file, strategy), tmp_path)
    made: Any = with_candidates(STRATEGIES[strategy], None)
    if strategy == "dfal":
        made = dataclasses.replace(made, exact=True)
    pool = dfal.Pool.new(whole(pool_file), {})
    scores = made(trained, pool, 2 * K, dfal.generator(0, 0, "select"))
    value = dict(zip(scores.indices.tolist(), scores.scores.tolist(), strict=True))
    assert found.scores == pytest.approx([value[index] for index in found.indices], rel=1e-3)
    assert found.scores == pytest.approx(scores.scores[:K].tolist(), rel=1e-3)


@pytest.mark.parametrize("strategy", ["margin", "dfal", "random"])
def test_the_part_size_changes_nothing(
    strategy: str, tmp_path: Path, pool_file: Path, model_file: Path
) -> None:
    made = job(pool_file, model_file, strategy)

    def backwards(made: Job, parts: Any, limit: Any) -> workers.Results:
        return workers.here(made, parts[::-1], limit)

    plain = selected(made, tmp_path)
    (tmp_path / ".out.csv.progress.npz").unlink()
    assert selected(made, tmp_path, backwards, 3) == plain


def test_worker_processes_and_ray_change_nothing(
    tmp_path: Path, pool_file: Path, model_file: Path, cluster: Any
) -> None:
    runs: dict[str, workers.Run] = {
        "core-set": partial(workers.beside, workers=2),
        "dfal": partial(workers.on_cluster, executor=Ray(), workers=2),
    }
    for strategy, run in runs.items():
        made = job(pool_file, model_file, strategy)
        plain = selected(made, tmp_path)
        State(made, tmp_path / "out.csv").forget()
        assert selected(made, tmp_path, run, 2) == plain


def test_equal_images_are_ordered_by_seed_and_round(
    tmp_path: Path, pool_file: Path, model_file: Path
) -> None:
    orders = set()
    for seed, round in ((0, 0), (0, 1), (1, 0)):
        made = job(pool_file, model_file, "margin", k=300, seed=seed, round=round)
        found = selected(made, tmp_path).indices
        assert sorted(found) == list(range(300))
        place = {index: rank for rank, index in enumerate(found)}
        orders.add(tuple(place[index] < place[270 + index] for index in range(30)))
    assert len(orders) == 3


def test_ties_are_spread_evenly_and_depend_on_nothing_else() -> None:
    ties = tie_breaks(3, 4, np.arange(10_000))
    assert (ties[5000:] == tie_breaks(3, 4, np.arange(5000, 10_000))).all()
    assert len(np.unique(ties)) == 10_000
    bits = (ties[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert np.abs(bits.mean(0) - 0.5).max() < 0.03


def test_merging_is_sorting_in_any_order() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 20, 300).astype(float)
    ties = tie_breaks(0, 0, np.arange(300))
    parts = [
        Best(part, scores[part], ties[part]) for part in np.array_split(rng.permutation(300), 17)
    ]
    best = Best.none()
    for part in parts:
        best = best.merged(part, 50)
    expected = np.lexsort((ties, scores))[:50]
    assert (best.indices == expected).all() and (best.scores == scores[expected]).all()


def test_the_limit_of_early_termination_is_the_smaller_one_with_some_slack() -> None:
    limit = SharedLimit(2, 5.0)
    assert limit.exact and limit.distance == 5 * SLACK
    limit.add(torch.tensor([3.0]))
    assert limit.distance == 5 * SLACK
    limit.add(torch.tensor([1.0, 4.0]))
    assert limit.distance == 3 * SLACK
    lagging = SharedLimit(2, torch.inf)
    assert lagging.distance == torch.inf
    lagging.add(torch.tensor([1.0]))
    assert lagging.distance == torch.inf


@pytest.mark.parametrize("strategy", ["core-set", "badge", "typi-clust", "u-herding"])
def test_a_choice_is_that_of_a_linear_layer_on_the_features_of_the_whole_pool(
    strategy: str, tmp_path: Path, pool_file: Path, model_file: Path, trained: nn.Sequential
) -> None:
    excluded = np.array([3, 250])
    made = job(pool_file, model_file, strategy, excluded=excluded)
    found = selected(made, tmp_path)
    rows = last_layer_inputs(trained, whole(pool_file))
    pool = dfal.Pool.new(rows, {3: 0, 250: 0})
    query = made.strategy(nn.Sequential(trained[-1]), pool, K, dfal.generator(0, 0, "select"))
    assert found.indices == query.indices.tolist()
    assert not {3, 250} & set(found.indices)


def test_excluded_images_are_not_selected(
    tmp_path: Path, pool_file: Path, model_file: Path
) -> None:
    first = selected(job(pool_file, model_file, "margin"), tmp_path)
    made = job(pool_file, model_file, "margin", excluded=np.array(sorted(first.indices[:5])))
    assert selected(made, tmp_path).indices[: K - 5] == first.indices[5:]


def test_a_stopped_selection_resumes_without_computing_again(
    tmp_path: Path, pool_file: Path, model_file: Path
) -> None:
    for strategy in ("margin", "core-set"):
        made = job(pool_file, model_file, strategy)
        plain = selected(made, tmp_path)
        State(made, tmp_path / "out.csv").forget()
        computed: list[int] = []

        def stopping(made: Job, parts: Any, limit: Any, computed: list[int] = computed) -> Any:
            for part, result in workers.here(made, parts, limit):
                if len(computed) == 4:
                    raise KeyboardInterrupt
                computed.append(part[0])
                yield part, result

        with pytest.raises(KeyboardInterrupt):
            selected(made, tmp_path, stopping)

        def going_on(made: Job, parts: Any, limit: Any, computed: list[int] = computed) -> Any:
            assert [part[0] for part in parts] == [block for block in range(8) if block > 3]
            return workers.here(made, parts, limit)

        assert selected(made, tmp_path, going_on) == plain
        other = dataclasses.replace(made, seed=1)
        assert not State(other, tmp_path / "out.csv").done.any(), "that is another selection"
        State(made, tmp_path / "out.csv").forget()
        assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("content", [b"", b"damaged", b"PK\x03\x04 damaged"])
def test_damaged_progress_starts_anew(
    tmp_path: Path, pool_file: Path, model_file: Path, content: bytes
) -> None:
    made = job(pool_file, model_file, "random")
    (tmp_path / ".out.csv.progress.npz").write_bytes(content)
    assert not State(made, tmp_path / "out.csv").done.any()
    assert len(selected(made, tmp_path).indices) == K


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_form_of_a_pool_gives_the_same_images(
    dfal: Shell, tmp_path: Path, pool_file: Path, model_file: Path
) -> None:
    import io
    import tarfile

    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    files = []
    (tmp_path / "folder").mkdir()
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        for index, image in enumerate(np.load(pool_file)[:60]):
            content = io.BytesIO()
            Image.fromarray(image[0]).save(content, "PNG")
            files.append(content.getvalue())
            (tmp_path / "folder" / f"{index:03}.png").write_bytes(files[-1])
            entry = tarfile.TarInfo(f"{index:03}.png")
            entry.size = len(files[-1])
            shard.addfile(entry, io.BytesIO(files[-1]))
    parquet.write_table(arrow.table({"image": files}), tmp_path / "pool.parquet")
    np.save(tmp_path / "pool.npy", np.load(pool_file)[:60])
    pools = ["pool.npy", "folder", "shard.tar", "pool.parquet", f"file://{tmp_path}/folder"]
    tables = []
    for pool in pools:
        command = f"select --pool {pool} --model {model_file} -k 5 --workers 1 --out out.csv"
        assert dfal(*command.split()).code == 0
        tables.append(rows_of(tmp_path / "out.csv"))
    for table, path in zip(tables, ("", "{:03}.png", "{:03}", "", "{:03}.png"), strict=True):
        assert [row["index"] for row in table] == [row["index"] for row in tables[0]]
        assert [row["score"] for row in table] == [row["score"] for row in tables[0]]
        assert [row["path"] for row in table] == [path.format(int(row["index"])) for row in table]
    assert [row["rank"] for row in tables[0]] == list("12345")
    more = f"select --pool pool.npy --model {model_file} -k 5 --workers 1 --exclude out.csv"
    assert dfal(*more.split(), "--out", "more.parquet", "--json").code == 0
    written = parquet.read_table(tmp_path / "more.parquet").to_pydict()
    assert list(written) == ["rank", "index", "path", "score"]
    assert not set(map(str, written["index"])) & {row["index"] for row in tables[0]}
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"--model": "none.safetensors"}, "there is no model none.safetensors"),
        ({"--pool": "nowhere"}, "nowhere"),
        ({"--pool": "wide.npy"}, "have the shape (1, 28, 30), but the model takes (1, 28, 28)"),
        ({"-k": "301"}, "-k 301 is more than the 300 images"),
        ({"--strategy": "marign"}, "did you mean 'margin'?"),
        ({"--strategy": "batch-bald"}, "cannot select from a pool that is read in parts"),
        ({"--executor": "slurm"}, "give local or ray"),
        ({"--exclude": "wrong.csv"}, "names image 300, but the pool has 300 images"),
        ({"--exclude": "empty.csv"}, "has no column index"),
        ({"--out": "nowhere/out.csv"}, "there is no folder nowhere for --out"),
        ({"--device": "gpu"}, "there is no device 'gpu'"),
    ],
)
def test_wrong_use_is_one_sentence(
    changes: dict[str, str],
    sentence: str,
    dfal: Shell,
    tmp_path: Path,
    pool_file: Path,
    model_file: Path,
) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((20, 1, 28, 30), np.uint8))
    (tmp_path / "wrong.csv").write_text("index\n300\n")
    (tmp_path / "empty.csv").write_text("image\n3\n")
    before = sorted(tmp_path.rglob("*"))
    options = {"--pool": str(pool_file), "--model": str(model_file), "-k": "5", "--workers": "1"}
    words = [word for pair in (options | changes).items() for word in pair]
    assert sentence in dfal.refused("select", *words)
    assert sorted(tmp_path.rglob("*")) == before, "nothing was written"


def test_a_killed_selection_leaves_no_table_and_resumes(
    tmp_path: Path, pool_file: Path, model_file: Path, dfal: Shell
) -> None:
    np.save(tmp_path / "pool.npy", np.tile(np.load(pool_file), (40, 1, 1, 1)))
    options = f"--pool pool.npy --model {model_file} -k 5 --workers 1 --strategy egl --part 1"
    command = [sys.executable, "-m", "dfal", "select", *options.split(), "--out", "killed.csv"]
    code = "import dfal.large_pools.selecting as s; s.SAVE_SECONDS = 0; from dfal.cli import main"
    run = subprocess.Popen(
        [sys.executable, "-c", f"{code}; main()", *command[3:]],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / ".killed.csv.progress.npz").exists():
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert not (tmp_path / "killed.csv").exists()
    assert dfal(*command[3:]).code == 0
    assert dfal(*command[3:-1], "plain.csv").code == 0
    assert (tmp_path / "killed.csv").read_text() == (tmp_path / "plain.csv").read_text()
