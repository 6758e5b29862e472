"""A folder of images: what is in it, what a network sees of it, and that nothing is lost, whatever
happens to it."""

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dfal
import dfal.data.decode_cache
from dfal.data import background_decoding, folder_files
from dfal.data.decode_cache import Decoded
from dfal.data.image_files import Unavailable, fitted
from dfal.data.image_folder import Folder
from dfal.data.listing import GONE
from dfal.errors import DfalError

Array = np.ndarray[Any, np.dtype[np.uint8]]


def picture(number: int, side: int = 16, colour: bool = False) -> Array:
    shape = (side, side, 3) if colour else (side, side)
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def write(path: Path, number: int, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(number, **options)).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve images: three classes in sub-folders, and one beside them."""
    for number in range(11):
        write(tmp_path / "photos" / "abc"[number % 3] / f"{number:02}.png", number)
    write(tmp_path / "photos" / "loose.PNG", 11)
    return tmp_path / "photos"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def all_of(folder: Folder) -> None:
    for _ in folder.decode():
        pass


def number_of(path: str) -> int:
    return 11 if path == "loose.PNG" else int(Path(path).stem)


def assert_right(folder: Folder, count: int) -> None:
    """Every image that is ready is the one that its path names."""
    ready = folder.ready()
    assert ready.sum() == count
    for index in np.flatnonzero(ready):
        assert np.array_equal(
            folder.images.array[index, 0], picture(number_of(folder.paths[index]))
        )


def test_images_are_listed_in_the_order_of_their_paths_and_nothing_is_decoded(
    photos: Path, cache: Path
) -> None:
    with Folder.open(photos, cache) as folder:
        assert folder.paths == tuple(
            sorted(file.relative_to(photos).as_posix() for file in photos.rglob("*.*"))
        )
        assert (len(folder), folder.shape, folder.images.shape) == (12, (16, 16, 1), (1, 16, 16))
        assert not folder.ready().any()
        assert folder.set_aside() == {}


def test_the_first_sub_folder_is_the_class(photos: Path, cache: Path) -> None:
    write(photos / "a" / "2026" / "may" / "99.png", 99)
    with Folder.open(photos, cache) as folder:
        assert {folder.paths[index]: label for index, label in folder.known.items()} == {
            path: path[0] for path in folder.paths if "/" in path
        }
        assert len(folder.known) == 12


def test_one_image_at_once_and_then_the_rest(photos: Path, cache: Path) -> None:
    with Folder.open(photos, cache) as folder:
        seven = folder.image(7)
        assert seven.shape == (16, 16, 1)
        assert np.array_equal(seven[..., 0], picture(number_of(folder.paths[7])))
        assert np.flatnonzero(folder.ready()).tolist() == [7]
        counts = list(folder.decode())
        assert (counts[0], counts[-1]) == (1, 12)
        assert_right(folder, 12)


def test_what_is_wanted_first_is_decoded_first(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_decoding, "WRITE_BATCH", 1)
    with Folder.open(photos, cache) as folder:
        running = folder.decode(order=[9, 4, 9], workers=1)
        assert next(running) == 0
        while next(running) < 2:
            pass
        running.close()
        done = set(np.flatnonzero(folder.ready()).tolist())
        assert {9, 4} <= done
        assert len(done) < 12


def test_a_stopped_decoding_goes_on(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_decoding, "WRITE_BATCH", 1)
    with Folder.open(photos, cache) as folder:
        running = folder.decode(workers=1)
        assert next(running) == 0
        next(running)
        running.close()
        before = int(folder.ready().sum())
        assert 1 <= before < 12
    decodes = counted(monkeypatch)
    with Folder.open(photos, cache) as folder:
        assert_right(folder, before)
        all_of(folder)
        assert_right(folder, 12)
    assert len(decodes) == 12 - before


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are decoded from now on."""
    decodes: list[Path] = []

    def decode(path: Path, *arguments: Any) -> Any:
        decodes.append(path)
        return fitted(path, *arguments)

    monkeypatch.setattr(folder_files, "fitted", decode)
    return decodes


