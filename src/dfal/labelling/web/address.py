"""The public address of a page behind a reverse proxy, and whose address a request comes from."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from dfal.errors import DfalError

Headers = Iterable[tuple[bytes, bytes]]

PORTS = {"http": 80, "https": 443}
"""Default port of each scheme."""


@dataclass(frozen=True)
class PublicAddress:
    """Where visitors find a page that a reverse proxy passes on.

    Attributes:
        scheme: "http" or "https".
        host: the name or address, in small letters and without brackets.
        port: its own or the scheme's.
        prefix: the path before the page's own paths, without a slash at its end; empty where there
        is none.
    """

    scheme: str
    host: str
    port: int
    prefix: str

    @classmethod
    def of(cls, text: str) -> "PublicAddress":
        """Read an address such as https://labels.example.org/photos/.

        Raises:
            DfalError: if it is not an address that visitors can use.
        """
        cure = "give one such as https://labels.example.org/photos/"
        if re.search(r"[\s\x00-\x1f\x7f\\\"<>]", text):
            raise DfalError(f"--url {text!r} has a character that no address has: {cure}")
        try:
            parts = urlsplit(text)
            host = (
                (parts.hostname or "")
                .encode("ascii" if ":" in (parts.hostname or "") else "idna")
                .decode()
            )
            port = parts.port
        except ValueError:
            raise DfalError(f"--url {text!r} is not an address: {cure}") from None
        if parts.scheme not in PORTS or not host:
            raise DfalError(
                f"--url {text!r} is not an address that begins with http:// or https://: {cure}"
            )
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise DfalError(
                f"--url {text!r} may have a scheme, a host, a port and a path only: {cure}"
            )
        prefix = "/".join(["", *(part for part in parts.path.split("/") if part)])
        if "/." in prefix or ";" in prefix or "%" in prefix:
            raise DfalError(
                f"--url {text!r} has a path that proxies change: use letters, digits and dashes"
            )
        if prefix == "/api" or prefix.startswith("/api/"):
            raise DfalError(
                f"--url {text!r} has a path that the page uses itself: give another than /api"
            )
        return cls(parts.scheme, host.lower(), port or PORTS[parts.scheme], prefix)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{quote(self.prefix)}/"


def is_near(address: str) -> bool:
    """Return whether an address belongs to this machine or a private network, as a proxy's may."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None) or parsed
    return bool(mapped.is_loopback or mapped.is_private)


def client_address(headers: Headers, peer: str, *, behind_proxy: bool) -> str:
    """Return the address of the client that sent a request.

    A proxy appends its client's address to `X-Forwarded-For`: only the last one can be trusted.

    Args:
        headers: of the request.
        peer: the other end of the connection.
        behind_proxy: whether a proxy is expected. Without one, and for peers far away, the header
        is what anybody wrote.
    """
    if not behind_proxy or not is_near(peer):
        return peer
    named = [value for name, value in headers if name == b"x-forwarded-for"]
    last = b",".join(named).rpartition(b",")[2].strip().decode("latin-1")
    if (bracketed := re.fullmatch(r"\[(.*)\](:\d+)?", last)) or (
        bracketed := re.fullmatch(r"([\d.]+)(:\d+)?", last)
    ):
        last = bracketed[1]
    try:
        return str(ipaddress.ip_address(last))
    except ValueError:
        return peer
