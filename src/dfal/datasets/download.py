"""Files from their official addresses: with progress, resumed where a transfer broke, and trusted only by checksum."""

import gzip
import hashlib
import http.client
import os
import urllib.error
import urllib.request
import zlib
from pathlib import Path

import platformdirs
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from dfal.types import DfalError

TIMEOUT = 30
"""Seconds without a byte before a mirror is given up."""


def folders(name: str) -> list[Path]:
    """Where the files of a data set may lie: `DFAL_DATA/name`, then `name` in the user's cache, where downloads go."""
    cache = Path(platformdirs.user_cache_dir("dfal")) / name
    named = os.environ.get("DFAL_DATA")
    return [Path(named) / name, cache] if named else [cache]


def find(name: str, file: str) -> Path | None:
    """The file, or the file compressed by gzip, in one of the `folders`."""
    for folder in folders(name):
        for path in (folder / file, folder / f"{file}.gz"):
            if path.is_file():
                return path
    return None


def verify(content: bytes | memoryview, sha256: str, path: Path) -> None:
    """Raise unless the content has this SHA-256."""
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DfalError(
            f"{path} is damaged or another file: SHA-256 begins with {found[:12]}, not {sha256[:12]}; delete it and try again"
        )


def fetch(name: str, file: str, mirrors: list[str], sha256: str) -> Path:
    """Download `file`.gz from the first mirror that has it, unpack and verify it, and keep it in the user's cache.

    Args:
        mirrors: addresses of folders, tried in order.
        sha256: of the unpacked file.

    Raises:
        DfalError: where no mirror can be reached, or none sends what has the checksum. Only the part of a transfer that broke
            off is kept then: the next call goes on from there.
    """
    target = folders(name)[-1] / file
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DfalError(f"the cache folder {target.parent} cannot be made ({error.strerror}): make it writable") from None
    # One part for each mirror, because mirrors compress differently.
    parts = {mirror: target.with_name(f"{file}.{number}.part") for number, mirror in enumerate(mirrors)}
    errors = []
    for mirror, part in parts.items():
        try:
            _transfer(f"{mirror}/{file}.gz", part)
            content = gzip.decompress(part.read_bytes())
        except (OSError, EOFError, zlib.error, http.client.HTTPException) as error:
            errors.append(f"{mirror}: {getattr(error, 'reason', None) or error}")
            if not isinstance(error, urllib.error.URLError | TimeoutError | ConnectionError | http.client.HTTPException):
                part.unlink(missing_ok=True)
            continue
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            errors.append(f"{mirror}: another file, whose SHA-256 begins with {found[:12]}, not {sha256[:12]}")
            part.unlink()
            continue
        unpacked = target.with_suffix(".unpacked")
        try:
            unpacked.write_bytes(content)
            unpacked.replace(target)
        except OSError as error:
            unpacked.unlink(missing_ok=True)
            raise DfalError(f"{target} cannot be written ({error.strerror}): free some space, and try again") from None
        for one in parts.values():
            one.unlink(missing_ok=True)
        return target
    raise DfalError(
        f"{file} of {name} could not be downloaded ({'; '.join(errors)}): connect to the network, "
        f"or put it into {target.parent} or into DFAL_DATA/{name} yourself"
    )


def _transfer(address: str, part: Path) -> None:
    """Download into `part`, going on where an earlier transfer broke."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            return  # Nothing is missing, or the part is of another file: unpacking it will tell.
        raise
    with response:
        resumed = response.status == 206
        missing = response.headers["Content-Length"]
        total = None if missing is None else int(missing) + (have if resumed else 0)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns) as progress, part.open("ab" if resumed else "wb") as file:
            task = progress.add_task(address.rsplit("/", 1)[1], total=total, completed=have if resumed else 0)
            while block := response.read(1 << 16):
                file.write(block)
                progress.advance(task, len(block))
        if total is not None and part.stat().st_size != total:
            raise ConnectionError(f"the transfer ended after {part.stat().st_size:,} of {total:,} bytes")
