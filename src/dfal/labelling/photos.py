"""Serve a session's images, and tell which are decoded and which are set aside."""

import contextlib
import functools
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageOps

from dfal.data.image_files import Unavailable
from dfal.data.image_folder import STUCK_ATTEMPTS, Folder
from dfal.data.path_names import nfc
from dfal.data.pictures import to_picture
from dfal.errors import DfalError
from dfal.labelling.store.session import Session

MEDIA_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
"""What browsers show as it is."""
MAX_ORIGINAL_BYTES = 8 * 2**20
"""Bytes beyond which an original is sent smaller: nobody waits for a photograph of 50
megapixels."""
MAX_SIDE = 2400
"""Pixels of the longer side of what is sent smaller."""
THUMBNAIL_SIDE = 256
"""Pixels of the longer side of a picture in a grid."""
MAX_READS = 3
"""Attempts to read a file that is replaced meanwhile."""
RENDERING_VERSION = 1
"""To be raised where the same file is shown otherwise than before: browsers keep pictures."""


@dataclass(frozen=True)
class Picture:
    """An image file for the browser.

    Attributes:
        content: its bytes.
        media_type: of the bytes.
        version: names the content; empty where the file changed while it was read.
    """

    content: bytes
    media_type: str
    version: str = ""


class Changed(Exception):  # noqa: N818
    """A file was replaced while it was read."""


