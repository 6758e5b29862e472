"""Files with changed bytes: a right answer or one sentence and exit code 2, and nothing is written
elsewhere.

The changes are drawn from seeds, so that a failure can be made again: its test's name has the kind
and the number.
"""

import contextlib
import gzip
import io
import json
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from dfal import cli, models, reproduce
from dfal.damage import damage
from dfal.data.datasets import idx, npz
from dfal.data.image_files import decoded, fitted
from dfal.data.image_folder import Folder
from dfal.data.label_table import read_labels
from dfal.data.listing import Listing
from dfal.errors import DfalError
from dfal.experiments.store import Store
from dfal.labelling.learning.progress import progress
from dfal.labelling.learning.review import review
from dfal.labelling.names import class_names
from dfal.labelling.store.session import Session
from dfal.nn.networks import lenet5
from dfal.pool import Pool
from dfal.strategies.base import embed

STORES = Path(__file__).parent
SECONDS = 30
"""After so long a file counts as one on which dfal hangs."""


class Hang(BaseException):
    """No handler of exceptions may catch it."""


@contextlib.contextmanager
def limit(seconds: int) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Hang(f"no answer within {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def changed(content: bytes, seed: str) -> bytes:
    """The file with one to thirty other bytes, cut off, or with a block of zeros or of another
    place."""
    rng = random.Random(seed)
    found = bytearray(content)
    kind = rng.choice(["bytes"] * 6 + ["cut", "zeros", "copy", "bits"])
    at, length = rng.randrange(len(found)), rng.choice([1, 16, 100, 512, 4096])
    if kind == "cut":
        del found[rng.choice([0, 1, 16, 100, at, at, at]) :]
    elif kind == "zeros":
        found[at : at + length] = bytes(len(found[at : at + length]))
    elif kind == "copy":
        start = rng.randrange(len(found))
        block = found[start : start + length]
        found[at : at + len(block)] = block
    else:
        for _ in range(rng.randint(1, 30)):
            # Headers of files and of pages are a small part of them, and say the most.
            place = rng.choice(
                [
                    rng.randrange(len(found)),
                    rng.randrange(min(len(found), 2000)),
                    at // 4096 * 4096 + rng.randrange(200),
                ]
            )
            place = min(place, len(found) - 1)
            found[place] = (
                found[place] ^ 1 << rng.randrange(8) if kind == "bits" else rng.randrange(256)
            )
    return bytes(found)


def tree(folder: Path, out: Path) -> dict[str, tuple[int, int]]:
    """All files but those in `out`: name → size and time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if out not in (path, *path.parents) and path.is_file():
            status = path.lstat()
            found[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns)
    return found


def command(*arguments: object) -> None:
    """A command line in this process; its sentence as a DfalError."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = ["dfal", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as end:
        if end.code == 2:
            lines = err.getvalue().splitlines()
            assert lines and lines[-1].startswith("dfal: "), err.getvalue()
            raise DfalError(err.getvalue()) from None
        assert not end.code, err.getvalue()
    finally:
        sys.argv = before


@dataclass(frozen=True)
class Kind:
    """A kind of file: the good one, and what is done with a changed one."""

    name: str
    content: Callable[[], bytes]
    use: Callable[[Path, Path, Path], object]


def _labels_read(path: Path, out: Path, shared: Path) -> None:
    command("export", path, "--out", out / "l.csv")
    with Session.open(path, write=False) as session:
        for show in ("all", "suspicious"):
            review(session, show=show)
        progress(session.state)
        for number in (1, 2, 3):
            session.model_outputs.ranked_image(number)
            session.model_outputs.twin(number)
        session.model_outputs.twins()


def _labels_written(path: Path, out: Path, shared: Path) -> None:
    copy = out / path.name
    shutil.copyfile(path, copy)
    with Session.open(copy, person="Ada") as session:
        class_names(session.classes)
        question = session.ask()
        if question:
            session.tell(question[0], 0)
            session.undo()
        session.flag(0, "blurred")
        session.refresh()


def _labels_copied(path: Path, out: Path, shared: Path) -> None:
    command("export", path, "--format", "folders", "--out", out / "folders")


def _run_read(path: Path, out: Path, shared: Path) -> None:
    with Store(path) as store:
        reproduce.read_results(store)
        for trial in store.trials():
            store.records(trial)
        store.environments()


def _run_reported(path: Path, out: Path, shared: Path) -> None:
    command("report", path, "--out", out / "r.html", "--csv", out / "r.csv")


def _model_content() -> bytes:
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        torch.manual_seed(0)
        path = Path(folder) / "m.safetensors"
        models.save(
            lenet5((1, 16, 16), 2),
            models.ModelCard(("cat", "dog"), (1, 16, 16), accuracy=0.9, interval=(0.8, 1)),
            path,
        )
        return path.read_bytes()


def _model_used(path: Path, out: Path, shared: Path) -> None:
    command("predict", path, shared, "--out", out / "p.csv")
    command("model", path)


def _card_content() -> bytes:
    return json.dumps(
        {
            "classes": ["cat", "dog"],
            "image": [1, 16, 16],
            "network": "lenet5",
            "annotations": 7,
            "accuracy": 0.5,
        }
        | {
            "interval": [0.25, 0.75],
            "held_out": 4,
            "licence": "MIT",
            "about": "x",
            "versions": {"dfal": "0.1"},
        }
    ).encode()


def _card_read(path: Path, out: Path, shared: Path) -> None:
    models.card.read(path.read_bytes().decode("utf-8", "surrogateescape"), path).lines()


def _npz_content() -> bytes:
    file, rng = io.BytesIO(), np.random.default_rng(0)
    np.savez_compressed(
        file, images=rng.integers(0, 255, (20, 4, 4), np.uint8), labels=np.arange(20) % 2
    )
    return file.getvalue()


def _plain_npz_content() -> bytes:
    file, rng = io.BytesIO(), np.random.default_rng(0)
    np.savez(
        file,
        images=rng.random((20, 4, 4), np.float32),
        labels=np.arange(20) % 2,
        classes=np.array(["a", "b"]),
    )
    return file.getvalue()


def _npz_read(path: Path, out: Path, shared: Path) -> None:
    data = npz.load(path)
    assert data.images.take(torch.arange(1)).isfinite().all()
    assert 0 <= int(data.labels.min()) <= int(data.labels.max()) < len(data.classes)


def _idx_content() -> bytes:
    return struct.pack(">4B3i", 0, 0, 8, 3, 9, 4, 4) + bytes(range(144))


def _idx_read(path: Path, out: Path, shared: Path) -> None:
    array = idx.array(idx.content(path), path)
    assert array.ndim >= 1


def _csv_content() -> bytes:
    return "path,label\na.png,cat\nb.png,dog\nc.png,Hündin\n".encode()


def _csv_read(path: Path, out: Path, shared: Path) -> None:
    known = read_labels(path, shared, ("a.png", "b.png", "c.png")).known
    class_names(sorted(set(known.values())))


def _picture(form: str, mode: str = "RGB", **options: Any) -> Callable[[], bytes]:
    def content() -> bytes:
        image, file = Image.new("RGB", (40, 30), (200, 120, 30)), io.BytesIO()
        ImageDraw.Draw(image).ellipse((5, 5, 30, 25), (20, 90, 200))
        image.convert(mode).save(file, form, **options)
        return file.getvalue()

    return content


def _picture_read(path: Path, out: Path, shared: Path) -> None:
    for read in (lambda: fitted(path, (16, 16), 3), lambda: decoded(path)):
        try:
            read()
        except DfalError:
            raise
        except ValueError as error:  # the reason for which an image is set aside
            assert str(error)
    with contextlib.suppress(DfalError):
        Listing.of(path.parent)


def _folder_read(path: Path, out: Path, shared: Path) -> None:
    photos = out / "photos"
    photos.mkdir(exist_ok=True)
    shutil.copyfile(path, photos / path.name)
    with Folder.open(photos, out / "cache") as folder:
        for _ in folder.decode(workers=1):
            pass
        assert len(folder.set_aside()) + int(folder.ready().sum()) == len(folder)
    shutil.rmtree(out)
    out.mkdir()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    return exif.tobytes()


def _stored(name: str) -> Callable[[], bytes]:
    return (STORES / name).read_bytes


KINDS = {
    "labels.db": Kind("labelling store, read", _stored("label-version-2.db"), _labels_read),
    "old.labels.db": Kind(
        "labelling store of version 1, read", _stored("label-version-1.db"), _labels_read
    ),
    "written.labels.db": Kind(
        "labelling store, written", _stored("label-version-2.db"), _labels_written
    ),
    "copied.labels.db": Kind(
        "labelling store, exported as folders", _stored("label-version-2.db"), _labels_copied
    ),
    "run.db": Kind("run store, read", _stored("version-1.db"), _run_read),
    "reported.db": Kind("run store, reported", _stored("version-1.db"), _run_reported),
    "m.safetensors": Kind("model", _model_content, _model_used),
    "card.json": Kind("model card", _card_content, _card_read),
    "d.npz": Kind(".npz", _npz_content, _npz_read),
    "plain.npz": Kind(".npz that is not packed", _plain_npz_content, _npz_read),
    "t-idx3-ubyte": Kind("IDX", _idx_content, _idx_read),
    "t-idx3-ubyte.gz": Kind(
        "IDX, packed", lambda: gzip.compress(_idx_content(), mtime=0), _idx_read
    ),
    "known.csv": Kind("CSV of labels", _csv_content, _csv_read),
    "p.jpg": Kind("JPEG", _picture("JPEG", exif=_exif()), _picture_read),
    "p.png": Kind("PNG", _picture("PNG", "RGBA"), _picture_read),
    "q.png": Kind("PNG of a palette", _picture("PNG", "P"), _picture_read),
    "p.webp": Kind("WebP", _picture("WEBP"), _picture_read),
    "p.gif": Kind("GIF", _picture("GIF"), _picture_read),
    "p.tif": Kind("TIFF", _picture("TIFF"), _picture_read),
    "packed.tif": Kind("TIFF, packed", _picture("TIFF", compression="tiff_lzw"), _picture_read),
    "folder.jpg": Kind("JPEG in a folder", _picture("JPEG", exif=_exif()), _folder_read),
}
"""By the name that the file has."""


@pytest.mark.parametrize("name", KINDS)
def test_a_changed_file_is_read_or_refused_in_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try_many(name, range(50), tmp_path, monkeypatch)


@pytest.mark.parametrize(("name", "number"), [("p.tif", 244)])
def test_what_the_slow_suite_has_found(
    name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try_many(name, range(number, number + 1), tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_thousand_changed_files_of_each_kind(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try_many(name, range(int(os.environ.get("DFAL_FUZZ", "1000"))), tmp_path, monkeypatch)


def try_many(name: str, numbers: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use so many changed files, and count what comes of it."""
    box, out, shared = tmp_path / "box", tmp_path / "box" / "out", tmp_path / "shared"
    out.mkdir(parents=True)
    shared.mkdir()
    Image.new("L", (16, 16), 7).save(shared / "a.png")
    monkeypatch.chdir(box)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kind, path = KINDS[name], box / name
    good = kind.content()
    path.write_bytes(good)
    if name not in {"copied.labels.db"}:
        kind.use(path, out, shared)  # what is not changed is right
    read = refused = 0
    failures = []
    for number in numbers:
        for one in out.iterdir():
            shutil.rmtree(one) if one.is_dir() else one.unlink()
        path.write_bytes(changed(good, f"{name} {number}"))
        before = tree(tmp_path, out)
        try:
            with limit(SECONDS):
                kind.use(path, out, shared)
            read += 1
        except DfalError as error:
            refused += 1
            if len(str(error).strip().splitlines()[-1]) > 600 or "Traceback" in str(error):
                failures.append(f"{number}: {error}")
        except (Exception, Hang) as error:
            frames = []
            trace = error.__traceback__
            while trace:
                frames.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
                trace = trace.tb_next
            failures.append(
                f"{number}: {type(error).__name__}: {str(error)[:200]} at {' '.join(frames[-4:])}"
            )
        if (after := tree(tmp_path, out)) != before:
            failures.append(f"{number}: it wrote {set(after.items()) ^ set(before.items())}")
    print(
        f"{kind.name}: {read + refused} files, {read} read, {refused} refused, {len(failures)}"
        " failures"
    )
    assert not failures, "\n".join(failures[:20])


def an_npz(path: Path, **arrays: Any) -> Path:
    given: dict[str, Any] = {
        "images": np.zeros((20, 4, 4), np.uint8),
        "labels": np.arange(20) % 2,
    } | arrays
    np.savez(path, **given)
    return path


def with_shape(path: Path, shape: str) -> Path:
    """The archive with another shape in the header of its images, as long as the old one."""
    import zipfile

    an_npz(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    old = b"(20, 4, 4), }"
    members["images.npy"] = members["images.npy"].replace(
        old + b" " * (len(shape) + 3 - len(old)), f"{shape}, }}".encode(), 1
    )
    assert shape.encode() in members["images.npy"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "shape", ["(1099511627776, 4, 4)", "(20, 4, 5)", "(-20, 4, 4)", "(9223372036854775807, 9, 9)"]
)
def test_an_npz_whose_header_claims_another_size_is_refused_before_memory_is_asked_for(
    tmp_path: Path, shape: str
) -> None:
    claims = r"d\.npz cannot be read as \.npz \(images\.npy has not the size that its header says\)"
    with limit(SECONDS), pytest.raises(DfalError, match=claims):
        npz.load(with_shape(tmp_path / "d.npz", shape))


def test_an_npz_that_unpacks_to_more_than_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert npz.physical_memory() > 2**28
    monkeypatch.setattr(npz, "physical_memory", lambda: 500)
    with pytest.raises(DfalError, match="more than this machine's memory"):
        npz.load(an_npz(tmp_path / "d.npz"))


def test_an_npz_with_objects_or_labels_out_of_range_is_refused(tmp_path: Path) -> None:
    for labels in (
        np.array([{}] * 20, dtype=object),
        np.full(20, 2**63, np.uint64),
        np.full(20, 2**50),
    ):
        with pytest.raises(DfalError, match=r"d\.npz"):
            npz.load(an_npz(tmp_path / "d.npz", labels=labels, classes=np.array(["a", "b"])))


@pytest.mark.parametrize("dimensions", [(), (-2, -2), (2**31 - 1, 2**31 - 1), (2,) * 200, (1, 5)])
def test_an_idx_file_of_impossible_dimensions_is_refused(
    tmp_path: Path, dimensions: tuple[int, ...]
) -> None:
    path = tmp_path / "t-idx"
    path.write_bytes(
        struct.pack(f">4B{len(dimensions)}i", 0, 0, 8, len(dimensions), *dimensions) + bytes(4)
    )
    with pytest.raises(DfalError, match="is no IDX file of bytes"):
        idx.array(idx.content(path), path)


def test_a_packed_file_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idx, "MAX_BYTES", 10_000)
    (tmp_path / "t.gz").write_bytes(gzip.compress(bytes(1_000_000)))
    with pytest.raises(DfalError, match=r"t\.gz cannot be read \(it unpacks to more than"):
        idx.content(tmp_path / "t.gz")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"classes": ["a", "b"], "image": [1, 16, 16], "accuracy": NaN}',
        '{"classes": ["a", "b"], "image": [1, 16, 16], "accuracy": 1e999}',
        '{"classes": ["a", "b"], "image": [1, 16, 16], "accuracy": 7}',
        '{"classes": ["a", "b"], "image": [1, 16, 16], "interval": [0.1, 1' + "0" * 400 + "]}",
        '{"classes": ["a", "b"], "image": [1, 16, 1' + "0" * 5000 + "]}",
        '{"classes": ["a", "b"], "image": [1, 16, 1' + "0" * 30 + "]}",
        '{"classes": ["a", ["b"]], "image": [1, 16, 16]}',
        '{"classes": ["a", "\\ud800"], "image": [1, 16, 16]}',
        '{"classes": ["a", "a"], "image": [1, 16, 16]}',
        '{"classes": ["a", "b"], "image": [1, 16, 16], "versions": {"a": {}}}',
        '{"classes": ["a", "b"], "image": [1, 16, 16], "annotations": -1}',
    ],
    ids=range(12),
)
def test_a_card_of_strange_numbers_and_texts_is_one_sentence(text: str) -> None:
    with pytest.raises(DfalError, match="is of another version of dfal, or damaged"):
        models.card.read(text, Path("m.safetensors"))


@pytest.mark.parametrize("claimed", [2**63, 2**64 - 1, 2**31, 10**8])
def test_a_model_whose_header_claims_to_be_giant_is_one_sentence(
    tmp_path: Path, claimed: int
) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", claimed) + _model_content()[8:])
    with limit(SECONDS), pytest.raises(DfalError, match="is damaged or no model"):
        models.load(path)


@pytest.mark.parametrize("kind", ["objects", "text", "header", "cut", "letters", "archive"])
def test_an_embedding_that_is_damaged_is_one_sentence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "e.npy"
    np.save(path, np.zeros((20, 3)))
    content = path.read_bytes()
    if kind == "objects":
        np.save(path, np.array([{}] * 20, dtype=object), allow_pickle=True)
    elif kind == "letters":
        np.save(path, np.full((20, 3), "a"))
    elif kind == "archive":
        np.savez(tmp_path / "e.npz", e=np.zeros((20, 3)))
        (tmp_path / "e.npz").replace(path)
    else:
        path.write_bytes(
            {"text": b"hello", "header": content.replace(b"{", b"("), "cut": content[:90]}[kind]
        )
    pool = Pool.new(torch.rand(20, 1, 4, 4), {0: 0, 1: 1})
    with pytest.raises(
        DfalError, match=r"the embedding .*e\.npy (cannot be read|holds no numbers)"
    ):
        embed(torch.nn.Flatten(), pool, torch.arange(3), str(path))


def test_what_a_library_written_in_rust_raises_is_damage_and_ctrl_c_is_not() -> None:
    panic = type("PanicException", (BaseException,), {})
    with (
        pytest.raises(
            DfalError, match=r"the file x is damaged .*: restore a copy, or start a new one"
        ),
        damage("the file x"),
    ):
        raise panic("called `Option::unwrap()` on a `None` value")
    with pytest.raises(KeyboardInterrupt), damage("the file x"):
        raise KeyboardInterrupt
    with pytest.raises(DfalError, match="larger than this machine's memory"), damage("the file x"):
        raise MemoryError