def test_what_was_asked_for_in_the_meantime_is_not_decoded_again(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decodes = counted(monkeypatch)
    with Folder.open(photos, cache) as folder:
        running = folder.decode(workers=1)
        next(running)
        for index in (11, 10):
            folder.image(index)
            folder.image(index)
        for _ in running:
            pass
        assert_right(folder, 12)
    assert len(decodes) == 12


def test_grey_is_seen_in_colour_where_one_image_is_coloured_and_sizes_that_differ_become_64(
    photos: Path, cache: Path
) -> None:
    write(photos / "a" / "20.png", 20, side=20, colour=True)
    with Folder.open(photos, cache) as folder:
        assert folder.shape == (64, 64, 3)
        assert folder.image(0).shape == (64, 64, 3)
    for options, shape in (
        ({"size": 10}, (10, 10, 3)),
        ({"channels": 1}, (64, 64, 1)),
        ({"size": 9, "channels": 1}, (9, 9, 1)),
    ):
        with Folder.open(photos, cache, **options) as folder:  # type: ignore[arg-type]
            assert folder.image(0).shape == shape
    with Folder.open(photos, cache, size=64, channels=3) as folder:
        assert folder.ready().sum() == 1  # each size has its own


def test_unreadable_files_are_set_aside_with_the_reason(photos: Path, cache: Path) -> None:
    (photos / "a" / "bad.jpg").write_bytes(b"hello")
    (photos / "b" / "cut.png").write_bytes((photos / "loose.PNG").read_bytes()[:90])
    (photos / "c" / "nowhere.png").symlink_to("nothing.png")
    os.mkfifo(photos / "c" / "pipe.png")
    with Folder.open(photos, cache) as folder:
        all_of(folder)
        aside = folder.set_aside()
        assert_right(folder, 12)
        assert list(aside) == ["c/nowhere.png", "a/bad.jpg", "b/cut.png"]
        assert aside["a/bad.jpg"].startswith("it is no JPEG")
        assert "cannot be read" in aside["b/cut.png"]
        with pytest.raises(DfalError, match=r"a/bad\.jpg is set aside: it is no JPEG"):
            folder.image(folder.paths.index("a/bad.jpg"))
    with Folder.open(photos, cache) as folder:
        assert folder.set_aside() == aside
        (photos / "a" / "bad.jpg").unlink()
        write(photos / "a" / "bad.jpg", 5)
        assert folder.image(folder.paths.index("a/bad.jpg")).any()  # it was repaired
        assert "a/bad.jpg" not in folder.set_aside()


def test_a_file_that_changed_is_decoded_again(photos: Path, cache: Path) -> None:
    with Folder.open(photos, cache) as folder:
        all_of(folder)
        here, later = folder.paths[2], folder.paths[3]
        write(photos / here, 77)
        assert np.array_equal(folder.image(2)[..., 0], picture(77))
        assert np.array_equal(folder.images.array[2, 0], picture(77))
    write(photos / later, 78)
    with Folder.open(photos, cache) as folder:
        assert np.flatnonzero(~folder.ready()).tolist() == [3]
        all_of(folder)
        assert np.array_equal(folder.images.array[3, 0], picture(78))


def test_a_file_that_vanished_says_so_and_may_come_back(photos: Path, cache: Path) -> None:
    with Folder.open(photos, cache) as folder:
        all_of(folder)
        paths = folder.paths
        (photos / paths[2]).rename(photos / "elsewhere")
        for look in (folder.image, folder.file, folder.original):
            with pytest.raises(DfalError, match=f"{paths[2]} is set aside: {GONE}"):
                look(2)
        assert folder.set_aside() == {paths[2]: GONE}
        assert not folder.ready()[2]
    with Folder.open(photos, cache) as folder:
        assert folder.paths == paths
        assert folder.set_aside() == {paths[2]: GONE}
        (photos / "elsewhere").rename(photos / paths[2])
    with Folder.open(photos, cache) as folder:
        all_of(folder)
        assert_right(folder, 12)
        (photos / paths[2]).rename(photos / "elsewhere")
        with pytest.raises(DfalError, match=GONE):
            folder.image(2)
        (photos / "elsewhere").rename(photos / paths[2])
        assert np.array_equal(folder.image(2)[..., 0], picture(number_of(paths[2])))
        assert_right(folder, 12)


def test_indices_stay_when_files_come_and_go(photos: Path, cache: Path) -> None:
    with Folder.open(photos, cache) as folder:
        all_of(folder)
        paths = folder.paths
    write(photos / "a" / "000.png", 0)
    (photos / paths[5]).unlink()
    with Folder.open(photos, cache) as folder:
        assert folder.paths == (*paths, "a/000.png")
        assert folder.ready().tolist() == [*[True] * 5, False, *[True] * 6, False]
        all_of(folder)
        assert_right(folder, 12)


def patient(monkeypatch: pytest.MonkeyPatch, between: Any = None) -> list[float]:
    """Pauses that take no time, and what happens in each; how long they would have been."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if between:
            between(len(pauses))

    monkeypatch.setattr(time, "sleep", sleep)
    return pauses


@pytest.mark.parametrize(
    "how", ["renamed", "an empty folder in its place", "a class's folder alone"]
)
def test_a_folder_that_is_away_while_it_is_decoded_loses_no_image(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It goes when the fourth image is decoded, and comes back in the third pause."""
    for number in range(100, 160):
        write(photos / "a" / f"{number}.png", number)
    gone = photos / "a" if how == "a class's folder alone" else photos
    decodes = []
    going = threading.Lock()

    def decode(path: Path, *arguments: Any) -> Any:
        with going:
            decodes.append(path)
            if len(decodes) == 4:
                gone.rename(photos.with_name("away"))
                if how == "an empty folder in its place":
                    gone.mkdir()
        return fitted(path, *arguments)

    def come_back(pause: int) -> None:
        if pause == 3:
            if how == "an empty folder in its place":
                gone.rmdir()
            photos.with_name("away").rename(gone)

    monkeypatch.setattr(folder_files, "fitted", decode)
    pauses = patient(monkeypatch, come_back)
    with Folder.open(photos, cache) as folder:
        counts = list(folder.decode(workers=2, patience=1000))
        assert pauses == [0.25, 0.5, 1.0]
        assert (counts[-1], folder.set_aside(), folder.delayed()) == (72, {}, {})
        assert_right(folder, 72)
    with sqlite3.connect(folder.place / "files.db") as database:
        assert database.execute(
            "SELECT count(*) FROM files WHERE reason IS NOT NULL"
        ).fetchone() == (0,)
    database.close()


def test_a_folder_that_stays_away_is_given_up_after_a_while_and_set_aside_never(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch)
    with Folder.open(photos, cache) as folder:
        photos.rename(photos.with_name("away"))
        assert list(folder.decode(patience=0))[-1] == 0
        assert len(folder.delayed()) == 12
        assert folder.delayed(attempts=2) == {}  # the folder is the reason, not the files
        for look in (folder.image, folder.file, folder.original):
            with pytest.raises(
                Unavailable, match=r"cannot be read just now: the folder .* is away"
            ):
                look(0)
        assert folder.set_aside() == {}
    photos.with_name("away").rename(photos)
    with Folder.open(photos, cache) as folder:
        all_of(folder)
        assert_right(folder, 12)


@pytest.mark.parametrize(
    "error",
    [
        *(
            OSError(number, os.strerror(number))
            for number in (errno.EMFILE, errno.EIO, errno.EACCES, errno.ESTALE, errno.ENOMEM)
        ),
        MemoryError(),
    ],
    ids=lambda error: str(error) or "MemoryError",
)
def test_what_the_system_refuses_is_tried_again_and_never_set_aside(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    refusing = [True]
    whole = Path.read_bytes

    def read(path: Path) -> bytes:
        if refusing[0] and path.suffix == ".png":
            raise error
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    patient(monkeypatch, lambda pause: refusing.__setitem__(0, pause < 2))
    with Folder.open(photos, cache) as folder:
        with pytest.raises(Unavailable, match=r": it cannot be read just now \("):
            folder.image(0)
        with pytest.raises(Unavailable, match=r": it cannot be read just now \("):
            folder.original(0)
        all_of(folder)
        assert folder.set_aside() == {}
        assert_right(folder, 12)


def test_a_file_that_may_not_be_read_is_named_and_holds_up_nothing(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path.read_bytes

    def read(path: Path) -> bytes:
        if path.name in {"00.png", "01.png"}:
            raise (
                PermissionError(errno.EACCES, "Permission denied")
                if path.name == "00.png"
                else MemoryError
            )
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    pauses = patient(monkeypatch)
    with Folder.open(photos, cache) as folder:
        counts = folder.decode(patience=1000)
        while len(pauses) < 5:
            next(counts)
        assert next(counts) == 10
        counts.close()
        stuck = {"a/00.png": "a/00.png: it cannot be read just now (Permission denied)"}
        short = {"b/01.png": "b/01.png: it cannot be read just now (there is not enough memory)"}
        assert folder.delayed(attempts=3) == folder.delayed() == stuck | short
        assert folder.delayed(attempts=4) == stuck  # memory is not tried for again and again
        assert folder.set_aside() == {}


def test_a_single_image_that_vanished_is_gone_though_its_folder_is_empty_now(
    tmp_path: Path, cache: Path
) -> None:
    for name in ("a/1.png", "b/2.png"):
        write(tmp_path / "photos" / name, 1)
    with Folder.open(tmp_path / "photos", cache) as folder:
        (tmp_path / "photos" / "a" / "1.png").unlink()
        with pytest.raises(DfalError, match=f"a/1.png is set aside: {GONE}"):
            folder.image(0)
        write(tmp_path / "photos" / "a" / "1.png", 1)
        all_of(folder)  # it came back
        assert folder.set_aside() == {}


def test_what_an_earlier_version_set_aside_is_tried_again(photos: Path, cache: Path) -> None:
    (photos / "a" / "bad.jpg").write_bytes(b"hello")
    Image.fromarray(picture(70)).save(photos / "c" / "70.tif")
    with Folder.open(photos, cache) as folder:
        all_of(folder)
        place = folder.place
    (photos / "c" / "02.png").unlink()
    Folder.open(photos, cache).close()
    with sqlite3.connect(place / "files.db") as database:
        database.execute("PRAGMA user_version = 0")
        old = "it cannot be read (No such file or directory)"
        database.execute("UPDATE files SET decoded = 0, reason = ? WHERE path < ?", (old, b"b"))
    database.close()
    with Folder.open(photos, cache) as folder:
        assert folder.set_aside() == {"c/02.png": GONE}
        assert not folder.ready()[
            folder.paths.index("c/70.tif")
        ]  # its depth may have been read wrongly
        assert folder.ready()[folder.paths.index("b/01.png")]
        all_of(folder)
        assert folder.ready().sum() == 12
        aside = folder.set_aside()
        assert aside.keys() == {"a/bad.jpg", "c/02.png"}
    with Folder.open(photos, cache) as folder:
        assert folder.set_aside() == aside  # and only once


def test_names_of_every_kind(tmp_path: Path, cache: Path) -> None:
    names = [
        "ü ñ 猫.png",
        "a,b\n.png",
        "percent%20.png",
        os.fsdecode(b"\xff\xfe.png"),
        "'; DROP TABLE files; --.png",
    ]
    for number, name in enumerate(names):
        write(tmp_path / "odd" / name, number)
    (tmp_path / "odd" / ".hidden").mkdir()
    write(tmp_path / "odd" / ".hidden" / "one.png", 1)
    write(tmp_path / "odd" / "._one.png", 1)
    with Folder.open(tmp_path / "odd", cache) as folder:
        assert set(folder.paths) == set(names)
        all_of(folder)
        for index, path in enumerate(folder.paths):
            assert np.array_equal(folder.image(index)[..., 0], picture(names.index(path)))
    with Folder.open(tmp_path / "odd", cache) as folder:
        assert folder.ready().all()


def test_another_process_sees_what_is_decoded_here(photos: Path, cache: Path) -> None:
    with Folder.open(photos, cache) as here:
        code = (
            "import sys; from dfal.data.image_folder import Folder; [*Folder.open(sys.argv[1],"
            " sys.argv[2]).decode()]"
        )
        (photos / "b" / "10.png").write_bytes(b"no image")
        subprocess.run([sys.executable, "-c", code, photos, cache], check=True)
        assert_right(here, 11)
        assert list(here.set_aside()) == ["b/10.png"]
        assert len(list(here.decode())) == 2  # nothing is left to do


def test_files_that_another_process_found_since_are_not_this_folders(
    photos: Path, cache: Path
) -> None:
    with Folder.open(photos, cache) as before:
        write(photos / "a" / "98.png", 98)
        with Folder.open(photos, cache) as after:
            all_of(after)
            assert (len(after), after.paths[12]) == (13, "a/98.png")
        assert_right(before, 12)
        assert len(before) == len(before.images) == 12


def test_a_full_database_is_one_sentence_and_goes_on_when_there_is_room(
    photos: Path, cache: Path
) -> None:
    with Folder.open(photos, cache) as folder:
        database = folder._cache._database
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(DfalError, match=r"cannot be written .database or disk is full"):
            folder._cache.write([Decoded(0, folder._cache.entries[0], "x" * 100_000)])
        assert folder.set_aside() == {}
        database.execute("PRAGMA max_page_count = 100000")
        all_of(folder)
        assert_right(folder, 12)


def test_two_may_decode_at_once(photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_decoding, "WRITE_BATCH", 2)
    with Folder.open(photos, cache) as one, Folder.open(photos, cache) as other:
        threads = [threading.Thread(target=all_of, args=(folder,)) for folder in (one, other, one)]
        for thread in threads:
            thread.start()
        for index in range(12):
            assert np.array_equal(one.image(index)[..., 0], picture(number_of(one.paths[index])))
        for thread in threads:
            thread.join()
        assert_right(one, 12)
        assert_right(other, 12)


def test_killed_again_and_again_it_still_gets_everything_right(tmp_path: Path, cache: Path) -> None:
    for number in range(60):
        write(tmp_path / "many" / f"{number:03}.png", number)
    code = (
        "import sys; from dfal.data import background_decoding as decoding\n"
        "from dfal.data.image_folder import Folder; decoding.WRITE_BATCH = 3\n"
        "for done in Folder.open(sys.argv[1], sys.argv[2]).decode(): print(done, flush=True)"
    )
    last = -1
    for _ in range(30):
        process = subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / "many", cache],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        first = int(process.stdout.readline())
        assert first >= last  # nothing that was written is lost
        for _ in range(7):
            last = int(process.stdout.readline() or last)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with Folder.open(tmp_path / "many", cache) as folder:
            assert_right(folder, int(folder.ready().sum()))
            if folder.ready().all():
                break
    else:
        pytest.fail("it never came to an end")


def test_ctrl_c_keeps_what_is_decoded(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Folder.open(photos, cache) as folder:
        waited = 0

        def interrupted(*arguments: Any, **options: Any) -> Any:
            nonlocal waited
            waited += 1
            if waited == 3:
                raise KeyboardInterrupt
            return wait(*arguments, **options)

        monkeypatch.setattr(background_decoding, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            all_of(folder)
        assert folder.ready().sum() >= 2  # nothing had been written yet
        monkeypatch.undo()
        all_of(folder)
        assert_right(folder, 12)


def test_labels_from_a_csv(photos: Path, cache: Path) -> None:
    rows = [
        "note,path,label",
        "x,a/00.png,cat",
        "x,./b/01.png,dog",
        "x,c\\02.png, cat ",
        f"x,{photos.resolve()}/loose.PNG,eel",
        "x,a/03.png,",
    ]
    (photos / "labels.csv").write_text("\n".join(rows), encoding="utf-8-sig")
    with Folder.open(photos, cache, labels=photos / "labels.csv") as folder:
        found = {folder.paths[index]: label for index, label in folder.known.items()}
    assert found == {"a/00.png": "cat", "b/01.png": "dog", "c/02.png": "cat", "loose.PNG": "eel"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a/00.png,cat\n", "no columns path and label"),
        ("", "no columns path and label"),
        ("path,label\nx/00.png,cat\n", "names 'x/00.png', which is not in"),
        ("path,label\n../photos/a/00.png,cat\n", "which is not in"),
        (
            "path,label\na/00.png,cat\na/00.png,dog\n",
            "gives 'a/00.png' two labels, 'cat' and 'dog'",
        ),
        (None, "cannot be read"),
    ],
)
def test_a_bad_csv_is_one_sentence(
    photos: Path, cache: Path, text: str | None, sentence: str
) -> None:
    if text is not None:
        (photos / "labels.csv").write_text(text)
    with pytest.raises(DfalError, match=sentence) as raised:
        Folder.open(photos, cache, labels=photos / "labels.csv")
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_none_is_one_sentence(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DfalError, match=r"there is no folder .*nowhere: name one"):
        Folder.open(tmp_path / "nowhere", cache)
    (tmp_path / "file").touch()
    with pytest.raises(DfalError, match="is a file"):
        Folder.open(tmp_path / "file", cache)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DfalError, match=r"empty holds no image that is JPEG.*it is empty"):
        Folder.open(tmp_path / "empty", cache)
    for name in ("a.HEIC", "b.heic", "c.txt", "README"):
        (tmp_path / "empty" / name).touch()
    with pytest.raises(
        DfalError, match=r"it holds 2 \.heic, 1 \.txt, 1 no ending|it holds 2 \.heic"
    ):
        Folder.open(tmp_path / "empty", cache)
    assert not cache.exists()  # nothing is left behind


@pytest.mark.parametrize(
    ("option", "sentence"), [({"size": 0}, "size = 0"), ({"channels": 4}, "channels = 4")]
)
def test_a_size_that_is_none_is_refused(
    photos: Path, cache: Path, option: dict[str, int], sentence: str
) -> None:
    with pytest.raises(DfalError, match=sentence):
        Folder.open(photos, cache, **option)  # type: ignore[arg-type]


@pytest.mark.parametrize("index", [-1, 12])
def test_an_index_outside_is_refused(photos: Path, cache: Path, index: int) -> None:
    with Folder.open(photos, cache) as folder:
        for look in (folder.image, folder.file, folder.original):
            with pytest.raises(DfalError, match=f"image {index} is outside the folder"):
                look(index)


def test_a_cache_that_cannot_be_written_is_one_sentence(
    photos: Path, tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DfalError, match=r"the cache .* cannot be written"):
        Folder.open(photos, tmp_path / "file")
    with Folder.open(photos, cache) as folder:
        place = folder.place
    for name in ("files.db-wal", "files.db-shm"):
        (place / name).unlink(missing_ok=True)
    (place / "files.db").write_bytes(b"no database at all " * 500)
    with Folder.open(photos, cache) as folder:  # it is made again, beside the damaged one
        assert folder.place == place.with_name(f"{place.name}-2")
        all_of(folder)
        assert_right(folder, 12)
    with Folder.open(photos, cache) as folder:
        assert_right(folder, 12)


def test_a_cache_that_is_damaged_while_it_is_open_is_one_sentence(
    photos: Path, cache: Path
) -> None:
    with Folder.open(photos, cache) as folder:
        folder._cache._database.execute("DROP TABLE files")
        with pytest.raises(DfalError, match=r"the cache .* \(no such table: files\)"):
            all_of(folder)


@pytest.mark.parametrize("change", ["every image is renamed", "another folder in its place"])
def test_the_cache_begins_anew_beside_that_of_another_folder(
    photos: Path, cache: Path, change: str
) -> None:
    with Folder.open(photos, cache) as before:
        all_of(before)
        if change == "every image is renamed":
            for path in before.paths:
                (photos / path).rename((photos / path).with_name("new-" + Path(path).name))
        else:
            photos.rename(photos.with_name("old"))
            for number in range(3):
                write(photos / f"{number:02}.png", number)
        count = 12 if change == "every image is renamed" else 3
        with Folder.open(photos, cache) as after:  # while the old one is open
            assert (len(after), after.ready().sum(), after.place == before.place) == (
                count,
                0,
                False,
            )
            all_of(after)
            assert after.set_aside() == {}
            for index, path in enumerate(after.paths):
                number = number_of(path.replace("new-", ""))
                assert np.array_equal(after.images.array[index, 0], picture(number))
        assert_right(before, 12)  # nothing was written over
    with Folder.open(photos, cache) as again:
        assert again.ready().sum() == count


def test_of_the_caches_at_one_place_only_some_are_kept_and_none_that_is_open(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dfal.data.decode_cache, "MAX_CACHES", 2)
    first = write(tmp_path / "0" / "0.png", 0).parent
    with Folder.open(first, cache) as held:
        all_of(held)
        for turn in range(1, 6):
            write(tmp_path / f"{turn}" / f"{turn}.png", turn)
            with Folder.open(tmp_path / f"{turn}", cache) as folder:
                all_of(folder)
        assert held.place.is_dir()
        assert np.array_equal(held.image(0)[..., 0], picture(0))
        left = sorted(held.place.parent.iterdir())
        assert (len(left), left[0]) == (3, held.place)
    with Folder.open(tmp_path / "5", cache) as folder:
        assert folder.ready().all()


def test_a_folder_takes_the_order_it_is_given(photos: Path, cache: Path) -> None:
    with Folder.open(photos, cache) as folder:
        listed = list(folder.paths)
        all_of(folder)
    (photos / "a" / "00.png").unlink()
    order = ["gone.png", *listed[:1:-1]]
    for turn in range(2):  # a cache beside the one in another order, and the same again
        with Folder.open(photos, cache, order=order) as folder:
            assert list(folder.paths) == [*order, listed[1]]
            assert folder.ready().sum() == 11 * turn
            all_of(folder)
            assert_right(folder, 11)
            assert folder.set_aside() == {"gone.png": GONE}
    with Folder.open(photos, cache, order=[*listed, "gone.png"]) as folder:
        assert list(folder.paths) == [*listed, "gone.png"]
        assert_right(folder, 11)
    assert len(list(cache.iterdir())) == 2
    with Folder.open(photos, cache, order=listed) as folder:
        assert list(folder.paths) == [*listed, "gone.png"]
        assert_right(folder, 11)
        assert folder.set_aside() == {"a/00.png": GONE, "gone.png": GONE}
    write(photos / "gone.png", 3)
    write(photos / "new.png", 4)
    with Folder.open(photos, cache, order=[*order, listed[1], "new.png", "late.png"]) as folder:
        assert list(folder.paths) == [*order, listed[1], "new.png", "late.png"]
        assert folder.ready().sum() == 11
        all_of(folder)
        assert folder.set_aside() == {"late.png": GONE}
        assert np.array_equal(folder.image(0)[..., 0], picture(3))
        assert np.array_equal(folder.image(12)[..., 0], picture(4))


def test_two_ways_of_writing_an_accent_are_two_images_of_an_order(cache: Path) -> None:
    composed, apart = "\u00e9.png", "e\u0301.png"
    photos = write(cache.parent / "accents" / composed, 1).parent
    with Folder.open(photos, cache, order=[apart]) as folder:
        assert folder.paths == (composed,), "as the folder writes it"
    with Folder.open(photos, cache, order=[apart, composed]) as folder:
        assert folder.paths == (apart, composed)
        all_of(folder)
        assert folder.set_aside() == {apart: GONE}


def test_no_order_makes_a_folder_read_what_it_would_not_list(photos: Path, cache: Path) -> None:
    write(photos / ".hidden" / "1.png", 1)
    Image.fromarray(picture(2)).save(photos / "2.txt", "PNG")
    os.mkfifo(photos / "3.png")
    unlisted = [".hidden/1.png", "2.txt", "3.png"]
    with Folder.open(photos, cache, order=unlisted) as folder:
        all_of(folder)
        assert folder.set_aside() == dict.fromkeys(unlisted, GONE)
        for index in range(3):
            with pytest.raises(DfalError, match="no longer there"):
                folder.file(index)


def test_a_full_disk_is_one_sentence_and_nothing_is_called_ready(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with Folder.open(photos, cache) as folder:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(DfalError, match="No space left on device"):
                folder.image(0)
            with pytest.raises(DfalError, match="No space left on device"):
                all_of(folder)
            assert not folder.ready().any()
        all_of(folder)
        assert_right(folder, 12)


def test_without_a_cache_named_it_lies_in_the_users(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "user" / name))
    monkeypatch.chdir(tmp_path)
    with Folder.open(photos) as one, Folder.open("photos") as two:
        assert one.place == two.place
        assert tmp_path / "user" / "dfal" / "folders" in one.place.parents
    write(tmp_path / "deep" / "photos" / "x.png", 1)
    with Folder.open(tmp_path / "deep" / "photos") as other:
        assert other.place != one.place


def test_originals_come_in_full_size(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(photos / "a" / "large.png", 5, side=50, colour=True)
    with Folder.open(photos, cache) as folder:
        large = folder.paths.index("a/large.png")
        assert np.array_equal(np.asarray(folder.original(large)), picture(5, side=50, colour=True))
        assert folder.file(large) == photos / "a" / "large.png"
        monkeypatch.setattr("dfal.data.image_files.WHOLE_PIXELS", 2000)
        assert folder.original(large, longest=10).size == (
            25,
            25,
        )  # where it takes much memory, no larger than it is shown
        assert folder.original(large, longest=None).size == folder.original(large).size == (50, 50)
        (photos / "a" / "large.png").write_bytes(b"hello")
        with pytest.raises(DfalError, match=r"a/large\.png: it is no JPEG"):
            folder.original(large)


def test_a_pool_of_what_is_ready(photos: Path, cache: Path) -> None:
    """As a page does it: the images are one live array, and what is not ready is not asked
    about."""
    with Folder.open(photos, cache) as folder:
        for index in (1, 4, 6, 8):
            folder.image(index)
        hidden = dict.fromkeys(np.flatnonzero(~folder.ready()).tolist(), 0)
        pool = dfal.Pool.new(folder.images, hidden)
        assert pool.unlabelled.tolist() == [1, 4, 6, 8]
        assert np.array_equal(
            pool.images.take(pool.unlabelled)[2, 0].mul(255).numpy(), folder.image(6)[..., 0]
        )


@pytest.mark.slow
def test_a_hundred_thousand_files_give_their_first_image_within_seconds(
    tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "many").mkdir()
    one = write(tmp_path / "one.png", 1).read_bytes()
    for number in range(100_000):
        (tmp_path / "many" / f"{number:06}.png").write_bytes(one)
    for _ in range(2):  # without a cache, and with one
        start = time.monotonic()
        with Folder.open(tmp_path / "many", cache) as folder:
            assert np.array_equal(folder.image(77_777)[..., 0], picture(1))
            print(f"first of {len(folder):,} after {time.monotonic() - start:.1f} s")
            assert time.monotonic() - start < 10
            running = folder.decode(order=range(50_000, 50_010))
            next(running)
            next(running)
            running.close()
            assert folder.ready()[50_000:50_010].all()
