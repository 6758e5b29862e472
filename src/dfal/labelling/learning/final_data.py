"""What a final model is trained and measured on: the labels of a store, and their image files."""

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from numpy.typing import NDArray
from torch import nn

from dfal.data.image_array import Images
from dfal.data.image_files import fitted
from dfal.errors import DfalError
from dfal.labelling.store.session import Session
from dfal.labelling.store.state import State
from dfal.labelling.validation import image_file
from dfal.processes import available_cores
from dfal.query import UNKNOWN
from dfal.seeding import derive_seed

MAX_UNLABELLED = 4000
"""Unlabelled images that labels are spread to."""
MAX_POOL = 20_000
"""Unlabelled images that a network from scratch is trained on."""
FOLDS = 4
"""Parts of the labels, each of which is predicted by networks that were trained on the others."""
FORWARD_BATCH = 64
"""Images that a network takes at a time."""

Proceed = Callable[[str, int, int], None]
"""Is told what is done now, how much of it is done, and of how much."""


@dataclass(frozen=True)
class Known:
    """The labels of a store.

    Attributes:
        classes: their names.
        train, train_labels: images that are trained on, by index, and their classes.
        hold_out, hold_out_labels: the same of the hold-out.
        pool: at most MAX_POOL images without a label that are not in the hold-out, in random order.
        annotations: labels that people gave, of those that are trained on.
        files: of all images, by index.
        names: their paths as the store names them.
    """

    classes: tuple[str, ...]
    train: Int64[np.ndarray, "n"]
    train_labels: Int64[np.ndarray, "n"]
    hold_out: Int64[np.ndarray, "h"]
    hold_out_labels: Int64[np.ndarray, "h"]
    pool: Int64[np.ndarray, "p"]
    annotations: int
    files: Callable[[int], Path]
    names: Sequence[str]

    @property
    def unlabelled(self) -> Int64[np.ndarray, "u"]:
        """Return the images of the pool that labels are spread to."""
        return self.pool[:MAX_UNLABELLED]

    @property
    def counts(self) -> Int64[np.ndarray, "c"]:
        """Return how many images of each class are trained on."""
        return np.bincount(self.train_labels, minlength=len(self.classes))

    def folds(self, seed: int) -> Int64[np.ndarray, "n"]:
        """Return the fold of each labelled image, 0 to FOLDS − 1; each class is spread evenly.

        An image that alone has the label of its class has the fold −1, and no network is trained
        without it, unless that would leave no label to predict.
        """
        rng = np.random.default_rng(derive_seed(seed, 0, "folds"))
        folds = np.empty(len(self.train), np.int64)
        for k in range(len(self.classes)):
            places = rng.permutation(np.flatnonzero(self.train_labels == k))
            folds[places] = (np.arange(len(places)) + rng.integers(FOLDS)) % FOLDS
        is_alone = self.counts[self.train_labels] == 1
        return folds if is_alone.all() else np.where(is_alone, -1, folds)

    def without(self, gone: set[int]) -> "Known":
        """Return the same without images that cannot be read.

        Raises:
            DfalError: where fewer than two classes are left.
        """
        keep, measure = (
            np.array([image not in gone for image in images.tolist()], bool)
            for images in (self.train, self.hold_out)
        )
        left = replace(
            self,
            train=self.train[keep],
            train_labels=self.train_labels[keep],
            hold_out=self.hold_out[measure],
            hold_out_labels=self.hold_out_labels[measure],
        )
        if (left.counts > 0).sum() < 2:
            raise DfalError(
                f"{len(gone):,} labelled images cannot be read, and those that are left have fewer"
                " than two classes: bring the files back"
            )
        return left


def read_known(session: Session, store: Path) -> Known:
    """Read what is known in a store: labels of people and of folders, and the hold-out apart.

    Args:
        session: open on the store.
        store: its file, for errors.

    Raises:
        DfalError: where the folder is not there, or fewer than two classes have labels.
    """
    state = session.refresh()
    folder = Path(session.settings.folder)
    if not folder.is_dir():
        raise DfalError(
            f"there is no folder {folder}, where the images of {store} were: bring it back, or run"
            " `dfal label` on its new place once"
        )
    readable = _readable(state)
    train = np.flatnonzero(state.trained_on & readable)
    hold_out = np.flatnonzero(state.hold_out & (state.labels >= 0) & readable)
    classes = np.unique(state.labels[train])
    if len(classes) < 2:
        what = (
            f"has only labels of {state.classes[classes[0]]!r}" if len(classes) else "has no label"
        )
        raise DfalError(
            f"{store} {what} to train on: label images of two classes with `dfal label`"
        )
    others = state.random_order[readable[state.random_order]]
    pool = others[state.labels[others] == UNKNOWN][:MAX_POOL]
    paths = list(state.paths)
    return Known(
        classes=tuple(state.classes),
        train=train,
        train_labels=state.labels[train].astype(np.int64),
        hold_out=hold_out,
        hold_out_labels=state.labels[hold_out].astype(np.int64),
        pool=pool,
        annotations=int((state.annotated[train]).sum()),
        files=lambda image: image_file(folder, paths[image]),
        names=paths,
    )


