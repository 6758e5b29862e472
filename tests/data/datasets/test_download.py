import gzip
import io
import socket
import threading
import time
import urllib.request
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import md5, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from dfal.data.datasets import download
from dfal.data.datasets.download import fetch, find, recorded
from dfal.errors import DfalError

CONTENT = np.random.default_rng(0).integers(0, 16, 300_000, dtype=np.uint8).tobytes()
PACKED = gzip.compress(CONTENT, 9)
SHA256 = sha256(CONTENT).hexdigest()


class Mirror(ThreadingHTTPServer):
    """A server of one file, which can do everything that real mirrors do."""

    def __init__(self, content: bytes = PACKED):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.files: dict[str, bytes] = {}  # name → content, where it serves several
        self.cut: int | None = None  # bytes after which it hangs up
        self.ranges = True  # whether it answers requests for a range
        self.chunked = False  # whether it says beforehand how much will come
        self.status = 200
        self.stall = 0.0  # seconds before the last byte
        self.garbage = False
        self.asked: list[str | None] = []
        self.paths: list[str] = []
        self.headers: list[tuple[str, str]] = []  # what else it says
        self.closing = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/files"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        mirror = cast(Mirror, self.server)
        self.close_connection = True
        wanted = self.headers["Range"]
        mirror.asked.append(wanted)
        mirror.paths.append(self.path)
        name = self.path.rsplit("/", 1)[1]
        content = mirror.files[name] if mirror.files else mirror.content
        if mirror.garbage:
            self.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n")
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and mirror.ranges else 0
        status = (
            mirror.status
            if mirror.status != 200 or not start
            else 206
            if start < len(content)
            else 416
        )
        body = content[start:] if status in (200, 206) else b"no"
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header(
            *(
                ("Transfer-Encoding", "chunked")
                if mirror.chunked
                else ("Content-Length", str(len(body)))
            )
        )
        for header in mirror.headers:
            self.send_header(*header)
        self.end_headers()
        if mirror.chunked:
            self.wfile.write(f"{len(body):x}\r\n".encode())
        self.wfile.write(body[: -1 if mirror.cut is None else mirror.cut])
        self.wfile.flush()
        mirror.closing.wait(mirror.stall)
        if mirror.cut is None:
            self.wfile.write(body[-1:] + (b"\r\n0\r\n\r\n" if mirror.chunked else b""))

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[Callable[..., Mirror]]:
    """Starts mirrors, and stops them when the test is over."""
    started = []

    def start(content: bytes = PACKED) -> Mirror:
        started.append(one := Mirror(content))
        threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
        return one

    yield start
    for one in started:
        one.closing.set()
        one.shutdown()
        one.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where downloads of the data set `set` go."""
    monkeypatch.delenv("DFAL_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    return tmp_path / "cache" / "dfal" / "set"


def get(*mirrors: str) -> Path:
    return fetch("set", "file", list(mirrors), SHA256)


def nobody() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}/files"


def assert_there(path: Path, cache: Path) -> None:
    assert path == cache / "file" == find("set", "file")
    assert path.read_bytes() == CONTENT
    assert list(cache.iterdir()) == [path]  # and nothing half-done beside it


def test_a_download_is_unpacked_verified_and_kept_in_the_cache(
    mirror: Callable[..., Mirror], cache: Path
) -> None:
    one = mirror()
    assert_there(get(one.address), cache)
    assert one.asked == [None]


def test_a_download_whose_length_is_not_announced_arrives(
    mirror: Callable[..., Mirror], cache: Path
) -> None:
    one = mirror()
    one.chunked = True
    assert_there(get(one.address), cache)


def test_the_second_mirror_is_asked_where_the_first_is_down(
    mirror: Callable[..., Mirror], cache: Path
) -> None:
    assert_there(get(nobody(), mirror().address), cache)


def test_where_no_mirror_can_be_reached_the_sentence_says_where_to_put_the_file(
    cache: Path,
) -> None:
    first, second = nobody(), nobody()
    with pytest.raises(DfalError, match="file of set could not be downloaded") as raised:
        get(first, second)
    for part in (first, second, "refused", str(cache), "DFAL_DATA/set"):
        assert part in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_a_mirror_does_not_have_is_not_found(
    mirror: Callable[..., Mirror], cache: Path
) -> None:
    one = mirror()
    one.status = 404
    with pytest.raises(DfalError, match="Not Found"):
        get(one.address)
    assert not list(cache.iterdir())
    assert_there(get(one.address, mirror().address), cache)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_transfer_that_broke_off_is_an_error_and_the_next_call_goes_on(
    mirror: Callable[..., Mirror], cache: Path, ranges: bool
) -> None:
    one = mirror()
    one.cut, one.ranges = 70_000, ranges
    with pytest.raises(DfalError, match=f"ended after 70,000 of {len(PACKED):,} bytes"):
        get(one.address)
    assert find("set", "file") is None
    one.cut = None
    assert_there(get(one.address), cache)
    assert one.asked == [None, "bytes=70000-"]


def test_a_transfer_of_unknown_length_that_broke_off_is_an_error(
    mirror: Callable[..., Mirror], cache: Path
) -> None:
    one = mirror()
    one.chunked, one.cut = True, 70_000
    with pytest.raises(DfalError, match="file of set could not be downloaded"):
        get(one.address)
    assert_there(get(one.address, mirror().address), cache)


def test_a_transfer_that_broke_off_is_not_continued_from_a_mirror_that_compresses_otherwise(
    mirror: Callable[..., Mirror], cache: Path
) -> None:
    first, second = mirror(), mirror(gzip.compress(CONTENT, 1))
    first.cut = 70_000
    assert_there(get(first.address, second.address), cache)


def test_a_file_that_arrived_whole_before_the_process_was_killed_is_used(
    mirror: Callable[..., Mirror], cache: Path
) -> None:
    one = mirror()
    one.cut = len(PACKED) - 1
    with pytest.raises(DfalError):
        get(one.address)
    (part,) = cache.iterdir()
    part.write_bytes(PACKED)
    one.cut = None
    assert_there(get(one.address), cache)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"<html>Please log in to this network</html>", id="no gzip"),
        pytest.param(PACKED[:10] + b"\xff" + PACKED[11:], id="a damaged start"),
        pytest.param(PACKED[:90_000] + bytes(100) + PACKED[90_100:], id="a damaged middle"),
        pytest.param(PACKED[:90_000], id="half of it"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_cannot_be_unpacked_is_an_error_and_is_not_kept(
    mirror: Callable[..., Mirror], cache: Path, content: bytes
) -> None:
    one = mirror(content)
    with pytest.raises(DfalError) as raised:
        get(one.address)
    assert one.address in str(raised.value)
    assert not list(cache.iterdir())
    one.content = PACKED
    assert_there(get(one.address), cache)


def test_another_file_is_refused_by_its_checksum_and_is_not_kept(
    mirror: Callable[..., Mirror], cache: Path
) -> None:
    one = mirror(gzip.compress(CONTENT[::-1]))
    with pytest.raises(DfalError, match=f"SHA-256.*{SHA256[:12]}") as raised:
        get(one.address)
    assert one.address in str(raised.value)
    assert not list(cache.iterdir())
    one.content = PACKED
    assert_there(get(one.address), cache)


@pytest.mark.parametrize(
    "content", [gzip.compress(CONTENT[::-1]), b"<html>moved</html>"], ids=["packed", "not packed"]
)
def test_the_second_mirror_is_asked_where_the_first_sends_another_file(
    mirror: Callable[..., Mirror], cache: Path, content: bytes
) -> None:
    assert_there(get(mirror(content).address, mirror().address), cache)


def test_a_mirror_that_stops_sending_is_given_up(
    mirror: Callable[..., Mirror], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    one = mirror()
    one.stall = 20.0
    start = time.monotonic()
    with pytest.raises(DfalError, match="timed out"):
        get(one.address)
    assert time.monotonic() - start < 5
    one.stall = 0.0
    assert_there(get(one.address), cache)
    assert one.asked[1] is not None  # what had come was not thrown away


def test_a_server_that_does_not_speak_http_is_an_error(
    mirror: Callable[..., Mirror], cache: Path
) -> None:
    one = mirror()
    one.garbage = True
    with pytest.raises(DfalError, match="file of set could not be downloaded"):
        get(one.address)
    assert_there(get(one.address, mirror().address), cache)


def test_a_cache_that_cannot_be_made_is_named(mirror: Callable[..., Mirror], cache: Path) -> None:
    cache.parents[1].touch()  # a file where a folder is needed
    with pytest.raises(DfalError, match=f"{cache} cannot be made"):
        get(mirror().address)


def test_a_disk_that_is_full_is_named_and_nothing_is_left(
    mirror: Callable[..., Mirror], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DfalError, match=r"file cannot be written .No space left on device"):
        get(mirror().address)
    assert find("set", "file") is None
    assert [file.name for file in cache.iterdir()] == [
        "file.0.part"
    ]  # what has come need not come again


def test_a_disk_that_fills_up_during_the_transfer_keeps_what_has_come(
    mirror: Callable[..., Mirror], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = mirror()
    one.cut = 70_000
    with pytest.raises(DfalError):
        get(one.address)
    one.cut = None

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(urllib.request, "urlopen", full)  # as if it had been the writing
        with pytest.raises(DfalError, match=r"part cannot be written .No space left on device"):
            get(one.address)
    assert_there(get(one.address), cache)
    assert one.asked == [None, "bytes=70000-"]


def zipped(content: bytes = CONTENT, inside: str = "file.bin") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(inside, content)
    return out.getvalue()


@pytest.mark.parametrize("packed", ["", ".gz", ".zip"])
def test_without_a_published_checksum_that_of_the_first_use_is_recorded(
    mirror: Callable[..., Mirror], cache: Path, packed: str
) -> None:
    contents = {"": CONTENT, ".gz": PACKED, ".zip": zipped()}
    others = {"": CONTENT[::-1], ".gz": gzip.compress(CONTENT[::-1]), ".zip": zipped(CONTENT[::-1])}
    one = mirror(contents[packed])
    path = fetch("set", "file.bin", [one.address], packed=packed)
    assert path.read_bytes() == CONTENT
    assert one.paths == [f"/files/{'file.zip' if packed == '.zip' else 'file.bin' + packed}"]
    assert recorded("set") == {"file.bin": SHA256}
    assert (cache / "SHA256SUMS").read_text() == f"{SHA256}  file.bin\n"
    path.unlink()
    with pytest.raises(DfalError, match=f"not {SHA256[:12]} as at its first use.*SHA256SUMS"):
        fetch("set", "file.bin", [mirror(others[packed]).address], packed=packed)
    assert not path.exists()
    assert fetch("set", "file.bin", [one.address], packed=packed) == path
    assert recorded("set") == {"file.bin": SHA256}


@pytest.mark.parametrize("kind", ["no zip", "cut off", "damaged", "without the file"])
def test_an_archive_that_is_none_is_refused_and_not_kept(
    mirror: Callable[..., Mirror], cache: Path, kind: str
) -> None:
    good = zipped()
    content = {
        "no zip": b"<html>",
        "cut off": good[:90_000],
        "damaged": good[:90_000] + bytes(100) + good[90_100:],
        "without the file": zipped(inside="other.bin"),
    }[kind]
    with pytest.raises(DfalError, match=r"file\.bin of set could not be downloaded") as raised:
        fetch("set", "file.bin", [mirror(content).address], packed=".zip")
    assert "\n" not in str(raised.value)
    assert not list(cache.iterdir())


def test_a_path_inside_an_archive_leads_nowhere_else(
    mirror: Callable[..., Mirror], cache: Path
) -> None:
    path = fetch(
        "set", "file.bin", [mirror(zipped(inside="../../evil/file.bin")).address], packed=".zip"
    )
    assert path == cache / "file.bin"
    assert path.read_bytes() == CONTENT
    assert not (cache.parents[1] / "evil").exists()


def test_what_its_makers_say_of_the_packed_file_is_checked(
    mirror: Callable[..., Mirror], cache: Path
) -> None:
    right, wrong = md5(PACKED).hexdigest(), md5(b"").hexdigest()
    with pytest.raises(DfalError, match=rf"MD5 begins with {right[:12]}, not {wrong[:12]}"):
        fetch("set", "file", [mirror().address], md5=wrong)
    assert not list(cache.iterdir())
    assert fetch("set", "file", [mirror().address], md5=right).read_bytes() == CONTENT


def test_what_google_storage_says_of_a_file_is_checked(
    mirror: Callable[..., Mirror], cache: Path
) -> None:
    one = mirror()
    one.headers = [
        ("x-goog-hash", "crc32c=AAAAAA=="),
        ("x-goog-hash", "md5=" + b64encode(md5(PACKED[:-1]).digest()).decode()),
    ]
    with pytest.raises(DfalError, match="a damaged file, whose MD5"):
        get(one.address)
    assert not list(cache.iterdir())
    one.headers[1] = ("x-goog-hash", "md5=" + b64encode(md5(PACKED).digest()).decode())
    assert_there(get(one.address), cache)
