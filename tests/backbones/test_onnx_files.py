"""Backbones in ONNX files: their size, normalisation and features are the graph's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import dfal
from dfal import backbones
from dfal.backbones import FeatureClassifier
from dfal.errors import DfalError
from dfal.models import ModelCard, load, save, save_onnx

WEIGHTS = np.random.default_rng(0).normal(size=(5, 3, 3, 3)).astype(np.float32)


def graph(path: Path, *, batch: int | str = "n", side: int | str = 12, **metadata: Any) -> Path:
    """Write a graph of a convolution and a mean, with a second output that is no feature."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, side, side])]
    outputs = [
        helper.make_tensor_value_info("map", TensorProto.FLOAT, [batch, 5, None, None]),
        helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, 5]),
    ]
    made = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(WEIGHTS, "w")])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.save(model, path)
    return path


def expected(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.conv2d(x, torch.from_numpy(WEIGHTS)).mean((2, 3))


@pytest.mark.parametrize("batch", ["n", 1])
def test_a_graph_is_a_backbone(batch: int | str, tmp_path: Path) -> None:
    file = graph(tmp_path / "f.onnx", batch=batch)
    backbone = backbones.load(f"onnx:{file}")
    assert (backbone.image, backbone.features) == ((3, 12, 12), 5)
    x = torch.rand(4, 3, 12, 12)
    torch.testing.assert_close(backbone.network(x), expected(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(DfalError, match="cannot be fine-tuned: an ONNX graph has no gradients"):
        backbone.trainable()


def test_normalisation_comes_from_the_metadata(tmp_path: Path) -> None:
    file = graph(tmp_path / "f.onnx", mean=[0.5, 0.4, 0.3], std=0.5)
    x = torch.rand(4, 3, 12, 12)
    mean = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)
    found = backbones.load(f"onnx:{file}").network(x)
    torch.testing.assert_close(found, expected((x - mean) / 0.5), rtol=1e-4, atol=1e-5)


def test_a_graph_for_any_size_takes_the_wanted_one(tmp_path: Path) -> None:
    file = graph(tmp_path / "f.onnx", side="s")
    assert backbones.load(f"onnx:{file}").image == (3, 224, 224)
    assert backbones.load(f"onnx:{file}", (3, 20, 30)).image == (3, 20, 30)
    fixed = graph(tmp_path / "g.onnx")
    with pytest.raises(DfalError, match="cannot take images of 3 channels, 20 × 30 pixels"):
        backbones.load(f"onnx:{fixed}", (3, 20, 30))


def test_the_graph_travels_in_the_saved_model(tmp_path: Path) -> None:
    file = graph(tmp_path / "f.onnx", mean=0.5, std=0.25)
    backbone = backbones.load(f"onnx:{file}")
    model = FeatureClassifier(
        backbone.network, torch.rand(5), torch.rand(4, 5), torch.nn.Linear(4, 2)
    )
    card = ModelCard(("a", "b"), backbone.image, backbone.name)
    save(model, card, tmp_path / "m.safetensors")
    file.unlink()
    again = load(tmp_path / "m.safetensors").network
    x = torch.rand(3, 3, 12, 12)
    torch.testing.assert_close(dfal.predict(again, x), dfal.predict(model, x))
    with pytest.raises(DfalError, match="no gradient"):
        dfal.DeepFool()(again, x)
    with pytest.raises(DfalError, match="is an ONNX graph itself: save"):
        save_onnx(again, card, tmp_path / "m.onnx")


def test_files_that_are_no_graph_of_features(tmp_path: Path) -> None:
    with pytest.raises(DfalError, match="there is no file"):
        backbones.load(f"onnx:{tmp_path / 'none.onnx'}")
    (tmp_path / "bad.onnx").write_bytes(b"hello")
    with pytest.raises(DfalError, match="it must be one ONNX file, with its weights inside"):
        backbones.load(f"onnx:{tmp_path / 'bad.onnx'}")
    model = onnx.load(graph(tmp_path / "f.onnx"))
    model.graph.input[0].type.tensor_type.shape.dim.pop()
    onnx.save(model, tmp_path / "three.onnx")
    with pytest.raises(DfalError, match="onnx"):
        backbones.load(f"onnx:{tmp_path / 'three.onnx'}")


@pytest.mark.parametrize(
    "weights",
    [
        {},
        {"network.onnx_content": torch.zeros(5)},
        {"network.onnx_content": torch.zeros(5, dtype=torch.uint8)},
    ],
)
def test_a_damaged_graph_of_a_saved_model_is_refused(weights: dict[str, torch.Tensor]) -> None:
    with pytest.raises((DfalError, RuntimeError)):
        backbones.rebuild("onnx:f.onnx", (3, 12, 12), {}, weights)


def test_without_onnxruntime_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(DfalError, match="needs one more package: pip install onnxruntime"):
        backbones.load(f"onnx:{graph(tmp_path / 'f.onnx')}")
