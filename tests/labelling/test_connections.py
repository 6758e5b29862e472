"""Connections that do not go on, public addresses, and systems that lack what POSIX has."""

import asyncio
import contextlib
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from dfal.data.datasets import Dataset
from dfal.errors import DfalError
from dfal.labelling.web.address import PublicAddress, client_address
from labelled import DIGITS, Served, some_pngs

pytest.importorskip("fastapi", reason="the page is an extra: pip install 'dfal[label]'")

import uvicorn

from dfal.labelling.web import connections, page_server
from dfal.labelling.web.connections import Connection, Connections, raise_descriptor_limit
from dfal.labelling.web.security import Guard

WAIT = 30
"""Seconds until a test gives up: what it waits for comes long before."""


async def page(scope: Any, receive: Any, send: Any) -> None:
    """Says its path; under /large much more than a socket takes."""
    body = bytes(64 * 2**20) if scope["path"] == "/large" else scope["path"].encode()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})


class Running:
    """A server in a thread of its own."""

    def __init__(self, app: Any, behind_proxy: bool = False):
        self.all = Connections(behind_proxy=behind_proxy)
        self.socket = socket.create_server(("127.0.0.1", 0))
        made: Any = partial(Connection, self.all)
        config = uvicorn.Config(
            app, http=made, ws="none", proxy_headers=False, lifespan="off", log_level="critical"
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],))
        self.thread.start()

    def connect(self, sent: bytes = b"") -> socket.socket:
        """A connection that has sent this."""
        made = socket.create_connection(self.socket.getsockname(), timeout=WAIT)
        made.sendall(sent)
        return made

    def get(self, path: str = "/") -> bytes:
        """The whole reply to somebody else."""
        with self.connect(
            f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()
        ) as asking:
            return read_all(asking)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(WAIT)
        self.socket.close()


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side closes; a connection that it does not close raises
    TimeoutError."""
    found = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(2**20):
            found.append(part)
    return b"".join(found)


def read_reply(connection: socket.socket) -> bytes:
    """The body of one reply; the connection stays."""
    with connection.makefile("rb") as file:
        length = 0
        while (line := file.readline()) not in {b"\r\n", b""}:
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return file.read(length)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(connections, "STALLED_SECONDS", 0.3)
    monkeypatch.setattr(connections, "GRACE_SECONDS", 0.0)


@pytest.fixture
def running() -> Iterator[Running]:
    server = Running(page)
    yield server
    server.stop()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: h\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n12",
    ],
)
def test_a_request_that_does_not_end_is_closed(quick: None, running: Running, sent: bytes) -> None:
    with running.connect(sent) as slow:
        read_all(slow)


def test_a_second_request_that_does_not_end_is_closed(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running.connect(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHo") as slow:
        assert read_reply(slow) == b"/a"
        monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.1)
        slow.sendall(b"st: h\r\n")
        assert read_all(slow) == b""


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: h\r\nX: ",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999\r\n\r\n",
    ],
)
def test_single_bytes_do_not_extend_the_time(quick: None, running: Running, head: bytes) -> None:
    closed = threading.Event()
    with running.connect(head) as slow:
        slow.settimeout(0.05)
        until = time.monotonic() + WAIT
        while time.monotonic() < until and not closed.is_set():
            with contextlib.suppress(TimeoutError):
                try:
                    slow.sendall(b"x")
                    if slow.recv(100) == b"":
                        closed.set()
                except (BrokenPipeError, ConnectionResetError):
                    closed.set()
    assert closed.is_set()


def test_a_body_that_nobody_reads_ends_too(quick: None) -> None:
    running = Running(Guard(page, token="s3cret"))
    with running.connect(
        b"POST /api/ask HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n12"
    ) as slow:
        assert read_all(slow).startswith(b"HTTP/1.1 401")
    running.stop()


def test_a_reply_that_nobody_reads_is_dropped_and_one_that_is_read_slowly_is_not(
    quick: None, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[str] = []
    drop = Connection.drop

    def noted(self: Connection) -> None:
        dropped.append(self.cycle.scope["path"])
        drop(self)

    monkeypatch.setattr(Connection, "drop", noted)
    with running.connect(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n") as deaf:
        until = time.monotonic() + WAIT
        while not dropped and time.monotonic() < until:
            time.sleep(0.02)
        assert dropped == ["/large"]
        assert len(read_all(deaf)) < 64 * 2**20
    monkeypatch.setattr(connections, "STALLED_SECONDS", 5.0)
    assert len(running.get("/large")) > 64 * 2**20


def test_whole_requests_keep_their_connection(running: Running) -> None:
    """No time limit goes on from one request to the next."""
    with running.connect() as steady:
        for number in range(5):
            steady.sendall(f"GET /{number} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            assert read_reply(steady) == f"/{number}".encode()
            (connection,) = running.server.server_state.connections
            assert isinstance(connection, Connection)
            assert connection._deadline is None
            assert not running.all._waiting


def test_the_oldest_that_wait_are_closed_and_others_are_not(
    quick: None, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", WAIT)
    monkeypatch.setattr(connections, "MAX_WAITING", 5)
    with contextlib.ExitStack() as opened:
        busy = [
            opened.enter_context(running.connect(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"))
            for _ in range(2)
        ]
        for one in busy:
            assert read_reply(one) == b"/a"
        waiting = [opened.enter_context(running.connect(b"GET")) for _ in range(5)]
        assert running.get().endswith(b"/")  # the sixth that waits, though it has not for long
        waiting += [opened.enter_context(running.connect(b"GET")) for _ in range(20)]
        assert running.get().endswith(b"/")
        for one in waiting[:19]:
            assert read_all(one) == b""
        for one in busy:
            one.sendall(b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
            assert read_reply(one) == b"/b"
        assert running.get().endswith(b"/")
    running.stop()
    assert not running.all._open
    assert not running.all._waiting


@pytest.mark.parametrize(
    ("behind_proxy", "peer", "limited"),
    [(False, "127.0.0.1", True), (True, "127.0.0.1", False), (True, "8.8.8.8", True)],
)
def test_one_address_has_a_number_of_connections_and_a_proxy_more(
    behind_proxy: bool, peer: str, limited: bool
) -> None:
    class Fake:
        address = peer

    every: Any = Connections(behind_proxy=behind_proxy)
    made = [Fake() for _ in range(2 * connections.MAX_CONNECTIONS)]
    taken = [every.add(one) for one in made]
    assert taken.count(True) == (connections.MAX_CONNECTIONS if limited else len(made))
    for one in made:
        every.remove(one)
    assert every.add(Fake())
    assert connections.MAX_CONNECTIONS >= 50 * 6, "fifty browsers behind one router"


def test_300_half_open_connections_and_a_new_visitor(tmp_path: Path, digits: Dataset) -> None:
    some_pngs(tmp_path / "photos", digits, 12)
    served = Served(tmp_path / "photos", "--classes", *DIGITS)
    try:
        limits = Path(f"/proc/{served.process.pid}/limits").read_text()
        (files,) = [
            line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files")
        ]
        assert files[0] == files[1] or int(files[0]) >= connections.DESCRIPTORS
        with contextlib.ExitStack() as opened:
            for _ in range(300):
                half = opened.enter_context(
                    socket.create_connection(("127.0.0.1", served.port), timeout=WAIT)
                )
                half.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            with httpx.Client(base_url=served.url, timeout=WAIT) as visitor:
                assert visitor.get("/").status_code == 200
                asked = visitor.post("/api/ask", json={"person": "ann", "holder": "h", "count": 1})
                assert len(asked.json()["questions"]) == 1
    finally:
        out = served.stop()
    assert "Traceback" not in out


def test_the_limit_of_open_files_is_raised_and_never_lowered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: said.append(both))
    for soft, hard in [
        (256, 1024),
        (256, resource.RLIM_INFINITY),
        (10_000, 20_000),
        (resource.RLIM_INFINITY,) * 2,
        (500, 500),
    ]:
        monkeypatch.setattr(resource, "getrlimit", lambda _, both=(soft, hard): both)
        raise_descriptor_limit(8192)
    assert said == [(1024, 1024), (8192, resource.RLIM_INFINITY)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://labels.example.org/photos/", "https://labels.example.org/photos/"),
        ("https://Labels.Example.org/photos", "https://labels.example.org/photos/"),
        ("https://labels.example.org:443//a//b", "https://labels.example.org/a/b/"),
        ("http://labels.example.org:8080", "http://labels.example.org:8080/"),
        ("http://[::1]:80/", "http://[::1]/"),
        ("https://bücher.example", "https://xn--bcher-kva.example/"),
    ],
)
def test_public_addresses(text: str, shown: str) -> None:
    assert str(PublicAddress.of(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "labels.example.org",
            "ftp://a/",
            "https://",
            "https://a/?b",
            "https://a/#b",
            "https://me:pw@a/",
            "https://a:99999/",
        ),
        *(
            "https://a b/",
            "https://a/\r\nX: y",
            "https://[::1",
            "https://a/../b",
            "https://a/api/",
            "https://a/%2e/",
        ),
        *('https://a/"/', "https://a/;c"),
    ],
)
def test_what_is_no_public_address_is_a_sentence(text: str) -> None:
    with pytest.raises(DfalError, match=r"^--url"):
        PublicAddress.of(text)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", ["10.1.1.1, 203.0.113.7"], "203.0.113.7"),
        ("127.0.0.1", ["10.1.1.1", "203.0.113.7"], "203.0.113.7"),
        ("::1", ["2001:db8::7"], "2001:db8::7"),
        ("172.17.0.2", ["[2001:db8::7]:99"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["203.0.113.7:80"], "203.0.113.7"),
        ("127.0.0.1", ["unknown"], "127.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", ["\xff"], "127.0.0.1"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("8.8.8.8", ["203.0.113.7"], "8.8.8.8"),
        ("", ["203.0.113.7"], ""),
    ],
)
def test_whose_request_it_is(peer: str, forwarded: list[str], client: str) -> None:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    assert client_address(headers, peer, behind_proxy=True) == client
    assert client_address(headers, peer, behind_proxy=False) == peer


def test_the_limit_of_requests_is_each_visitors_own_behind_a_proxy_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dfal.labelling.web.security.RATE", 0.0)

    def codes(guarded: Guard) -> list[int]:
        found: list[int] = []
        for visitor in ["203.0.113.1"] * 3 + ["203.0.113.2"] * 3:
            headers = {
                "host": "127.0.0.1",
                "x-forwarded-for": visitor,
                "authorization": "Bearer s3cret",
            }
            scope: Any = {
                **{
                    "type": "http",
                    "method": "GET",
                    "path": "/",
                    "query_string": b"",
                    "server": ("", 1),
                },
                **{
                    "client": ("127.0.0.1", 1),
                    "headers": [(a.encode(), b.encode()) for a, b in headers.items()],
                },
            }

            async def send(message: Any) -> None:
                found.extend([message["status"]] if "status" in message else [])

            asyncio.run(guarded(scope, lambda: None, send))  # type: ignore[arg-type, return-value]
        return found

    public = PublicAddress.of("https://labels.example.org/")
    assert codes(Guard(page, "s3cret", burst=2, public=public)) == [200, 200, 429, 200, 200, 429]
    assert codes(Guard(page, "s3cret", burst=2)) == [200, 200, 429, 429, 429, 429]


LACKING = """
import importlib, os, pkgutil, signal, sys
import torch, numpy, scipy.stats, sklearn, matplotlib.pyplot, PIL.Image, uvicorn, fastapi, h11
import asyncio, multiprocessing.spawn, rich.console, click, jinja2, filelock, platformdirs
import webbrowser, getpass, sqlite3, safetensors
class Windows:
    names = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "_posixsubprocess", "_posixshmem"}
    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