class Photos:
    """The folder under a session. Image i of the session is image i of the folder.

    Images that the session gets later are not in the folder until it is opened again.

    Args:
        session: whose images.
        folder: opened in the order of the session's paths.

    Attributes:
        folder: the images.
        store: names the session's store: another store, or one begun anew under the same name, has
            another.

    Raises:
        ValueError: for a folder in another order.
    """

    def __init__(self, session: Session, folder: Folder):
        self.folder, self._session = folder, session
        paths = session.state.paths
        self._count = min(len(folder), len(paths))
        for path, in_folder in zip(paths, folder.paths, strict=False):
            if path != in_folder and nfc(path) != nfc(in_folder):
                raise ValueError("the folder must be opened in the order of the session's paths")
        self.store = store_id(session)
        self._small = functools.lru_cache(maxsize=1024)(self._shrunk)

    @classmethod
    def open(cls, session: Session) -> "Photos":
        """Open the folder that the session's settings name."""
        settings = session.settings
        folder = Folder.open(
            settings.folder,
            settings.cache or None,
            settings.size or None,
            settings.channels or None,
            order=session.state.paths,
        )
        return cls(session, folder)

    def ready(self) -> Bool[np.ndarray, "n"]:
        """Return which of the session's images are decoded."""
        decoded = np.zeros(len(self._session.state.paths), bool)
        decoded[: self._count] = self.folder.ready()[: self._count]
        return decoded

    def set_aside(self) -> dict[int, str]:
        """Return the images that cannot be read, each with the reason, but not for now only."""
        reasons = self.folder.set_aside() | self.folder.delayed(STUCK_ATTEMPTS)
        if not reasons:
            return {}
        return {
            image: reasons[path]
            for image, path in enumerate(self.folder.paths[: self._count])
            if path in reasons
        }

    def version(self, image: int) -> str:
        """Return a name of what an image's file holds now; empty where it is not there.

        Two stores, two folders, and a file that was replaced have different versions, so that a
        picture whose address has its version in it never changes.
        """
        if image >= self._count:
            return ""
        path = self.folder.path / self.folder.paths[image]
        try:
            status = path.stat()
        except OSError:
            return ""
        file = (path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        return _digest(RENDERING_VERSION, self.store, image, *file)

    def original(self, image: int) -> Picture:
        """Return an image's file if browsers show it quickly, else the image as JPEG or PNG."""
        with self._or_set_aside(image):
            self._check(image)

            def read() -> Picture:
                file = self.folder.file(image)
                kind = MEDIA_TYPES.get(file.suffix.lower())
                if kind and file.stat().st_size <= MAX_ORIGINAL_BYTES:
                    content = file.read_bytes()
                    if _is(kind, content):
                        return Picture(content, kind)
                return _picture(self.folder.original(image), MAX_SIDE)

            return self._steady(image, lambda version: self._unchanged(image, version, read), read)

    def thumbnail(self, image: int) -> Picture:
        """Return an image for a grid."""
        with self._or_set_aside(image):
            self._check(image)
            self.folder.file(image)  # says why where it is not there
            return self._steady(
                image,
                lambda version: self._small(image, version),
                lambda: _picture(self.folder.original(image), THUMBNAIL_SIDE),
            )

    def _shrunk(self, image: int, version: str) -> Picture:
        return self._unchanged(
            image, version, lambda: _picture(self.folder.original(image), THUMBNAIL_SIDE)
        )

    def _unchanged(self, image: int, version: str, read: Callable[[], Picture]) -> Picture:
        """Read a picture whose file has this version before and after.

        Raises:
            Changed: where it has not.
        """
        picture = read()
        if self.version(image) != version:
            raise Changed
        return replace(picture, version=version)

    def _steady(
        self, image: int, versioned: Callable[[str], Picture], read: Callable[[], Picture]
    ) -> Picture:
        """Read a picture with its version, or without one where the file changes all the time."""
        for _ in range(MAX_READS):
            with contextlib.suppress(Changed):
                return versioned(self.version(image))
        return read()

    def network_image(self, image: int) -> UInt8[np.ndarray, "h w c"]:
        """Return an image as the network takes it."""
        with self._or_set_aside(image):
            self._check(image)
            return self.folder.image(image)

    def twin(self, question: int, image: int, part: str) -> Picture | None:
        """Return a question's image as the network takes it, its twin, or the magnified change.

        Args:
            question: its number.
            image: the image's index.
            part: "image", "twin" or "change".

        Returns:
            None where there is no twin, or it is one of features, which cannot be shown. The three
            have the same version.
        """
        change = self._session.model_outputs.twin(question)
        if change is None or change.size != np.prod(self.folder.shape):
            return None
        seen = self.network_image(image)
        pixels = seen.astype(np.float32) / 255
        r = change.reshape(pixels.shape[2], *pixels.shape[:2]).transpose(1, 2, 0)
        if part == "change":
            shown = 0.5 + 0.5 * r / max(float(np.abs(r).max()), 1e-12)
        else:
            shown = pixels + r if part == "twin" else pixels
        version = _digest(RENDERING_VERSION, self.store, image, seen.tobytes(), change.tobytes())
        return replace(_picture(to_picture(shown.transpose(2, 0, 1)), None), version=version)

    def _check(self, image: int) -> None:
        self._session.check_image(image)
        if image >= self._count:
            raise DfalError(f"image {image} is set aside: it is no longer there")

    @contextlib.contextmanager
    def _or_set_aside(self, image: int):  # type: ignore[no-untyped-def]
        """Set an image aside where it turns out that it cannot be read.

        Raises:
            Unavailable: where it cannot be read just now.
            DfalError: where it cannot be read.
        """
        try:
            yield
        except Unavailable:
            raise
        except OSError as error:
            raise Unavailable.because(error, f"image {image}") from None
        except DfalError as error:
            if 0 <= image < self._count:
                self._session.model_outputs.set_aside(
                    {image: str(error).partition(": ")[2] or str(error)}
                )
            raise


def store_id(session: Session) -> str:
    """Name a store by how it was begun, which never changes.

    It is the same after a restart, and another for a store begun anew.
    """
    return _digest(session.store_beginning())


def _digest(*parts: object) -> str:
    return hashlib.blake2b(
        repr(parts).encode("utf-8", "surrogateescape"), digest_size=12
    ).hexdigest()


def _is(kind: str, content: bytes) -> bool:
    """Return whether a file is what its ending says: browsers are told the media type."""
    starts = {
        "image/jpeg": (b"\xff\xd8\xff",),
        "image/png": (b"\x89PNG\r\n\x1a\n",),
        "image/gif": (b"GIF87a", b"GIF89a"),
    }
    return (
        content.startswith(starts[kind])
        if kind in starts
        else content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    )


def _picture(image: Image.Image, side: int | None) -> Picture:
    """Save an image as PNG where it is small, which keeps every pixel, and else as JPEG."""
    if side is not None and max(image.size) > side:
        image = ImageOps.contain(image, (side, side))
    file = io.BytesIO()
    small = max(image.size) <= THUMBNAIL_SIDE
    image.save(file, "PNG" if small else "JPEG", **({} if small else {"quality": 88}))
    return Picture(file.getvalue(), "image/png" if small else "image/jpeg")
