import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dfal.atomic import atomic_write
from dfal.errors import DfalError


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_new_file_is_there_when_the_block_ends(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.txt") as part:
        part.write_text("new")
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_text() == "new"
    assert left_over(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), ValueError("ours")],
)
def test_whatever_stops_it_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    expected = DfalError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), atomic_write(path) as part:
        part.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert left_over(tmp_path) == ["a.txt"]


def test_a_full_disk_is_one_sentence_with_the_cure(tmp_path: Path) -> None:
    with (
        pytest.raises(
            DfalError,
            match=(
                r"the model .*a\.txt cannot be written \(No space left on device\): name another"
                r" with --out"
            ),
        ),
        atomic_write(tmp_path / "a.txt", "name another with --out", "the model"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("name", ["missing/a.txt", "folder", "."])
def test_what_cannot_be_written_is_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DfalError, match="cannot be written"), atomic_write(tmp_path / name) as part:
        part.write_text("new")
    assert left_over(tmp_path) == ["folder"]


def test_a_link_stays_a_link_and_the_mode_stays(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    with atomic_write(link) as part:
        part.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_device_is_written_to_and_not_replaced() -> None:
    with atomic_write(Path(os.devnull)) as part:
        part.write_text("gone")
    assert not Path(os.devnull).is_file()


def test_what_a_killed_process_has_left_is_removed_by_the_next(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    dead, alive = tmp_path / f".a.txt.{process.pid}.part", tmp_path / f".a.txt.{os.getppid()}.part"
    others = [
        tmp_path / ".a.txt.part",
        tmp_path / f".b.txt.{process.pid}.part",
        tmp_path / f"a.txt.{process.pid}.part",
    ]
    for path in (dead, alive, *others):
        path.touch()
    with atomic_write(tmp_path / "a.txt") as part:
        part.write_text("new")
    assert left_over(tmp_path) == sorted(["a.txt", alive.name, *(path.name for path in others)])
