"""Downloads from the hub: said before, once, and one sentence where they fail; with a stub."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dfal.backbones import hub
from dfal.errors import DfalError

errors = pytest.importorskip("huggingface_hub.errors")
pytest.importorskip("huggingface_hub.constants")


class StubHub:
    """A repository of three files, and the cache of a user."""

    def __init__(self, folder: Path, files: dict[str, int], error: Exception | None = None):
        self.folder, self.files, self.error = folder, files, error
        self.calls: list[dict[str, Any]] = []

    def HfApi(self) -> "StubHub":  # noqa: N802  as huggingface_hub calls it
        return self

    def model_info(self, repository: str, files_metadata: bool) -> Any:
        assert files_metadata
        if self.error:
            raise self.error
        siblings = [SimpleNamespace(rfilename=name, size=size) for name, size in self.files.items()]
        return SimpleNamespace(siblings=siblings, sha="abc")

    def snapshot_download(self, repository: str, local_files_only: bool = False, **how: Any) -> str:
        if local_files_only and not self.folder.exists():
            raise FileNotFoundError
        if not local_files_only:
            self.calls.append(how)
            self.folder.mkdir()
            for name in how["allow_patterns"]:
                (self.folder / name).write_text("x")
        return str(self.folder)


def fetched(stub: StubHub, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sys.modules, "huggingface_hub", stub)
    monkeypatch.setattr(sys.modules["huggingface_hub.constants"], "HF_HUB_CACHE", str(stub.folder))
    return hub.fetch("hf:a/b", "a/b", lambda file: file != "x.bin", ".safetensors")


FILES = {"model.safetensors": 86_000_000, "config.json": 1000, "x.bin": 99_000_000}


def test_what_and_how_large_is_said_before_and_it_is_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = StubHub(tmp_path / "cache", FILES)
    assert fetched(stub, monkeypatch) == tmp_path / "cache"
    said = capsys.readouterr().err
    assert (
        said
        == f"dfal: downloading a/b from the Hugging Face hub (86 MB, once) to {tmp_path}/cache\n"
    )
    assert stub.calls == [
        {"revision": "abc", "allow_patterns": ["model.safetensors", "config.json"]}
    ]
    stub.error = OSError("no network")
    assert fetched(stub, monkeypatch) == tmp_path / "cache"
    assert (len(stub.calls), capsys.readouterr().err) == (1, "")


def test_a_repository_without_safetensors_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = StubHub(tmp_path / "cache", {"pytorch_model.bin": 5})
    with pytest.raises(DfalError, match=r"has no \*\.safetensors file, and other formats may run"):
        fetched(stub, monkeypatch)
    assert stub.calls == []


def test_a_hub_that_cannot_be_reached_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = StubHub(tmp_path / "cache", FILES, OSError("Name or service not known\nTraceback"))
    with pytest.raises(
        DfalError, match=r"cannot be reached .*name its folder as hf:FOLDER"
    ) as raised:
        fetched(stub, monkeypatch)
    assert "\n" not in str(raised.value)


def test_a_repository_that_is_not_there_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = errors.RepositoryNotFoundError.__new__(errors.RepositoryNotFoundError)
    with pytest.raises(DfalError, match="there is no a/b on the hub"):
        fetched(StubHub(tmp_path / "cache", FILES, missing), monkeypatch)
    gated = errors.GatedRepoError.__new__(errors.GatedRepoError)
    with pytest.raises(DfalError, match=r"accept its terms at https://huggingface\.co/a/b"):
        fetched(StubHub(tmp_path / "cache", FILES, gated), monkeypatch)
