"""No acknowledged answer or round is lost in a power failure: what was not synced to the disk is
thrown away."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from dfal.experiments.store import Store
from dfal.labelling.store.session import Session

COMPILER = shutil.which("cc")
pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="there is no C compiler: make debian"),
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this machine has no /proc"),
]

LABELS = """
    import sys
    from dfal.labelling.store.session import Session
    from dfal.labelling.store.schema import Settings
    paths = [f"{i}.png" for i in range(5000)]
    with Session.start(sys.argv[1], Settings(), paths, ["a", "b", "c"]) as session:
        for question in iter(lambda: session.ask()[0], None):
            session.tell(question, question.image % 3)
            print(question.image, flush=True)
"""
ROUNDS = """
    import sys
    import torch
    from dfal.experiments.store import Record, Store
    from dfal.query import Query
    with Store(sys.argv[1], write=True) as store:
        store.add_run({"trial": "{}"}, {})
        for number in range(len(store.records("trial")), 5000):
            images = torch.arange(10) + number
            query = Query(images, torch.zeros(10))
            none = torch.empty(0, dtype=torch.int64)
            measured = {"accuracy": 0.5}
            store.add("trial", Record(number, query, images % 3, images % 3, none, measured))
            print(number, flush=True)
"""


class Machine:
    """A folder whose files lose what was not synced.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path):
        self.folder, self.copies, self.library = (
            root / "disk",
            root / "copies",
            root / "power_loss.so",
        )
        self.folder.mkdir()
        source = Path(__file__).with_name("power_loss.c")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", self.library, source], check=True)

    def run_until(self, program: str, lines: int) -> list[int]:
        """What a program acknowledges, a number a line, until it is killed after so many lines."""
        command = [sys.executable, "-c", textwrap.dedent(program), str(self.folder / "store.db")]
        watched = {"POWER_LOSS_FOLDER": str(self.folder), "POWER_LOSS_COPIES": str(self.copies)}
        environment = os.environ | {"LD_PRELOAD": str(self.library)} | watched
        self._remember()
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            said = [int(process.stdout.readline()) for _ in range(lines)]
            process.kill()
            return said + [
                int(line) for line in process.stdout
            ]  # acknowledged before the kill came

    def lose_power(self) -> None:
        """Put every file back to what was synced of it, under the names that were synced."""
        names = [line.split(" ", 1) for line in (self.copies / "names").read_text().splitlines()]
        synced = {
            name: (self.copies / inode).read_bytes() if (self.copies / inode).exists() else b""
            for inode, name in names
        }
        for path in self.folder.iterdir():
            path.unlink()
        for name, content in synced.items():
            (self.folder / name).write_bytes(content)

    def _remember(self) -> None:
        """What is on the disk when a program starts is synced."""
        shutil.rmtree(self.copies, ignore_errors=True)
        self.copies.mkdir()
        inodes = {path.name: path.stat().st_ino for path in self.folder.iterdir()}
        (self.copies / "names").write_text(
            "".join(f"{inode} {name}\n" for name, inode in inodes.items())
        )
        for name, inode in inodes.items():
            shutil.copy(self.folder / name, self.copies / str(inode))


@pytest.mark.parametrize("losses", [2, pytest.param(70, marks=pytest.mark.slow)])
def test_after_every_power_loss_each_acknowledged_answer_is_there(
    tmp_path: Path, losses: int
) -> None:
    machine, rng = Machine(tmp_path), np.random.default_rng(0)
    acknowledged: set[int] = set()
    for _ in range(losses):
        said = machine.run_until(LABELS, int(rng.integers(1, 25)))
        assert not acknowledged & set(said), "an image was asked about again"
        acknowledged |= set(said)
        machine.lose_power()
        with Session.open(machine.folder / "store.db") as session:
            labels = session.state.labels
            lost = [image for image in acknowledged if labels[image] != image % 3]
        assert not lost, f"{len(lost)} of {len(acknowledged)} answers"
    print(f"0 of {len(acknowledged)} acknowledged answers lost in {losses} power failures")


@pytest.mark.parametrize("losses", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_after_every_power_loss_each_acknowledged_round_is_there(
    tmp_path: Path, losses: int
) -> None:
    machine, rng = Machine(tmp_path), np.random.default_rng(1)
    done = 0
    for _ in range(losses):
        done = 1 + max(machine.run_until(ROUNDS, int(rng.integers(1, 25))))
        machine.lose_power()
        with Store(machine.folder / "store.db", write=True) as store:
            records = store.records("trial")
        assert len(records) >= done
        assert all(
            record.answers.tolist() == [(i + record.round) % 3 for i in range(10)]
            for record in records
        )
    print(f"0 of {done} finished rounds lost in {losses} power failures")
