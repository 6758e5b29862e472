"""Backbones of timm and torchvision, on stubs of their interfaces: neither is a dependency."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import dfal
from dfal import backbones
from dfal.backbones import FeatureClassifier, hub
from dfal.errors import DfalError
from dfal.models import ModelCard, load, save


class Convolutional(nn.Module):
    """A network that takes images of any size."""

    def __init__(self, num_classes: int = 1000, in_chans: int = 3):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(in_chans, 8, 3), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, num_classes) if num_classes else nn.Identity()

    def forward(self, x: torch.Tensor) -> Any:
        return self.fc(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


class Transformer(Convolutional):
    """A network that must know the size of its images."""

    def __init__(
        self, num_classes: int = 1000, in_chans: int = 3, img_size: tuple[int, int] = (32, 32)
    ):
        super().__init__(num_classes, in_chans)
        self.img_size = img_size

    def forward(self, x: torch.Tensor) -> Any:
        assert x.shape[2:] == self.img_size, "Input size doesn't match model"
        return super().forward(x)


CONFIG = {"input_size": (3, 32, 32), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}


class StubTimm:
    """What dfal uses of timm."""

    data = SimpleNamespace(resolve_model_data_config=lambda network: CONFIG)
    hub_id: str | None = "timm/it"

    def __init__(self) -> None:
        self.networks: dict[str, type[Convolutional]] = {
            "conv": Convolutional,
            "vit.tag": Transformer,
        }

    def is_model(self, name: str) -> bool:
        return name in self.networks

    def list_models(self) -> list[str]:
        return [*self.networks]

    def get_pretrained_cfg(self, name: str) -> Any:
        return SimpleNamespace(hf_hub_id=self.hub_id)

    def create_model(
        self,
        name: str,
        pretrained: bool = False,
        pretrained_cfg_overlay: dict[str, Any] | None = None,
        **settings: Any,
    ) -> nn.Module:
        network = self.networks[name](**settings)
        if pretrained:
            assert pretrained_cfg_overlay is not None
            assert pretrained_cfg_overlay["custom_load"] is False
            network.load_state_dict(load_file(pretrained_cfg_overlay["file"]), strict=False)
        return network


@pytest.fixture
def timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StubTimm:
    """A stub of timm, and of the hub with its weights."""
    stub = StubTimm()
    torch.manual_seed(0)
    save_file(Convolutional().state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setitem(sys.modules, "timm", stub)
    monkeypatch.setattr(hub, "fetch", lambda name, repository, wanted, needed: tmp_path)
    return stub


class Weights:
    """What dfal uses of torchvision's weights."""

    name = "IMAGENET1K_V1"
    url = "https://download.pytorch.org/models/conv-0123abcd.pth"
    meta = {"_file_size": 44.7}  # noqa: RUF012
    error: Exception | None = None

    def transforms(self) -> Any:
        return SimpleNamespace(crop_size=[32], mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4])

    def get_state_dict(
        self, *, progress: bool, check_hash: bool, map_location: str, weights_only: bool
    ) -> dict[str, Any]:
        assert progress
        assert check_hash
        assert weights_only
        if self.error:
            raise self.error
        torch.manual_seed(0)
        return Convolutional().state_dict()


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Weights]:
    """A stub of torchvision."""
    weights, networks = Weights(), {"conv": Convolutional, "flat": nn.Flatten}
    models = SimpleNamespace(
        list_models=lambda module: [*networks],
        get_model=lambda name, weights: networks[name](),
        get_model_weights=lambda name: SimpleNamespace(DEFAULT=weights),
    )
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(models=models))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    yield weights


def saved_and_loaded(backbone: backbones.Backbone, path: Path) -> None:
    """Check that a classifier on the backbone predicts the same when it is loaded again."""
    d = backbone.features
    model = FeatureClassifier(backbone.network, torch.rand(d), torch.rand(4, d), nn.Linear(4, 2))
    save(model, ModelCard(("a", "b"), backbone.image, backbone.name), path)
    x = torch.rand(3, *backbone.image)
    torch.testing.assert_close(dfal.predict(load(path).network, x), dfal.predict(model, x))


def is_pretrained(backbone: backbones.Backbone) -> bool:
    """Return whether the features are those of the stub's weights, of normalised images."""
    torch.manual_seed(0)
    reference = Convolutional().eval()
    reference.fc = nn.Identity()
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    x = torch.rand(2, *backbone.image)
    expected = reference((x - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    return torch.allclose(backbone.network(x), expected, atol=1e-6)


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("name", ["timm:conv", "timm:vit.tag"])
@pytest.mark.parametrize("image", [None, (3, 40, 24)])
def test_a_network_of_timm_at_its_own_size_and_another(
    name: str, image: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = backbones.load(name, image)
    assert (backbone.image, backbone.features) == (image or (3, 32, 32), 8)
    assert is_pretrained(backbone)
    monkeypatch.setattr(hub, "fetch", None)  # no download when it is loaded again
    saved_and_loaded(backbone, tmp_path / "m.safetensors")


def test_names_and_weights_that_timm_does_not_have(timm: StubTimm) -> None:
    with pytest.raises(DfalError, match="there is no network of timm 'conf': did you mean 'conv'"):
        backbones.load("timm:conf")
    timm.hub_id = None
    with pytest.raises(DfalError, match="has no pretrained weights on the hub"):
        backbones.load("timm:conv")


@pytest.mark.usefixtures("torchvision")
def test_a_network_of_torchvision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backbone = backbones.load("torchvision:conv")
    assert (backbone.image, backbone.features) == ((3, 32, 32), 8)
    assert is_pretrained(backbone)
    assert "conv-0123abcd.pth (45 MB, once) to" in capsys.readouterr().err
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "conv-0123abcd.pth").touch()
    assert backbones.load("torchvision:conv", (3, 16, 16)).image == (3, 16, 16)
    assert capsys.readouterr().err == ""
    saved_and_loaded(backbone, tmp_path / "m.safetensors")


def test_what_torchvision_cannot_do_is_one_sentence(torchvision: Weights) -> None:
    with pytest.raises(DfalError, match="there is no network of torchvision 'conf'"):
        backbones.load("torchvision:conf")
    with pytest.raises(DfalError, match="ends in no linear layer"):
        backbones.rebuild("torchvision:flat", (3, 32, 32), {}, {})
    torchvision.error = OSError("<urlopen error [Errno -3] Temporary failure>")
    with pytest.raises(DfalError, match=r"cannot be loaded .*: download https://.*or use lite0"):
        backbones.load("torchvision:conv")


@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_a_missing_package_is_one_sentence(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, source, None)
    with pytest.raises(DfalError, match=f"needs one more package: pip install {source}"):
        backbones.load(f"{source}:conv")


@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_a_package_that_does_not_fit_torch_is_one_sentence(
    source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / f"{source}.py").write_text("raise RuntimeError('operator nms does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, source, raising=False)
    with pytest.raises(DfalError, match=r"cannot be imported \(operator nms does not exist\)"):
        backbones.load(f"{source}:conv")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("timm", "needs a name: say timm:NAME"),
        ("lite0:large", "takes no argument: say lite0"),
        ("lite1", "there is no backbone 'lite1': did you mean 'lite"),
    ],
)
def test_names_that_are_none(name: str, sentence: str) -> None:
    with pytest.raises(DfalError, match=sentence):
        backbones.load(name)
