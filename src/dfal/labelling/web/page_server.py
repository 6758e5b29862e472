"""The server of the page, and the training process that it keeps alive."""

import os
import secrets
import signal
import socket
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvicorn

from dfal.errors import DfalError
from dfal.labelling.learning import final_process
from dfal.labelling.learning.training_process import TrainerStatus, work
from dfal.labelling.photos import Photos
from dfal.labelling.store.session import Session
from dfal.labelling.web.address import PublicAddress
from dfal.labelling.web.api import application
from dfal.labelling.web.connections import Connection, Connections, raise_descriptor_limit
from dfal.labelling.web.final_model import FinalModel
from dfal.labelling.web.security import HERE, MAX_REQUEST_BYTES, Guard
from dfal.processes import start_worker

PORT = 8765
"""Default port, unless it is taken."""
MAX_RESTART_PAUSE = 60.0
"""Seconds, at most, until a training process that died is started again."""


class TrainerProcess(threading.Thread):
    """Keep a training process alive.

    When it dies, the page says so, labelling continues, and another one is started.

    Attributes:
        status: what it does.
    """

    def __init__(self, store: Path, session: Session):
        super().__init__(name="training", daemon=True)
        self.status = TrainerStatus()
        self._store, self._session = store, session
        self._stopped = threading.Event()

    def run(self) -> None:
        with suppress(DfalError):
            self._session.model_outputs.add_error("")  # what went wrong before may go well now
        pause = 1.0
        while not self._stopped.is_set():
            began, code = time.monotonic(), self._run_once()
            if self._stopped.is_set():
                return
            pause = (
                1.0
                if time.monotonic() - began > MAX_RESTART_PAUSE
                else min(2 * pause, MAX_RESTART_PAUSE)
            )
            how = (
                f"by signal {-code}, perhaps for want of memory"
                if code < 0
                else f"with code {code}"
            )
            with suppress(DfalError):
                self._session.model_outputs.add_error(
                    f"the training process ended {how}; it is started again"
                )
            self._stopped.wait(pause)

    def _run_once(self) -> int:
        """Run one training process until it ends, and return its exit code."""
        self.status = TrainerStatus("starting")
        worker, pipe = start_worker(work, self._store)
        with suppress(EOFError, OSError):
            while not self._stopped.is_set():
                if pipe.poll(0.2):
                    self.status = pipe.recv()
        self.status = TrainerStatus()
        pipe.close()
        if self._stopped.is_set():
            # nothing of it can be half done: the store has transactions, the network's file is
            # moved into place
            worker.kill()
        worker.join()
        return worker.exitcode or 0

    def stop(self) -> None:
        """End the training process."""
        self._stopped.set()
        if self.ident is not None:  # it was started
            self.join(5)


class PageServer:
    """The page's server, bound to its port.

    Args:
        session: over the store; no other page may be.
        photos: its images.
        store: the file.
        host: address to listen on. Any but this machine's own requires a token.
        listening: a socket bound to that host.
        public: address at which a reverse proxy shows the page. It requires a token on any host,
            since all requests come from the proxy.

    Raises:
        DfalError: if another page is open over the store.
    """

    def __init__(
        self,
        session: Session,
        photos: Photos,
        store: Path,
        host: str,
        listening: socket.socket,
        *,
        public: PublicAddress | None = None,
    ):
        self._socket = listening
        self.token = None if host in HERE and public is None else _token(store)
        name = f"[{host}]" if ":" in host else host
        shown = _address() if name in {"0.0.0.0", "[::]"} else name  # noqa: S104
        port = self._socket.getsockname()[1]
        base = f"http://{shown}:{port}/" if public is None else str(public)
        self.url = base + (f"?token={self.token}" if self.token else "")
        session.claim_page(self.url)
        self._training = TrainerProcess(store, session)
        self._final = FinalModel(partial(final_process.start, store))
        app = application(
            session, photos, lambda: self._training.status, self._final, here=self.token is None
        )
        guard = Guard(app, self.token, public=public, only_here=host in HERE)
        connections = Connections(behind_proxy=public is not None)
        self._server = uvicorn.Server(
            uvicorn.Config(
                guard,
                http=cast(Any, partial(Connection, connections)),
                # cookies of other programs come along
                h11_max_incomplete_event_size=MAX_REQUEST_BYTES,
                ws="none",
                proxy_headers=False,  # uvicorn would believe everybody on this machine
                log_level="error",
                lifespan="off",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=2,
            )
        )

    def run(self) -> None:
        """Serve the page until Ctrl-C or SIGTERM."""
        raise_descriptor_limit()
        # The server ends at once when it is told to end, and then tells us, by the signal that it
        # was told by.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            # From here on what is started is ended, whenever the signal comes.
            self._training.start()
            self._server.run(sockets=[self._socket])
        finally:
            signal.signal(signal.SIGTERM, before)
            self._training.stop()
            self._final.cancel()
            self._socket.close()


def _token(store: Path) -> str:
    """Return the token in the file next to a store, which is made if there is none.

    Links that were handed out stay valid as long as the file exists.

    Raises:
        DfalError: if the file cannot be read or written, or holds no token.
    """
    path = store.with_name(f".{store.name}.token")
    try:
        with (
            suppress(FileExistsError),
            os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file,
        ):
            file.write(secrets.token_urlsafe(24))
        token = path.read_text().strip()
    except OSError as error:
        raise DfalError(
            f"the token {path} cannot be written or read ({error.strerror}): see to it that it can"
        ) from None
    if len(token) < 32:
        raise DfalError(
            f"the token {path} is too short to be a secret: delete it, and a new one is made"
        )
    return token


def _address() -> str:
    """Return this machine's address in its network, or its name if that is unknown."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])
    return socket.gethostname()


def bound(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens on a port.

    Args:
        host: address to listen on.
        port: None for PORT or, if that is taken, any free port.

    Raises:
        DfalError: if the port cannot be bound.
    """
    wanted = [PORT, 0] if port is None else [port]
    reason = ""
    for number in wanted:
        listening: socket.socket | None = None
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, number, type=socket.SOCK_STREAM
            )[0]
            listening = socket.socket(family, kind, protocol)
            # Windows lets a second program take a port that is marked so: there it must be marked
            # as taken.
            option = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
            listening.setsockopt(socket.SOL_SOCKET, option, 1)
            listening.bind(address)
            # From now on a request waits for the page, and no second page takes the port.
            listening.listen()
        except OSError as error:
            reason = error.strerror or str(error)
            if listening is not None:
                listening.close()
            continue
        return listening
    raise DfalError(
        f"the page cannot be opened on {host}, port {wanted[0]} ({reason}): give another --host or"
        " --port"
    )
