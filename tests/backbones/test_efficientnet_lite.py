"""EfficientNet-Lite with its ImageNet weights sees what it was trained to see."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor, nn
from torch.nn import functional as F

from dfal import backbones
from dfal.backbones.base import reduced_precision
from dfal.backbones.efficientnet_lite import (
    EfficientNetLite,
    InvertedResidual,
    SameConv2d,
    weights_file,
)
from dfal.errors import DfalError

NAMES = ("lite0", "lite2")


@pytest.fixture(scope="module", params=NAMES)
def backbone(request: pytest.FixtureRequest) -> backbones.Backbone:
    return backbones.load(request.param)


def pictures(side: int) -> Tensor:
    """A palace and a flower, in [0, 1]."""
    images = [load_sample_image(name)[:, 106:533] for name in ("china.jpg", "flower.jpg")]
    small = [
        Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC) for image in images
    ]
    return (
        torch.from_numpy(np.stack([np.asarray(image) for image in small]))
        .permute(0, 3, 1, 2)
        .float()
        .div(255)
    )


LOGITS = {
    "lite0": [
        {698: 8.068585, 442: 7.762991, 663: 6.999963},  # palace, bell cote, monastery
        {985: 7.152187, 947: 6.460807, 309: 5.618831},  # daisy, mushroom, bee
    ],
    "lite2": [
        {698: 6.768691, 442: 5.531885, 483: 4.946786},  # palace, bell cote, castle
        {599: 6.863107, 310: 4.921220, 309: 4.715229},  # honeycomb, ant, bee
    ],
}
"""The largest three by class of ImageNet, computed with efficientnet-lite-pytorch 0.1.0 of images
that were normalised as (pixel − 127) / 128."""


def test_the_logits_of_photographs_are_those_of_the_reference(
    backbone: backbones.Backbone,
) -> None:
    file = weights_file(backbone.name)
    assert file is not None
    layer = torch.load(file, weights_only=True)
    x = pictures(backbone.image[1])
    with torch.no_grad():
        logits = backbone.network(x) @ layer["_fc.weight"].T + layer["_fc.bias"]
    for row, expected in zip(logits, LOGITS[backbone.name], strict=True):
        assert row.topk(3).indices.tolist() == list(expected)
        assert row.topk(3).values.tolist() == pytest.approx(list(expected.values()), abs=1e-3)


def test_a_smaller_size_is_honoured(backbone: backbones.Backbone) -> None:
    small = backbones.load(backbone.name, (3, 97, 130))
    assert small.image == (3, 97, 130)
    assert small.network(torch.rand(2, *small.image)).shape == (2, 1280)


def test_the_form_to_train_computes_the_same_features(backbone: backbones.Backbone) -> None:
    x = torch.rand(2, 3, 64, 64)
    network = backbone.trainable()
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in backbone.network.modules())
    assert not any(parameter.requires_grad for parameter in backbone.network.parameters())
    with torch.no_grad():
        expected = network.eval()(x)
        torch.testing.assert_close(backbone.network(x), expected, rtol=1e-3, atol=1e-4)
    network.train()(x).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_what_was_trained_folds_to_the_same_features() -> None:
    network = EfficientNetLite(1.0, 1.0)
    for _ in range(3):
        network(torch.rand(8, 3, 64, 64))
    folded, x = network.fold(), torch.rand(2, 3, 64, 64)
    assert (network.recipe, folded.recipe) == ({"folded": False}, {"folded": True})
    assert network.training
    with torch.no_grad():
        torch.testing.assert_close(folded(x), network.eval()(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("side", range(5, 13))
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_padding_keeps_the_rounded_up_size(side: int, kernel: int, stride: int) -> None:
    layer = SameConv2d(2, 2, kernel, stride, groups=2)
    x = torch.rand(1, 2, side, side)
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    before, after = total // 2, total - total // 2
    padded = F.pad(x, (before, after, before, after))
    expected = F.conv2d(padded, layer.weight, layer.bias, stride, groups=2)
    assert expected.shape[-1] == -(-side // stride)
    torch.testing.assert_close(layer(x), expected)


def test_a_block_adds_its_input_where_it_fits() -> None:
    x = torch.rand(1, 8, 6, 6)
    block = InvertedResidual(8, 8, 3, 1, 6, folded=True)
    for parameter in block._project_conv.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(block(x), x)
    assert InvertedResidual(8, 8, 3, 2, 6, folded=True)(x).shape == (1, 8, 3, 3)


@pytest.mark.parametrize("supported", [True, False])
def test_features_in_reduced_precision_point_the_same_way(
    backbone: backbones.Backbone, supported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: supported)
    x = pictures(128)
    exact = backbone.network(x)
    with reduced_precision(backbone.network, x.device):
        found = backbone.network(x).float()
    assert F.cosine_similarity(found, exact).min() > 0.99
    assert torch.equal(found, exact) is not supported
    with reduced_precision(nn.Conv2d(3, 4, 3), x.device):  # of no known network
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("name", NAMES)
def test_without_the_package_one_sentence_says_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    with pytest.raises(DfalError, match=rf"{name} needs .*: pip install 'dfal\[photos\]'"):
        backbones.load(name)
