"""A session's images as they lie in a folder: what is decoded, what cannot be, and pictures for the page."""

import contextlib
import functools
import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from PIL import Image, ImageOps

from dfal.folder import STUCK, Folder
from dfal.labelling.session import Session
from dfal.listing import PathIndex
from dfal.pictures import Unavailable
from dfal.types import DfalError

KINDS = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".gif": "image/gif", ".webp": "image/webp"}
"""What browsers show as it is."""
LARGE = 8 * 2**20
"""Bytes beyond which an original is sent smaller: nobody waits for a photograph of 50 megapixels."""
SIDE = 2400
"""Pixels of the longer side of what is sent smaller."""
SMALL = 256
"""Pixels of the longer side of a picture in a grid."""


@dataclass(frozen=True)
class Picture:
    """An image file for the browser."""

    content: bytes
    kind: str


class Photos:
    """The folder under a session. The session's indices stay for good; the folder's do as long as its cache is there.

    Attributes:
        folder: the images.
        place: of each image of the session in the folder; −1 where the folder has lost it.
    """

    def __init__(self, session: Session, folder: Folder):
        at = PathIndex(folder.paths)
        self.folder, self._session = folder, session
        self.place: Int64[np.ndarray, n] = np.array([at.get(path, -1) for path in session.state.paths], dtype=np.int64)
        self._small = functools.lru_cache(maxsize=1024)(self._shrunk)

    @classmethod
    def of(cls, session: Session) -> "Photos":
        """The folder that the session's settings name."""
        settings = session.settings
        folder = Folder.open(settings.folder, settings.cache or None, settings.size or None, settings.channels or None)
        return cls(session, folder)

    def ready(self) -> Bool[np.ndarray, "n"]:
        """Which of the session's images are decoded."""
        decoded: Bool[np.ndarray, n] = np.append(self.folder.ready(), False)[self.place]
        return decoded

    def set_aside(self) -> dict[int, str]:
        """The session's images that cannot be read, each with the reason. What is for now is not among them."""
        reasons = self.folder.set_aside() | self.folder.delayed(STUCK)
        gone = dict.fromkeys(np.flatnonzero(self.place < 0).tolist(), "it is no longer there")
        if not reasons:
            return gone
        index = PathIndex(self._session.state.paths)
        return gone | {index.get(path): reason for path, reason in reasons.items() if index.get(path) >= 0}

    def original(self, image: int) -> Picture:
        """An image as it is, if a browser can show it and will not wait for it; else as JPEG or PNG."""
        with self._or_set_aside(image):
            at = self._at(image)
            file = self.folder.file(at)
            kind = KINDS.get(file.suffix.lower())
            if kind and file.stat().st_size <= LARGE:
                content = file.read_bytes()
                if _is(kind, content):
                    return Picture(content, kind)
            return _picture(self.folder.original(at), SIDE)

    def small(self, image: int) -> Picture:
        """An image for a grid."""
        with self._or_set_aside(image):
            file = self.folder.file(self._at(image))
            return self._small(image, file.stat().st_mtime_ns)

    def _shrunk(self, image: int, modified: int) -> Picture:
        return _picture(self.folder.original(self._at(image)), SMALL)

    def seen(self, image: int) -> UInt8[np.ndarray, "h w c"]:
        """An image as the network sees it."""
        with self._or_set_aside(image):
            return self.folder.image(self._at(image))

    def twin(self, question: int, image: int, part: str) -> Picture | None:
        """The image of a question as the network sees it, its twin, or the change between them, magnified.

        None where there is no twin, or it is one of features, which no eye can see.
        """
        change = self._session.findings.twin(question)
        if change is None or change.size != np.prod(self.folder.shape):
            return None
        pixels = self.seen(image).astype(np.float32) / 255
        r = change.reshape(pixels.shape[2], *pixels.shape[:2]).transpose(1, 2, 0)
        if part == "change":
            shown = 0.5 + 0.5 * r / max(float(np.abs(r).max()), 1e-12)
        else:
            shown = pixels + r if part == "twin" else pixels
        return _picture(_image(shown), None)

    def _at(self, image: int) -> int:
        self._session.check_image(image)
        if image >= len(self.place) or self.place[image] < 0:
            raise DfalError(f"image {image} is set aside: it is no longer there")
        return int(self.place[image])

    @contextlib.contextmanager
    def _or_set_aside(self, image: int):  # type: ignore[no-untyped-def]
        """Whoever finds out that an image cannot be read sees to it that nobody else is asked about it."""
        try:
            yield
        except Unavailable:
            raise
        except OSError as error:
            raise Unavailable.because(error, f"image {image}") from None
        except DfalError as error:
            if image < len(self.place) and image >= 0:
                self._session.findings.set_aside({image: str(error).partition(": ")[2] or str(error)})
            raise


def _image(pixels: Float[np.ndarray, "h w c"]) -> Image.Image:
    whole = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(whole if whole.shape[2] == 3 else whole[..., 0])


def _is(kind: str, content: bytes) -> bool:
    """Whether a file is what its ending says: a browser is told the kind and must not guess."""
    starts = {"image/jpeg": (b"\xff\xd8\xff",), "image/png": (b"\x89PNG\r\n\x1a\n",), "image/gif": (b"GIF87a", b"GIF89a")}
    return content.startswith(starts[kind]) if kind in starts else content[:4] == b"RIFF" and content[8:12] == b"WEBP"


def _picture(image: Image.Image, side: int | None) -> Picture:
    """An image as PNG where it is small, so that every pixel stays what it is, and else as JPEG."""
    if side is not None and max(image.size) > side:
        image = ImageOps.contain(image, (side, side))
    file = io.BytesIO()
    small = max(image.size) <= SMALL
    image.save(file, "PNG" if small else "JPEG", **({} if small else {"quality": 88}))
    return Picture(file.getvalue(), "image/png" if small else "image/jpeg")
