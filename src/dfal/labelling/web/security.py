"""Access control of the page: tokens, origins, rates, sizes, and headers for browsers."""

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

MAX_REQUEST_BYTES = 64 * 1024
"""Bytes of the body of a request, at most."""
RATE, BURST = 1000.0, 4000.0
"""Requests from one address: per second in the long run, and at once."""
MAX_ADDRESSES = 1000
"""Addresses whose requests are counted."""
HERE = frozenset({"127.0.0.1", "localhost", "::1"})
"""Hosts of a page that only this machine sees. Any other name was made to point here by DNS."""

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
    """Pass requests on to an ASGI application, or refuse them with a sentence.

    Args:
        app: the application.
        burst: requests that one address may send at once; after that RATE per second.
        token: that every request needs; None if only this machine can connect.
        public: address at which a reverse proxy shows the page; None without one.
        only_here: whether the page listens on this machine only; by default if there is no token.
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
        if self._is_within_rate(
            client_address(scope["headers"], peer, behind_proxy=self._public is not None)
        ):
            return None
        return 429, "too many requests: wait a second", [(b"retry-after", b"1")]

    def _without_slash(self, scope: Scope) -> "Reply | None":
        """Redirect to the prefix with a slash at its end, which the page's relative paths need."""
        if (
            not self._prefix
            or scope["path"] != self._prefix
            or scope["method"] not in {"GET", "HEAD"}
        ):
            return None
        query = b"?" + scope["query_string"] if scope.get("query_string") else b""
        return 307, "", [(b"location", self._prefix.encode() + b"/" + query)]

    def _refused(self, scope: Scope, headers: "_Headers") -> "Reply | None":
        """Return the reply to a request that is refused, or that brings the token in its link."""
        path = scope["path"].removeprefix(self._prefix)
        foreign = self._foreign(scope["method"], path, headers)
        if foreign:
            return 403, foreign, []
        query = parse_qs(scope.get("query_string", b"").decode("latin-1")) if path == "/" else {}
        tokens = [*query.get("token", []), *headers.cookies(_cookie(scope)), headers.bearer()]
        if self._token is not None and not any(
            hmac.compare_digest(token.encode(), self._token.encode()) for token in tokens
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
        if headers.is_larger(MAX_REQUEST_BYTES):
            return 413, f"the request is larger than {MAX_REQUEST_BYTES} bytes: send less", []
        return None

    def _is_within_rate(self, address: str) -> bool:
        """Take a token from an address's bucket, which fills by RATE per second up to the burst."""
        now = time.monotonic()
        full, since = self._buckets.pop(address, (self._burst, now))
        full = min(self._burst, full + RATE * (now - since))
        self._buckets[address] = (max(full - 1, 0.0), now)  # the latest come last
        if len(self._buckets) > MAX_ADDRESSES:
            del self._buckets[next(iter(self._buckets))]
        return full >= 1

    def _inside(self, scope: Scope) -> Scope:
        """Return the request with the prefix in its path, which the proxy may have removed."""
        if not self._prefix:
            return scope
        path = scope["path"]
        whole = path if path.startswith(f"{self._prefix}/") else self._prefix + path
        return {**scope, "path": whole, "root_path": self._prefix}

    def _foreign(self, method: str, path: str, headers: "_Headers") -> str:
        """Return why a request does not come from the page; empty if it does."""
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
    """The headers of a request. Reading them never fails, whatever bytes they contain."""

    def __init__(self, scope: Scope):
        self._rows = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]

    def all(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for header, value in self._rows if header == name.encode()]

    def only(self, name: str, default: str = "") -> str:
        """Return the value of a header that may occur once.

        Raises:
            ValueError: if it occurs more often.
        """
        values = self.all(name)
        if len(values) > 1:
            raise ValueError(name)
        return values[0] if values else default

    def cookies(self, name: str) -> list[str]:
        """Return the values of a cookie. Cookies of other programs on this host are ignored."""
        pairs = [pair.partition("=") for header in self.all("cookie") for pair in header.split(";")]
        return [value.strip().strip('"') for key, _, value in pairs if key.strip() == name]

    def bearer(self) -> str:
        """Return the token in the header `authorization`."""
        scheme, _, token = " ".join(self.all("authorization")).strip().partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    def is_larger(self, limit: int) -> bool:
        """Return whether the request declares more than `limit` bytes, or no valid length."""
        lengths = [value.strip() for value in self.all("content-length")]
        return any(
            not (text.isascii() and text.isdecimal()) or len(text) > 18 or int(text) > limit
            for text in lengths
        )


def _host(text: str) -> tuple[str, int | None]:
    """Return the name, in lower case, and the port of a header `host`."""
    parts = urlsplit(f"//{text}")
    return parts.hostname or "", parts.port


def _origin(text: str) -> tuple[str, str, int]:
    """Return the scheme, the name and the port of a header `origin`."""
    parts = urlsplit(text)
    if parts.scheme not in PORTS or not parts.hostname:
        return "http", "", 0  # such as null: nobody's
    return parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme]


def _cookie(scope: Scope) -> str:
    """Return the name of the token's cookie. It has the port in it, since cookies ignore ports."""
    return f"dfal-{(scope.get('server') or ('', 0))[1]}"


def _at_most(receive: Receive) -> Receive:
    """Limit what the application receives: a body that is too large looks like a disconnect."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        return message if received <= MAX_REQUEST_BYTES else {"type": "http.disconnect"}

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
