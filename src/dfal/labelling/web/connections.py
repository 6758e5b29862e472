"""Limits for connections: time to send a request or read a reply, and number per address."""

import asyncio
import time
from collections import defaultdict
from contextlib import suppress
from typing import Any

from h11 import IDLE, SEND_BODY
from uvicorn.protocols.http.h11_impl import H11Protocol

from dfal.labelling.web.address import is_near

REQUEST_SECONDS = 20.0
"""Seconds in which a whole request must arrive."""
STALLED_SECONDS = 120.0
"""Seconds that a reply may wait to be read."""
MAX_WAITING = 100
"""Connections of one address that have sent no whole request yet. Beyond them the oldest are
closed."""
GRACE_SECONDS = 1.0
"""Seconds that a new connection has before it can be closed for that."""
MAX_CONNECTIONS = 600
"""Connections of one address: fifty browsers behind one router have six each."""
DESCRIPTORS = 8192
"""Open files that this process asks the system for."""


class Connections:
    """The open connections of a page, by address.

    Args:
        behind_proxy: whether near addresses are proxies, whose connections are those of many
        people.
    """

    def __init__(self, *, behind_proxy: bool = False):
        self._behind_proxy = behind_proxy
        self._open: dict[str, int] = defaultdict(int)
        self._waiting: dict[str, dict[Connection, float]] = defaultdict(dict)

    def add(self, connection: "Connection") -> bool:
        """Take a new connection, or return False where its address has too many."""
        address = connection.address
        self._open[address] += 1
        self._close_oldest(address)
        unlimited = self._behind_proxy and is_near(address)
        return unlimited or self._open[address] <= MAX_CONNECTIONS

    def remove(self, connection: "Connection") -> None:
        """Forget a connection that is closed."""
        self.set_waiting(connection, False)
        self._open[connection.address] -= 1
        if not self._open[connection.address]:
            del self._open[connection.address]

    def set_waiting(self, connection: "Connection", waiting: bool) -> None:
        """Say whether a connection has begun a request that is not all here."""
        address = connection.address
        if waiting:
            self._waiting[address].setdefault(connection, time.monotonic())
        elif address in self._waiting:
            self._waiting[address].pop(connection, None)
            if not self._waiting[address]:
                del self._waiting[address]

    def _close_oldest(self, address: str) -> None:
        waiting = self._waiting.get(address, {})
        now = time.monotonic()
        for connection, since in list(waiting.items())[: max(0, len(waiting) - MAX_WAITING)]:
            if now - since >= GRACE_SECONDS:
                connection.drop()


class Connection(H11Protocol):
    """A connection that is closed when its request or the reading of its reply stalls."""

    address = ""

    def __init__(self, connections: Connections, **uvicorn: Any):
        super().__init__(**uvicorn)
        self._all = connections
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the time limit of the first request."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        if not self._all.add(self):
            self.drop()
            return
        self._update_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        for timer in (self._deadline, self._stalled):
            if timer is not None:
                timer.cancel()
        self._all.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Process received data, and end the time limit when the request is complete."""
        super().data_received(data)
        self._update_deadline()

    def pause_writing(self) -> None:
        """Start the time limit for reading the reply."""
        super().pause_writing()
        if self._stalled is None:
            self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """End the time limit for reading the reply."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def drop(self) -> None:
        """Close at once, without sending what is pending."""
        self.transport.abort()

    def _update_deadline(self) -> None:
        """Start or end the time limit of a request, which single bytes do not extend.

        A connection whose request was answered is not looked at: it is closed by uvicorn's own
        limit, unless it sends more.
        """
        state = self.conn.their_state
        if state not in {IDLE, SEND_BODY} or self.transport.is_closing():
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None
            self._all.set_waiting(self, False)
        elif self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self.drop)
            self._all.set_waiting(self, True)

    def _watch(self, left: int) -> None:
        self._stalled = self.loop.call_later(STALLED_SECONDS, self._drop_if_stalled, left)

    def _drop_if_stalled(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left >= before:
            self.drop()
        else:
            self._watch(left)


def raise_descriptor_limit(wanted: int = DESCRIPTORS) -> None:
    """Let this process open more files than the system gives by default: on some that is 256."""
    with suppress(ImportError, ValueError, OSError):
        import resource  # Windows has none

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
