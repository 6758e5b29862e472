"""The k best images of a pool, merged from those of its parts in any order."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt64


def tie_breaks(seed: int, round: int, indices: Int64[np.ndarray, "n"]) -> UInt64[np.ndarray, "n"]:
    """Return a hash of seed, round and index for each index, by which equal scores are ordered.

    Source: the mixing function of SplitMix64, Steele et al. 2014.
    """
    start = hashlib.sha256(f"{seed}/{round}/tie".encode()).digest()[:8]
    mixed = indices.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed += np.uint64(int.from_bytes(start, "big"))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


@dataclass(frozen=True)
class Best:
    """Images with their scores, the most wanted first.

    Attributes:
        indices: numbers of the images in their pool.
        scores: what they are ranked by; the smallest first.
        ties: the hash that orders equal scores.
    """

    indices: Int64[np.ndarray, "n"]
    scores: Float64[np.ndarray, "n"]
    ties: UInt64[np.ndarray, "n"]

    @classmethod
    def none(cls) -> "Best":
        """Return no image."""
        return cls(np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint64))

    def merged(self, other: "Best", k: int) -> "Best":
        """Return the k best images of both."""
        indices = np.concatenate([self.indices, other.indices])
        scores = np.concatenate([self.scores, other.scores])
        ties = np.concatenate([self.ties, other.ties])
        order = np.lexsort((indices, ties, scores))[:k]
        return Best(indices[order], scores[order], ties[order])

    def within(self, limit: float) -> "Best":
        """Return the images with scores up to a limit."""
        kept = self.scores <= limit
        return Best(self.indices[kept], self.scores[kept], self.ties[kept])
