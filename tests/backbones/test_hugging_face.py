"""Backbones of transformers: tiny models with random weights, saved to disk."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import dfal
from dfal import backbones
from dfal.backbones import FeatureClassifier, from_hugging_face, hub
from dfal.errors import DfalError
from dfal.models import ModelCard, load, save, save_onnx

transformers = pytest.importorskip("transformers")

VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}


def configuration(kind: str) -> Any:
    """Return the configuration of a tiny model."""
    if kind == "vit":
        return transformers.ViTConfig(**VIT)
    if kind == "convnext":
        return transformers.ConvNextConfig(
            num_stages=2, hidden_sizes=[8, 16], depths=[1, 1], image_size=32
        )
    if kind == "resnet":
        return transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
        )
    if kind == "dinov2":
        return transformers.Dinov2Config(**VIT)
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"intermediate_size": 32, "vocab_size": 99, "max_position_embeddings": 8}
    return transformers.CLIPConfig(text_config=text, vision_config=dict(VIT), projection_dim=12)


def folder(root: Path, kind: str, **processor: Any) -> Path:
    """Save a tiny model with random weights."""
    torch.manual_seed(0)
    path = root / kind
    transformers.AutoModel.from_config(configuration(kind)).save_pretrained(path)
    settings: dict[str, Any] = {"size": {"height": 32, "width": 32}, "image_mean": [0.5, 0.4, 0.3]}
    settings |= {"image_std": [0.2, 0.3, 0.4], "do_rescale": True, "rescale_factor": 1 / 255}
    (path / "preprocessor_config.json").write_text(json.dumps(settings | processor))
    return path


def classifier(backbone: backbones.Backbone) -> FeatureClassifier:
    d = backbone.features
    return FeatureClassifier(
        backbone.network, torch.rand(d), torch.rand(6, d) / d, nn.Linear(6, 3)
    ).eval()


KINDS = {"vit": 16, "convnext": 16, "resnet": 16, "dinov2": 16, "clip": 12}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_a_backbone_that_is_saved_and_loaded(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder(tmp_path, kind)
    backbone = backbones.load(f"hf:{path}")
    assert (backbone.image, backbone.features) == ((3, 32, 32), KINDS[kind])
    model, x = classifier(backbone), torch.rand(4, 3, 32, 32)
    file = tmp_path / "m.safetensors"
    save(model, ModelCard(("a", "b", "c"), backbone.image, backbone.name), file)
    path.rename(tmp_path / "away")  # the file alone must do
    monkeypatch.setattr(hub, "fetch", None)
    again = load(file)
    torch.testing.assert_close(dfal.predict(again.network, x), dfal.predict(model, x))
    assert "id2label" not in json.dumps(again.card.recipe)


@pytest.mark.parametrize("kind", ["vit", "convnext"])
def test_features_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    path, x = folder(tmp_path, kind), torch.rand(2, 3, 32, 32)
    model = transformers.AutoModel.from_pretrained(path).eval()
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    normalised = (x - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        expected = model(pixel_values=normalised).pooler_output
        torch.testing.assert_close(backbones.load(f"hf:{path}").network(x), expected)


@pytest.mark.filterwarnings("ignore")  # of PyTorch's exporter, about itself
@pytest.mark.parametrize("kind", ["vit", "convnext"])
def test_the_onnx_of_a_model_computes_the_same(kind: str, tmp_path: Path) -> None:
    import onnxruntime

    backbone = backbones.load(f"hf:{folder(tmp_path, kind)}")
    model, x = classifier(backbone), torch.rand(3, 3, 32, 32)
    card = ModelCard(("a", "b", "c"), backbone.image, backbone.name)
    save_onnx(model, card, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    found = torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0])
    torch.testing.assert_close(found, dfal.predict(model, x), rtol=1e-3, atol=1e-4)


def test_gradients_reach_the_image_and_the_weights(tmp_path: Path) -> None:
    backbone = backbones.load(f"hf:{folder(tmp_path, 'vit')}")
    x = torch.rand(2, 3, 32, 32)
    assert (dfal.DeepFool()(classifier(backbone), x).distance > 0).all()
    network = backbone.trainable()
    network(x).sum().backward()
    assert any(parameter.grad is not None for parameter in network.parameters())


def test_another_size_interpolates_position_embeddings(tmp_path: Path) -> None:
    path = folder(tmp_path, "vit")
    backbone = backbones.load(f"hf:{path}", (3, 48, 40))
    model, x = classifier(backbone), torch.rand(2, 3, 48, 40)
    file = tmp_path / "m.safetensors"
    save(model, ModelCard(("a", "b", "c"), backbone.image, backbone.name), file)
    torch.testing.assert_close(dfal.predict(load(file).network, x), dfal.predict(model, x))
    with pytest.raises(DfalError, match="cannot take images of 3 channels, 4 × 4 pixels"):
        backbones.load(f"hf:{folder(tmp_path, 'convnext')}", (3, 4, 4)).network(x)


@pytest.mark.parametrize(
    ("processor", "image", "mean", "std"),
    [
        ({"size": 24, "do_normalize": False}, (3, 24, 24), [0.0], [1.0]),
        (
            {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
            None,
            None,
            None,
        ),
        ({"rescale_factor": 1 / 127.5, "image_mean": 1, "image_std": 1}, None, [0.5], [0.5]),
        (
            {"do_rescale": False, "image_mean": 127, "image_std": 128},
            None,
            [127 / 255],
            [128 / 255],
        ),
    ],
)
def test_size_and_normalisation_come_from_the_image_processor(
    processor: dict[str, Any], image: Any, mean: Any, std: Any, tmp_path: Path
) -> None:
    backbone = backbones.load(f"hf:{folder(tmp_path, 'convnext', **processor)}")
    network: Any = backbone.network
    assert backbone.image == (image or (3, 32, 32))
    expected = [0.5, 0.4, 0.3] if mean is None else mean
    assert network.mean.flatten().tolist() == pytest.approx(expected)
    assert network.std.flatten().tolist() == pytest.approx([0.2, 0.3, 0.4] if std is None else std)


def test_a_pickle_and_code_of_the_folder_are_refused(tmp_path: Path) -> None:
    path = folder(tmp_path, "vit")
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(DfalError, match=r"has no \*\.safetensors file"):
        backbones.load(f"hf:{path}")
    own = folder(tmp_path, "convnext")
    (own / "evil.py").write_text("raise SystemExit('this ran')")
    config = json.loads((own / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}, "model_type": "evil"}
    (own / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        DfalError, match="it must be a model of images that transformers has itself"
    ):
        backbones.load(f"hf:{own}")


def test_nothing_that_may_name_code_is_saved() -> None:
    settings = {
        "model_type": "vit",
        "auto_map": {"AutoModel": "evil.M"},
        "_attn_implementation": "evil/kernel",
        "attn_implementation": "evil/kernel",
        "vision_config": {"_name_or_path": "x", "depth": 3},
    }
    assert from_hugging_face.portable(settings) == {
        "model_type": "vit",
        "vision_config": {"depth": 3},
    }
    with pytest.raises(DfalError, match="network of another package"):
        from_hugging_face.portable({"backbone": "resnet18"})


@pytest.mark.parametrize(
    "change",
    [{"hidden_size": 10**6}, {"num_hidden_layers": 1}, {"model_type": "nothing"}, {"depth": []}],
)
def test_a_recipe_that_does_not_fit_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    backbone = backbones.load(f"hf:{folder(tmp_path, 'vit')}")
    network: Any = backbone.network
    recipe = {"config": network.recipe["config"] | change, "interpolate": False}
    if "depth" in change:
        recipe = {}
    with pytest.raises((DfalError, RuntimeError, KeyError)):
        backbones.rebuild("hf:x", backbone.image, recipe, network.state_dict())


def test_without_transformers_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(DfalError, match="needs one more package: pip install transformers"):
        backbones.load("hf:facebook/dinov2-small")


def test_a_folder_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(DfalError, match=r"there is no folder \./nowhere"):
        backbones.load("hf:./nowhere")
