"""The latest network of a session as a file next to its store."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from dfal import models
from dfal.models import ModelCard
from dfal.storage.paths import beside


def model_path(store: Path) -> Path:
    """Return the file next to a store that its latest network is saved in."""
    return beside(store, ".model.safetensors")


class ModelFile:
    """Keeps the latest network until it is time to save it.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path):
        self._path = path
        self._unsaved: tuple[nn.Module, ModelCard] | None = None
        self._saved: tuple[nn.Module, ModelCard] | None = None

    @property
    def is_there(self) -> bool:
        """Return whether there is a file, of this network or another one."""
        return self._path.exists()

    @property
    def is_behind(self) -> bool:
        """Return whether the latest network is not saved."""
        return self._unsaved is not None

    def keep(self, network: nn.Module, card: ModelCard) -> None:
        """Take the latest network, in place of the one before it."""
        self._unsaved = network, card

    def save(self) -> None:
        """Save the latest network."""
        if self._unsaved is not None:
            self._saved, self._unsaved = self._unsaved, None
            models.save(*self._saved, self._path)

    def calibrate(self, temperature: float) -> None:
        """Save the network that was saved last once more, if its card had no temperature."""
        if self._saved is not None and self._saved[1].temperature is None:
            network, card = self._saved
            self._saved = network, replace(card, temperature=temperature)
            models.save(*self._saved, self._path)
