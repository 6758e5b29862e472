"""Download weights once into the user's cache, and say what and how large before."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dfal.backbones.pretrained import imported
from dfal.errors import DfalError, first_line


def fetch(name: str, repository: str, wanted: Callable[[str], bool], needed: str) -> Path:
    """Return the folder of a repository's files on the Hugging Face hub, downloaded at first use.

    Args:
        name: of the backbone.
        repository: `owner/name`.
        wanted: whether a file of the repository is needed.
        needed: how the name of a file ends without which the folder is of no use.

    Raises:
        DfalError: where the hub cannot be reached, or has no such file.
    """
    hub: Any = imported("huggingface_hub", name, "pip install huggingface_hub")
    cache = imported("huggingface_hub.constants", name, "pip install huggingface_hub").HF_HUB_CACHE
    if folder := _cached(hub, repository, needed):
        return folder
    try:
        info = hub.HfApi().model_info(repository, files_metadata=True)
        files = [file for file in info.siblings if wanted(file.rfilename)]
        if not any(file.rfilename.endswith(needed) for file in files):
            raise DfalError(
                f"the backbone {name} cannot be loaded: {repository} on the hub has no *{needed}"
                " file, and other formats may run code; choose another"
            )
        size = sum(file.size or 0 for file in files) / 1e6
        print(
            f"dfal: downloading {repository} from the Hugging Face hub ({size:,.0f} MB, once) to"
            f" {cache}",
            file=sys.stderr,
        )
        return Path(
            hub.snapshot_download(
                repository,
                revision=info.sha,
                allow_patterns=[file.rfilename for file in files],
            )
        )
    except DfalError:
        raise
    except Exception as error:  # of the network, of the hub or of the disk
        raise DfalError(_reason(name, repository, error)) from error


def _cached(hub: Any, repository: str, needed: str) -> Path | None:
    """Return the folder of a repository that was downloaded whole before."""
    try:
        folder = Path(hub.snapshot_download(repository, local_files_only=True))
    except Exception:  # it is not there, or incomplete
        return None
    return folder if any(folder.rglob(f"*{needed}")) else None


def _reason(name: str, repository: str, error: Exception) -> str:
    errors: Any = importlib.import_module("huggingface_hub.errors")
    if isinstance(error, errors.GatedRepoError):
        return (
            f"the backbone {name} asks for your consent: accept its terms at"
            f" https://huggingface.co/{repository}, then log in with `hf auth login`"
        )
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return f"the backbone {name} cannot be found: there is no {repository} on the hub"
    return (
        f"the Hugging Face hub cannot be reached ({first_line(error)}): download {repository} on a"
        " machine that has a connection and name its folder as hf:FOLDER, or use lite0, which"
        " needs no download"
    )
