"""Models on a backbone: saved, loaded without a download, exported, predicted with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import nn

import dfal
from dfal import backbones
from dfal.backbones import FeatureClassifier
from dfal.errors import DfalError
from dfal.models import ModelCard, SavedModel, label, load, save, save_onnx
from saved_models import forged

IMAGE = (3, 64, 64)


def classifier(name: str, image: tuple[int, int, int], trained: bool = False) -> FeatureClassifier:
    """Return a random classifier on a backbone."""
    torch.manual_seed(0)
    backbone = backbones.load(name, image)
    d = backbone.features
    body = backbone.trainable() if trained else backbone.network
    model = FeatureClassifier(body, torch.rand(d), torch.rand(16, d) / d, nn.Linear(16, 3))
    return model.eval()


def saved(path: Path, model: FeatureClassifier, name: str, image: Any = IMAGE) -> SavedModel:
    """Return the model as it is loaded again."""
    save(model, ModelCard(("a", "b", "c"), image, name), path)
    return load(path)


@pytest.mark.parametrize(
    ("name", "trained"),
    [
        ("lite0", False),
        ("lite0", True),
        ("lite2", False),
        ("pixels", False),
        ("lite0+pixels", False),
        ("lite0+pixels", True),
    ],
)
def test_a_classifier_is_loaded_without_the_weights_of_its_backbone(
    tmp_path: Path, name: str, trained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = classifier(name, IMAGE, trained), torch.rand(3, *IMAGE)
    with torch.no_grad():
        for parameter in model.body.parameters():  # it was fine-tuned
            parameter.mul_(1.01)
    expected = dfal.predict(model, x)
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)  # no extra `photos`
    again = saved(tmp_path / "m.safetensors", model, name)
    assert again.card.network == name
    assert not again.network.training
    torch.testing.assert_close(dfal.predict(again.network, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # of PyTorch's exporter, about itself
def test_the_onnx_of_a_classifier_computes_the_same(tmp_path: Path) -> None:
    import onnxruntime

    name, image = "lite0+pixels", (3, 60, 60)
    model, x = classifier(name, image), torch.rand(3, *image)
    again = saved(tmp_path / "m.safetensors", model, name, image)
    save_onnx(again.network, again.card, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    found = session.run(["logits"], {"images": x.numpy()})[0]
    assert np.abs(found - dfal.predict(model, x).numpy()).max() < 1e-4


def test_image_files_are_predicted_and_measured(tmp_path: Path) -> None:
    again = saved(tmp_path / "m.safetensors", classifier("lite0", IMAGE), "lite0")
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    (prediction,) = label(again, [tmp_path / "one.png"], distances=True)
    assert not isinstance(prediction, tuple)
    assert prediction.label in {"a", "b", "c"}
    assert prediction.distance is not None
    assert prediction.distance > 0


def contents(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the weights and the card of a file."""
    with safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return weights, json.loads(file.metadata()["dfal"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"network": "lite2"}, "do not fit the network lite2"),
        ({"recipe": {"folded": False}}, "do not fit the network lite0"),
        ({"recipe": "folded"}, "is of another version of dfal, or damaged"),
        ({"recipe": None}, "say --model lite0 if its code may be run"),
        ({"network": "os:system"}, "say --model os:system if its code may be run"),
        ({"network": "nothing"}, "say --model nothing if its code may be run"),
        ({"image": [1, 64, 64]}, "cannot take images of shape"),
        ({"classes": ["a", "b"]}, "gives 3 logits, but its card names 2 classes"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    saved(tmp_path / "m.safetensors", classifier("lite0", IMAGE), "lite0")
    weights, card = contents(tmp_path / "m.safetensors")
    with pytest.raises(DfalError, match=sentence):
        load(forged(tmp_path / "f.safetensors", weights, **(card | change)))


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("projection", None),
        ("head.weight", None),
        ("mean", torch.zeros(3)),
        ("head.weight", torch.zeros(3)),
        ("body.more", torch.zeros(3)),
        ("more", torch.zeros(3)),
        ("body._conv_stem.weight", torch.zeros(32, 3, 3, 3, dtype=torch.float16)),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path, name: str, weight: torch.Tensor | None
) -> None:
    saved(tmp_path / "m.safetensors", classifier("lite0", IMAGE), "lite0")
    weights, card = contents(tmp_path / "m.safetensors")
    weights.pop(name, None)
    weights |= {} if weight is None else {name: weight}
    with pytest.raises(DfalError, match=r"do not fit|cannot take"):
        load(forged(tmp_path / "f.safetensors", weights, **card))


def own(image: tuple[int, int, int] | None) -> backbones.Backbone:
    """A backbone of a user's."""
    c, h, w = image or IMAGE
    network = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(c * h * w // 64, 8))
    return backbones.Backbone("test_saved_classifiers:own", network, (c, h, w), 8)


def test_the_code_of_a_users_backbone_runs_only_if_it_may(tmp_path: Path) -> None:
    name, path = "test_saved_classifiers:own", tmp_path / "m.safetensors"
    model = classifier(name, IMAGE)
    with pytest.raises(DfalError, match=f"say --model {name}"):
        saved(path, model, name)
    x = torch.rand(3, *IMAGE)
    torch.testing.assert_close(
        dfal.predict(load(path, name).network, x), dfal.predict(model, x), rtol=1e-5, atol=1e-5
    )
