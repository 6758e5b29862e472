"""What stands before the page: who may talk to it, how much, and what a browser may do with what it
gets."""

import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dfal.labelling.web.address import PORTS, PublicAddress, client_address

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Reply = tuple[int, str, list[tuple[bytes, bytes]]]
"""A status, a sentence and headers."""

LARGEST = 64 * 1024
"""Bytes of a request."""
RATE, BURST = 1000.0, 4000.0
"""Requests a second from one address, in the long run and at once: fifty people stay far below."""
ADDRESSES = 1000
"""Addresses remembered."""
HERE = frozenset({"127.0.0.1", "localhost", "::1"})
"""Names of a page that only this machine sees. Any other is a foreign name that was bent to point
here."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src"
    " 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
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
        token: without which nobody else's machine gets anything; None where only this machine can
        ask.
        public: the address at which a reverse proxy shows the page; None without one.
        only_here: whether the page listens on this machine only; by default where there is no
        token.
    """

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        token: str | None = None,
        burst: float = BURST,
        public: PublicAddress | None = None,
        only_here: bool | None = None,
    ):
        self._app, self._token, self._burst, self._public = app, token, burst, public
        self._only_here = token is None if only_here is None else only_here
        self._prefix = public.prefix if public else ""
        self._buckets: dict[str, tuple[float, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _Headers(scope)
        reply = self._too_many(scope) or self._without_slash(scope)
        if reply is None:
            scope = self._inside(scope)
            reply = self._refused(scope, headers)
        if reply is None:
            await self._app(scope, _at_most(receive), _with_headers(send))
        else:
            await _say(send, *reply)

    def _too_many(self, scope: Scope) -> "Reply | None":
        peer = (scope.get("client") or ("",))[0]
        if self._may_go_on(
            client_address(scope["headers"], peer, behind_proxy=self._public is not None)
        ):
            return None
        return 429, "too many requests: wait a second", [(b"retry-after", b"1")]

    def _without_slash(self, scope: Scope) -> "Reply | None":
        """The page's own paths are relative: they need the slash at the end of the prefix."""
        if (
            not self._prefix
            or scope["path"] != self._prefix
            or scope["method"] not in {"GET", "HEAD"}
        ):
            return None
        query = b"?" + scope["query_string"] if scope.get("query_string") else b""
        return 307, "", [(b"location", self._prefix.encode() + b"/" + query)]

    def _refused(self, scope: Scope, headers: "_Headers") -> "Reply | None":
        """What is said to those who may not go on, and to those who come by the link with the
        token."""
        path = scope["path"].removeprefix(self._prefix)
        foreign = self._foreign(scope["method"], path, headers)
        if foreign:
            return 403, foreign, []
        query = parse_qs(scope.get("query_string", b"").decode("latin-1")) if path == "/" else {}
        given = [*query.get("token", []), *headers.cookies(_cookie(scope)), headers.bearer()]
        if self._token is not None and not any(
            hmac.compare_digest(one.encode(), self._token.encode()) for one in given
        ):
            return (
                401,
                "this page needs its link: ask whoever started it for the one with the token",
                [],
            )
        if self._token is not None and "token" in query:
            secure = "; Secure" if self._public and self._public.scheme == "https" else ""
            where = f"Path={self._prefix}/; Max-Age=31536000{secure}"
            cookie = f"{_cookie(scope)}={self._token}; HttpOnly; SameSite=Lax; {where}"
            return 303, "", [(b"location", b"./"), (b"set-cookie", cookie.encode())]
        if headers.is_larger(LARGEST):
            return 413, f"the request is larger than {LARGEST} bytes: send less", []
        return None

    def _may_go_on(self, address: str) -> bool:
        """A bucket that fills by RATE a second, up to the burst, and from which each request takes
        one."""
        now = time.monotonic()
        full, since = self._buckets.pop(address, (self._burst, now))
        full = min(self._burst, full + RATE * (now - since))
        self._buckets[address] = (max(full - 1, 0.0), now)  # the latest come last
        if len(self._buckets) > ADDRESSES:
            del self._buckets[next(iter(self._buckets))]
        return full >= 1

    def _inside(self, scope: Scope) -> Scope:
        """The same request with the prefix in its path, whether the proxy has taken it away or
        not."""
        if not self._prefix:
            return scope
        path = scope["path"]
        whole = path if path.startswith(f"{self._prefix}/") else self._prefix + path
        return {**scope, "path": whole, "root_path": self._prefix}

    def _foreign(self, method: str, path: str, headers: "_Headers") -> str:
        """Why a request comes from somewhere else than the page; empty where it does not."""
        try:
            name, port = _host(headers.only("host"))
            origin = _origin(headers.only("origin")) if headers.all("origin") else None
        except ValueError:
            return "the request names no host that could be understood"
        public = self._public
        if self._only_here and name not in HERE and (public is None or name != public.host):
            if public is None:
                return "this page answers on 127.0.0.1 only: open it there, or start it with --host"
            return f"this page answers as {public} only: let the proxy pass the visitor's Host"
        if origin is None or (
            public is not None and origin == (public.scheme, public.host, public.port)
        ):
            own = True
        else:
            # The page itself is asked, by whatever name: at its public name, only its public
            # address is its own.
            own = (
                origin[1] == name
                and origin[2] == (port or PORTS[origin[0]])
                and (public is None or name != public.host)
            )
        site = headers.only("sec-fetch-site", "none")
        opened = (
            method == "GET"
            and path == "/"
            and headers.only("sec-fetch-mode", "navigate") == "navigate"
        )
        if (site not in {"same-origin", "none"} and not opened) or not own:
            return "another site sent this request: use the page itself"
        return ""


class _Headers:
    """The headers of a request. Whatever bytes they hold, reading them does not fail."""

    def __init__(self, scope: Scope):
        self._rows = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]

    def all(self, name: str) -> list[str]:
        """Every value of this name."""
        return [value for held, value in self._rows if held == name.encode()]

    def only(self, name: str, default: str = "") -> str:
        """The value of a header that may be there once.

        Raises:
            ValueError: where it is there more often.
        """
        values = self.all(name)
        if len(values) > 1:
            raise ValueError(name)
        return values[0] if values else default

    def cookies(self, name: str) -> list[str]:
        """The values of our cookie. Other programs on this host have theirs, in any form: those are
        passed over."""
        pairs = [pair.partition("=") for header in self.all("cookie") for pair in header.split(";")]
        return [value.strip().strip('"') for key, _, value in pairs if key.strip() == name]

    def bearer(self) -> str:
        """The token in the header `authorization`."""
        scheme, _, token = " ".join(self.all("authorization")).strip().partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    def is_larger(self, limit: int) -> bool:
        """Whether the request says that it is larger, or does not say it in digits."""
        said = [value.strip() for value in self.all("content-length")]
        return any(
            not (one.isascii() and one.isdecimal()) or len(one) > 18 or int(one) > limit
            for one in said
        )


def _host(text: str) -> tuple[str, int | None]:
    """The name in small letters and the port of a header `host`."""
    parts = urlsplit(f"//{text}")
    return parts.hostname or "", parts.port


def _origin(text: str) -> tuple[str, str, int]:
    """The scheme, the name and the port of a header `origin`."""
    parts = urlsplit(text)
    if parts.scheme not in PORTS or not parts.hostname:
        return "http", "", 0  # such as null: nobody's
    return parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme]


def _cookie(scope: Scope) -> str:
    """Cookies do not know ports: two pages on one machine must not overwrite each other's."""
    return f"dfal-{(scope.get('server') or ('', 0))[1]}"


def _at_most(receive: Receive) -> Receive:
    """What is received, cut off where it is larger than it said: the application then sees a broken
    request."""
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


async def _say(send: Send, status: int, sentence: str, more: list[tuple[bytes, bytes]]) -> None:
    body = json.dumps({"detail": sentence}).encode() if sentence else b""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *more,
        *HEADERS,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