def _readable(state: State) -> Bool[np.ndarray, "n"]:
    readable = np.ones(len(state.paths), bool)
    readable[[*state.unreadable]] = False
    return readable


@dataclass(frozen=True)
class DecodedImages:
    """Images in the size that a network takes.

    Attributes:
        images: of all that were asked for; those of `gone` are zeros.
        row: index of an image in the store → row of `images`.
        gone: index → why it cannot be read.
    """

    images: Images
    row: dict[int, int]
    gone: dict[int, str]

    def rows(self, indices: Int64[np.ndarray, "n"]) -> torch.Tensor:
        """Return the rows of images."""
        return torch.tensor([self.row[image] for image in indices.tolist()], dtype=torch.int64)


def decode(
    known: Known,
    indices: Int64[np.ndarray, "n"],
    image: tuple[int, int, int],
    proceed: Proceed,
) -> DecodedImages:
    """Decode image files to a size, into a file without a name, since they may not fit in memory.

    Args:
        known: of the store.
        indices: which images.
        image: channels, height and width.
        proceed: see `Proceed`.
    """
    c, h, w = image
    with tempfile.TemporaryFile() as file:
        file.truncate(max(1, len(indices)) * c * h * w)  # a mapping cannot be empty
        pixels: NDArray[np.uint8] = np.memmap(file, np.uint8, "r+", shape=(len(indices), *image))
    gone: dict[int, str] = {}
    with ThreadPoolExecutor(available_cores()) as pool:
        results = pool.map(lambda index: _fitted(known.files(int(index)), image), indices)
        for place, result in enumerate(results):
            if isinstance(result, str):
                gone[int(indices[place])] = result
            else:
                pixels[place] = result
            proceed("reading images", place + 1, len(indices))
    row = {index: place for place, index in enumerate(indices.tolist())}
    return DecodedImages(Images(pixels), row, gone)


def _fitted(path: Path, image: tuple[int, int, int]) -> UInt8[np.ndarray, "c h w"] | str:
    try:
        return np.ascontiguousarray(fitted(path, image[1:], image[0]).transpose(2, 0, 1))
    except ValueError as error:
        return str(error)


def compute_features(
    network: nn.Module,
    decoded: DecodedImages,
    indices: Int64[np.ndarray, "n"],
    proceed: Proceed,
    mirrored: bool = False,
) -> Float32[np.ndarray, "n d"]:
    """Return a network's output for decoded images, in batches.

    Args:
        network: on its device.
        decoded: the images.
        indices: which of them.
        proceed: see `Proceed`.
        mirrored: whether left and right change places first.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    outputs = []
    done = 0
    for rows in decoded.rows(indices).split(FORWARD_BATCH):
        images = decoded.images.take(rows, device)
        images = images.flip(3) if mirrored else images
        with torch.inference_mode():
            out = network(images.contiguous(memory_format=torch.channels_last))
        outputs.append(out.float().cpu().numpy())
        done += len(rows)
        proceed("computing features", done, len(indices))
    features: Float32[np.ndarray, "n d"] = np.concatenate(outputs)
    return features


def stream_features(
    network: nn.Module,
    known: Known,
    indices: Int64[np.ndarray, "n"],
    image: tuple[int, int, int],
    proceed: Proceed,
) -> Float32[np.ndarray, "m d"]:
    """Return a network's output for image files, without those that cannot be read.

    No more than a batch of them is in memory.

    Args:
        network: on its device.
        known: of the store.
        indices: which images, one or more.
        image: channels, height and width that the network takes.
        proceed: see `Proceed`.
    """
    outputs = []
    for start in range(0, len(indices), FORWARD_BATCH):
        chunk = indices[start : start + FORWARD_BATCH]
        decoded = decode(known, chunk, image, _ignore)
        there = np.array([index not in decoded.gone for index in chunk.tolist()], bool)
        if there.any():
            outputs.append(compute_features(network, decoded, chunk[there], _ignore))
        proceed("reading unlabelled images", start + len(chunk), len(indices))
    features: Float32[np.ndarray, "m d"] = np.concatenate(outputs)
    return features


def _ignore(activity: str, done: int, total: int) -> None:
    """Say nothing."""