for name in Windows.names:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Windows())
for name in ("nice", "sched_getaffinity", "fork", "killpg", "getuid", "geteuid"):
    delattr(os, name)
for name in ("pthread_sigmask", "SIGKILL", "SIGHUP", "SIGCHLD"):
    delattr(signal, name)
names = {"USER", "LOGNAME", "LNAME", "USERNAME"}
os.environ = {key: value for key, value in os.environ.items() if key not in names}
getpass.os = os
import dfal
for found in pkgutil.walk_packages(dfal.__path__, "dfal."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
from dfal import processes
from dfal.labelling.store import session
from dfal.labelling.web import connections, page_server
assert processes.available_cores() >= 1
assert session._user() == "me"
connections.raise_descriptor_limit()
page_server.bound("127.0.0.1", None).close()
print("all is imported")
"""


def test_everything_is_imported_without_what_windows_lacks() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LACKING],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ,
    )
    assert ran.stdout.endswith("all is imported\n"), ran.stderr


def test_a_port_is_not_shared_where_the_system_would_let_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options: list[int] = []
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", -5, raising=False)
    monkeypatch.setattr(
        socket.socket, "setsockopt", lambda _, level, option, value: options.append(option)
    )
    page_server.bound("127.0.0.1", None).close()
    assert set(options) == {-5}


def test_a_port_is_taken_before_the_page_answers() -> None:
    with page_server.bound("127.0.0.1", None) as listening:
        address = listening.getsockname()
        with socket.create_connection(address, timeout=5), pytest.raises(DfalError, match="port"):
            page_server.bound(*address)
