"""Downloads from official addresses: with progress, resumed, and verified by checksum."""

import base64
import contextlib
import errno
import gzip
import hashlib
import http.client
import os
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import platformdirs
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from dfal.atomic import atomic_write
from dfal.data.progress_bar import progress_bar
from dfal.errors import DfalError

TIMEOUT = 30
"""Seconds without a byte after which another mirror is tried."""
SUMS = "SHA256SUMS"
"""The file, next to those of a data set, in which checksums are recorded at first use."""
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of a disk that is full or read-only."""


def folders(name: str) -> list[Path]:
    """Return the folders that may hold the files of a data set.

    They are `DFAL_DATA/name`, and `name` in the user's cache, where downloads go.
    """
    cache = Path(platformdirs.user_cache_dir("dfal")) / name
    root = os.environ.get("DFAL_DATA")
    return [Path(root) / name, cache] if root else [cache]


def find(name: str, file: str, *others: Path) -> Path | None:
    """Return the path of a file of a data set, plain or compressed by gzip, if it is there.

    Args:
        name: of the data set.
        file: its name, unpacked.
        others: folders where it may be beside the usual ones.
    """
    for folder in (*folders(name), *others):
        for path in (folder / file, folder / f"{file}.gz"):
            if path.is_file():
                return path
    return None


def folder_with(name: str, files: Iterable[str], *others: Path) -> Path | None:
    """Return the folder of the first of these files of a data set, if all of them are found."""
    paths = [find(name, file, *others) for file in files]
    return paths[0].parent if paths[0] and all(paths) else None


def verify(content: bytes | memoryview, sha256: str, path: Path) -> None:
    """Check the SHA-256 of the content of a file.

    Raises:
        DfalError: where it is another one.
    """
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        raise DfalError(
            f"{path} is damaged or another file: SHA-256 begins with {actual[:12]}, not"
            f" {sha256[:12]}; delete it and try again"
        )


def recorded(name: str) -> dict[str, str]:
    """Return file → SHA-256 at first use, of the files for which nobody publishes one."""
    try:
        lines = (folders(name)[-1] / SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    return {
        file: sha256 for sha256, file in (line.split("  ", 1) for line in lines if "  " in line)
    }


def record(name: str, file: str, sha256: str) -> None:
    """Record the SHA-256 of a file at its first use, in the format of `sha256sum --check`."""
    sums = folders(name)[-1] / SUMS
    with writing(sums):
        sums.parent.mkdir(parents=True, exist_ok=True)
        with sums.open("a", encoding="utf-8") as lines:
            lines.write(f"{sha256}  {file}\n")


def fetch(
    name: str,
    file: str,
    mirrors: list[str],
    sha256: str | None = None,
    *,
    md5: str | None = None,
    packed: str = ".gz",
) -> Path:
    """Download a file into the user's cache, from the first mirror that has it; unpack and verify.

    Args:
        name: of the data set.
        file: its name, unpacked.
        mirrors: addresses of folders, tried in order.
        sha256: of the unpacked file. Without one, that of the first download is recorded, and later
            ones must have it.
        md5: of the packed file, where its makers publish that.
        packed: how it is packed: `.gz`; `.zip`, which replaces the file's own ending; or empty.

    Raises:
        DfalError: where no mirror can be reached, or none sends a file with the checksum. The part
            of a transfer that broke off is kept: the next call resumes it.
    """
    target = folders(name)[-1] / file
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DfalError(
            f"the cache folder {target.parent} cannot be made ({error.strerror}): make it writable"
        ) from None
    remote = Path(file).stem + packed if packed == ".zip" else file + packed
    # One part for each mirror, because mirrors compress differently.
    parts = {
        mirror: target.with_name(f"{file}.{number}.part") for number, mirror in enumerate(mirrors)
    }
    wanted, hint = sha256, ""
    if wanted is None and (wanted := recorded(name).get(file)):
        hint = (
            f" as at its first use; if it may differ, delete its line in {target.with_name(SUMS)}"
        )
    errors = []
    for mirror, part in parts.items():
        try:
            sent = _transfer(f"{mirror}/{remote}", part)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise DfalError(
                    f"{part} cannot be written ({error.strerror}): free some space, and try again"
                ) from None
            errors.append(f"{mirror}: {getattr(error, 'reason', None) or error}")
            continue
        try:
            _check_md5(part, md5 or sent)
            with atomic_write(target, "free some space, and try again") as unpacked:
                actual = _unpack(part, unpacked, file, packed)
                if wanted is not None and actual != wanted:
                    raise _Unusable(
                        f"another file, whose SHA-256 begins with {actual[:12]}, not"
                        f" {wanted[:12]}{hint}"
                    )
                if wanted is None:
                    record(name, file, actual)
        except _Unusable as error:
            errors.append(f"{mirror}: {error}")
            part.unlink()
            continue
        for other in parts.values():
            other.unlink(missing_ok=True)
        return target
    raise DfalError(
        f"{file} of {name} could not be downloaded ({'; '.join(errors)}): connect to the network, "
        f"or put it into {target.parent} or into DFAL_DATA/{name} yourself"
    )


class _Unusable(Exception):  # noqa: N818
    """A mirror sent another or a damaged file. Its text says why, in a few words."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the errors of a full or read-only disk into one sentence.

    Args:
        path: of the file that is written.

    Raises:
        DfalError: for any error of the system.
    """
    try:
        yield
    except OSError as error:
        raise DfalError(
            f"{path} cannot be written ({error.strerror}): free some space, and try again"
        ) from None


def _check_md5(part: Path, md5: str | None) -> None:
    if md5 is None:
        return
    with part.open("rb") as content:
        actual = hashlib.file_digest(
            content, lambda: hashlib.md5(usedforsecurity=False)
        ).hexdigest()
    if actual != md5:
        raise _Unusable(
            f"another or a damaged file, whose MD5 begins with {actual[:12]}, not {md5[:12]}"
        )


def _unpack(part: Path, unpacked: Path, file: str, packed: str) -> str:
    """Unpack a file block by block, and return the SHA-256 of the unpacked one.

    Raises:
        _Unusable: where it is damaged, or an archive without the file.
    """
    digest = hashlib.sha256()
    try:
        with contextlib.ExitStack() as stack:
            content: IO[bytes] | gzip.GzipFile
            if packed == ".zip":
                archive = stack.enter_context(zipfile.ZipFile(part))
                member = next(name for name in archive.namelist() if Path(name).name == file)
                content = stack.enter_context(archive.open(member))
            elif packed:
                content = stack.enter_context(gzip.open(part))
            else:
                content = stack.enter_context(part.open("rb"))
            out = stack.enter_context(unpacked.open("wb"))
            while block := content.read(1 << 20):
                digest.update(block)
                out.write(block)
    except StopIteration:
        raise _Unusable(f"an archive without {file}") from None
    except (
        gzip.BadGzipFile,
        zipfile.BadZipFile,
        EOFError,
        zlib.error,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise _Unusable(str(error)) from None
    return digest.hexdigest()


def _transfer(address: str, part: Path) -> str | None:
    """Download a file into `part`, and resume a transfer that broke off.

    Returns:
        The MD5 that the server states, or None.

    Raises:
        HTTPError: where the server refuses.
        ConnectionError: where bytes are missing at the end.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            # Nothing is missing, or the part is of another file, which unpacking it will show.
            return None
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
        with progress_bar(*columns) as progress, part.open("ab" if resumed else "wb") as file:
            task = progress.add_task(
                address.rsplit("/", 1)[1], total=total, completed=have if resumed else 0
            )
            while block := response.read(1 << 16):
                file.write(block)
                progress.advance(task, len(block))
        if total is not None and part.stat().st_size != total:
            raise ConnectionError(
                f"the transfer ended after {part.stat().st_size:,} of {total:,} bytes"
            )
        # Google's storage states checksums in base64: x-goog-hash: crc32c=…, md5=…
        hashes = ",".join(response.headers.get_all("x-goog-hash", [])).split(",")
        sums = [
            text.strip().removeprefix("md5=") for text in hashes if text.strip().startswith("md5=")
        ]
        return base64.b64decode(sums[0]).hex() if sums else None
