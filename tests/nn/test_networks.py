"""The paper's networks layer by layer, and networks made by their names."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import dfal
from dfal.nn.networks import build


def shapes(model: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(parameter.shape) for parameter in model.parameters() if parameter.ndim > 1]


def kinds(model: nn.Module) -> str:
    return " ".join(type(layer).__name__ for layer in model.modules() if not list(layer.children()))


def test_lenet5_is_the_papers() -> None:
    model = dfal.lenet5()
    assert shapes(model) == [
        (6, 1, 5, 5),
        (16, 6, 5, 5),
        (120, 16, 1, 1),
        (84, 1920),
        (10, 84),
        (10, 10),
    ]
    convolution = "Conv2d ReLU MaxPool2d Dropout"
    assert (
        kinds(model)
        == f"{convolution} {convolution} Conv2d Flatten Linear ReLU Linear Dropout Linear"
    )
    assert [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)] == [
        0.25,
        0.25,
        0.5,
    ]


def test_vgg8_is_the_papers() -> None:
    model = dfal.vgg8()
    widths = [1, 64, 128, 256, 256, 512, 512]
    assert shapes(model) == [
        *((b, a, 3, 3) for a, b in itertools.pairwise(widths)),
        (4096, 512),
        (10, 4096),
    ]
    one, two = "Conv2d ReLU MaxPool2d Dropout", "Conv2d ReLU Conv2d ReLU MaxPool2d Dropout"
    assert kinds(model) == f"{one} {one} {two} {two} Flatten Linear ReLU Dropout Linear"
    assert [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)] == [0.25] * 4 + [
        0.5
    ]


@pytest.mark.parametrize("make", [dfal.lenet5, dfal.vgg8])
def test_weights_are_glorot_uniform_and_biases_zero(make: type) -> None:
    for layer in make().modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            receptive = layer.weight[0, 0].numel() if layer.weight.ndim == 4 else 1
            bound = math.sqrt(6 / (receptive * (layer.weight.shape[0] + layer.weight.shape[1])))
            weight = layer.weight.detach()
            assert weight.abs().max() <= bound
            if weight.numel() > 1000:
                assert weight.abs().max() > 0.98 * bound
                assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)
            assert layer.bias is not None
            assert (layer.bias == 0).all()


@pytest.mark.parametrize("make", [dfal.lenet5, dfal.vgg8])
@pytest.mark.parametrize("image", [(1, 28, 28), (3, 64, 64), (3, 16, 40), (2, 33, 17)])
def test_any_image_size_and_class_count(make: type, image: tuple[int, int, int]) -> None:
    assert make(image=image, classes=7)(torch.rand(3, *image)).shape == (3, 7)


@pytest.mark.parametrize("make", [dfal.lenet5, dfal.vgg8])
def test_too_small_an_image_is_refused(make: type) -> None:
    with pytest.raises(dfal.DfalError, match="at least 16 × 16 pixels, but they are 15 × 15"):
        make(image=(1, 15, 15))


def test_build_finds_networks_by_name() -> None:
    assert build("vgg8", (3, 32, 32), 4)(torch.rand(1, 3, 32, 32)).shape == (1, 4)
    assert build("dfal.nn.networks:lenet5", (1, 20, 20), 4)(torch.rand(1, 1, 20, 20)).shape == (
        1,
        4,
    )


def wrong_names(image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Flatten()


def no_such_key(image: tuple[int, int, int], classes: int) -> nn.Module:
    sizes: dict[str, int] = {}
    return nn.Linear(sizes["sizes"], classes)


def lazy(image: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(
        nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(classes)
    )


def test_whatever_a_function_raises_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = r"fails when it is called as \w+\(image=\(1, 28, 28\), classes=10\)"
    with pytest.raises(
        dfal.DfalError,
        match=rf"wrong_names {called} \(TypeError: .*unexpected keyword argument 'image'\)$",
    ):
        build(f"{__name__}:wrong_names", (1, 28, 28), 10)
    with pytest.raises(
        dfal.DfalError, match=rf"{called} \(KeyError: 'sizes', in test_networks.py, line \d+\)$"
    ):
        build(f"{__name__}:no_such_key", (1, 28, 28), 10)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needs_more.py").write_text("import no_such_library\n")
    (tmp_path / "half_written.py").write_text("def network(\n")
    with pytest.raises(
        dfal.DfalError,
        match=r"cannot be imported \(.*'no_such_library', in needs_more.py, line 1\)",
    ):
        build("needs_more:net", (1, 28, 28), 10)
    with pytest.raises(
        dfal.DfalError, match=r"cannot be imported \(SyntaxError: .*half_written.py, line 1"
    ):
        build("half_written:net", (1, 28, 28), 10)


def test_lazy_layers_have_their_weights_and_the_mode_is_kept() -> None:
    model = build(f"{__name__}:lazy", (1, 28, 28), 10)
    assert model.training
    assert dfal.predict(model, torch.rand(2, 1, 28, 28)).shape == (2, 10)
    assert isinstance(model[1], nn.BatchNorm2d)  # type: ignore[index]
    assert model[1].num_batches_tracked == 0  # type: ignore[index]
