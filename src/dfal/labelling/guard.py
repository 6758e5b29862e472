"""What stands before the page: who may talk to it, how much, and what a browser may do with what it gets."""

import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LARGEST = 64 * 1024
"""Bytes of a request."""
RATE, BURST = 1000.0, 4000.0
"""Requests a second from one address, in the long run and at once: fifty people stay far below."""
ADDRESSES = 1000
"""Addresses remembered."""
HERE = frozenset({"127.0.0.1", "localhost", "::1"})
"""Names of a page that only this machine sees. Any other is a foreign name that was bent to point here."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]


class Guard:
    """Lets requests through to an ASGI application, or answers them with a sentence.

    Args:
        app: the application.
        burst: requests that one address may send at once; it may go on with RATE a second.
        token: without which nobody else's machine gets anything; None where only this machine can ask.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], token: str | None = None, burst: float = BURST):
        self._app, self._token, self._burst = app, token, burst
        self._buckets: dict[str, tuple[float, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if not self._may_go_on((scope.get("client") or ("",))[0]):
            await _say(send, 429, "too many requests: wait a second", [(b"retry-after", b"1")])
            return
        refused = self._foreign(scope, headers)
        if refused:
            await _say(send, 403, refused)
            return
        given = self._given(scope, headers)
        if self._token is not None and not any(hmac.compare_digest(one.encode(), self._token.encode()) for one in given):
            await _say(send, 401, "this page needs its link: ask whoever started it for the one with the token")
            return
        if self._token is not None and scope["path"] == "/" and b"token=" in scope.get("query_string", b""):
            cookie = f"{_cookie(scope)}={self._token}; HttpOnly; SameSite=Lax; Path=/; Max-Age=31536000"
            await _say(send, 303, "", [(b"location", b"/"), (b"set-cookie", cookie.encode())])
            return
        if int(headers.get("content-length") or 0) > LARGEST if headers.get("content-length", "0").isdecimal() else True:
            await _say(send, 413, f"the request is larger than {LARGEST} bytes: send less")
            return
        await self._app(scope, _at_most(receive), _with_headers(send))

    def _may_go_on(self, address: str) -> bool:
        """A bucket that fills by RATE a second, up to the burst, and from which each request takes one."""
        now = time.monotonic()
        full, since = self._buckets.pop(address, (self._burst, now))
        full = min(self._burst, full + RATE * (now - since))
        self._buckets[address] = (max(full - 1, 0.0), now)  # the latest come last
        if len(self._buckets) > ADDRESSES:
            del self._buckets[next(iter(self._buckets))]
        return full >= 1

    def _foreign(self, scope: Scope, headers: dict[str, str]) -> str:
        """Why a request comes from somewhere else than the page; empty where it does not."""
        host = headers.get("host", "")
        try:
            name = urlsplit(f"//{host}").hostname
            origin = urlsplit(headers["origin"]).netloc if "origin" in headers else host
        except ValueError:
            return "the request names no host that could be understood"
        if self._token is None and name not in HERE:
            return "this page answers on 127.0.0.1 only: open it there, or start it with --host"
        site = headers.get("sec-fetch-site", "none")
        opened = scope["method"] == "GET" and scope["path"] == "/" and headers.get("sec-fetch-mode", "navigate") == "navigate"
        if (site not in {"same-origin", "none"} and not opened) or origin != host:
            return "another site sent this request: use the page itself"
        return ""

    def _given(self, scope: Scope, headers: dict[str, str]) -> list[str]:
        """The tokens that a request brings: in its link, its cookie, or its header."""
        query = parse_qs(scope.get("query_string", b"").decode("latin-1")) if scope["path"] == "/" else {}
        try:
            cookies: SimpleCookie | dict[str, Any] = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            cookies = {}
        kept = cookies.get(_cookie(scope))
        return [
            *query.get("token", []),
            *([kept.value] if kept else []),
            headers.get("authorization", "").removeprefix("Bearer "),
        ]


def _cookie(scope: Scope) -> str:
    """Cookies do not know ports: two pages on one machine must not overwrite each other's."""
    return f"dfal-{(scope.get('server') or ('', 0))[1]}"


def _at_most(receive: Receive) -> Receive:
    """What is received, cut off where it is larger than it said: the application then sees a broken request."""
    so_far = 0

    async def counted() -> Message:
        nonlocal so_far
        message = await receive()
        so_far += len(message.get("body", b""))
        return message if so_far <= LARGEST else {"type": "http.disconnect"}

    return counted


def _with_headers(send: Send) -> Send:
    async def added(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
        await send(message)

    return added


async def _say(send: Send, status: int, sentence: str, more: list[tuple[bytes, bytes]] | None = None) -> None:
    body = f'{{"detail": "{sentence}"}}'.encode() if sentence else b""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *(more or []), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
