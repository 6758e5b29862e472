"""A pool in blocks of images, which are read when they are wanted.

Each block is computed on its own, by one thread. So its scores are the same to the bit, whatever
computes it and whatever was computed before it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int64

from dfal.data.image_array import Images
from dfal.data.sources import Source, open_source
from dfal.data.sources.arrays import ArraySource
from dfal.data.sources.decoder import Decoder
from dfal.errors import DfalError

BLOCK_BYTES = 64 * 2**20
"""Memory of the images of a block, in float32."""
MAX_BLOCK = 4096
"""Images of a block at most."""


@dataclass(frozen=True)
class PoolBlocks:
    """The blocks of a pool.

    Attributes:
        address: of the pool, as `dfal.data.sources` takes it.
        shape: channels, height and width that the network takes.
        size: how many images a block has, but for the last one.
    """

    address: str
    shape: tuple[int, int, int]
    size: int

    @classmethod
    def of(cls, address: str, shape: tuple[int, int, int]) -> "PoolBlocks":
        """Return blocks that fit into memory."""
        return cls(address, shape, max(1, min(MAX_BLOCK, BLOCK_BYTES // (4 * int(np.prod(shape))))))

    @cached_property
    def source(self) -> Source:
        """Open the pool.

        Raises:
            DfalError: where it cannot be read, or does not fit the network.
        """
        source = open_source(self.address)
        if isinstance(source, ArraySource) and source.array.shape != self.shape:
            raise DfalError(
                f"the images in {self.address} have the shape {source.array.shape}, but the model"
                f" takes {self.shape}: write them in that shape"
            )
        return source

    @property
    def count(self) -> int:
        """Return how many blocks there are."""
        return -(-self.source.count // self.size)

    def indices(self, block: int) -> Int64[np.ndarray, "n"]:
        """Return the numbers of the images of a block."""
        start = block * self.size
        return np.arange(start, min(start + self.size, self.source.count))

    def read(self, indices: Int64[np.ndarray, "n"]) -> Images:
        """Read images, fitted whole into the network's shape as `dfal predict` fits them.

        Raises:
            DfalError: for one that cannot be read.
        """
        if isinstance(self.source, ArraySource):
            return Images(self.source.array.raw(indices))
        return Images(np.stack([self._image(int(index)) for index in indices]))

    @cached_property
    def _decoder(self) -> Decoder:
        decoder = Decoder(self.source, like_folders=True)
        if not decoder.from_files and decoder.shape != self.shape:
            raise DfalError(
                f"the images in {self.address} have the shape {decoder.shape}, but the model takes"
                f" {self.shape}: write them in that shape"
            )
        return decoder

    def _image(self, index: int) -> Any:
        if self._decoder.from_files:
            return self._decoder.originals(index, self.shape)
        return self._decoder(index)[0]

    def name(self, index: int) -> str:
        """Return the path of an image in its pool; empty where it has none."""
        return self.source.path(index) if self.source.path else ""
