"""The paper's networks layer by layer, and looking into any other."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.nn.dropout import only_dropout_on, shared_dropout_mask, stochastic_forward
from dfal.nn.features import last_linear
from dfal.nn.inference import check_logits, frozen_eval, logits, prepare_images
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


def test_features_are_the_input_of_the_last_linear_layer_that_runs(
    trained: nn.Sequential, some_digits: Tensor
) -> None:
    found = dfal.features(trained, some_digits)
    assert found.shape == (48, 10)
    torch.testing.assert_close(trained[-1](found), dfal.predict(trained, some_digits))

    class Shuffled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(5, 2), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(self.first(x).relu())
            return out

    model = Shuffled()
    x = torch.randn(6, 4)
    torch.testing.assert_close(dfal.features(model, x), model.first(x).relu())
    assert not model.last._forward_pre_hooks


def test_features_of_a_network_without_linear_layer_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 28), nn.Flatten())
    with pytest.raises(dfal.DfalError, match=r"runs no nn\.Linear"):
        dfal.features(model, torch.rand(2, 1, 28, 28))


def test_only_dropout_on_leaves_batch_norm_alone_and_puts_everything_back() -> None:
    model = nn.Sequential(
        nn.Linear(8, 8), norm := nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Dropout(0.0)
    ).train()
    model[1].eval()
    with pytest.raises(RuntimeError, match="stop"), only_dropout_on(model):
        assert [layer.training for layer in model] == [False, False, True, False]
        first, second = model(torch.ones(4, 8)), model(torch.ones(4, 8))
        assert not torch.equal(first, second)
        raise RuntimeError("stop")
    assert [layer.training for layer in model] == [True, False, True, True]
    assert norm.num_batches_tracked is not None
    assert int(norm.num_batches_tracked) == 0


def test_only_dropout_on_refuses_a_network_without_live_dropout() -> None:
    with (
        pytest.raises(dfal.DfalError, match="no dropout layer with p > 0"),
        only_dropout_on(nn.Sequential(nn.Dropout(0.0))),
    ):
        pass


def test_looking_is_in_evaluation_mode_without_parameter_gradients() -> None:
    model = dfal.lenet5().train()
    with frozen_eval(model):
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_one_logit_becomes_two() -> None:
    out = logits(nn.Linear(3, 1), torch.zeros(4, 3))
    assert out.shape == (4, 2)
    assert (out[:, 0] == 0).all()
    torch.testing.assert_close(out.softmax(1)[:, 1], out[:, 1].sigmoid())


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (nn.Identity(), r"shape \(N, C\) for N = 2 images, but it returned \(2, 1, 4, 4\)"),
        (nn.Sequential(nn.Flatten(0), nn.Linear(32, 3)), r"returned \(3,\)"),
        (nn.LSTM(4, 4), "returned tuple|batched"),
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Softmax(1)), "returns probabilities"),
    ],
)
def test_what_is_no_logits_is_refused(model: nn.Module, sentence: str) -> None:
    images = torch.rand(2, 4, 4) if isinstance(model, nn.LSTM) else torch.rand(2, 1, 4, 4)
    with pytest.raises(dfal.DfalError, match=sentence):
        logits(model, images)


def test_predict_is_chunked_and_the_same() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3)).train()
    images = torch.rand(10, 1, 4, 4)
    torch.testing.assert_close(dfal.predict(model, images, chunk=3), dfal.predict(model, images))
    assert model.training


def test_build_finds_networks_by_name() -> None:
    assert build("vgg8", (3, 32, 32), 4)(torch.rand(1, 3, 32, 32)).shape == (1, 4)
    assert build("dfal.nn.networks:lenet5", (1, 20, 20), 4)(torch.rand(1, 1, 20, 20)).shape == (
        1,
        4,
    )


def test_other_outputs_than_a_tensor_are_refused_with_the_way_out() -> None:
    f = torch.rand(2, 3)
    with pytest.raises(
        dfal.DfalError, match=r"but it returned tuple: wrap it in a module that returns out\[0\]"
    ):
        check_logits((f, f), 2)


class Wrapped(nn.Module):
    """No chain of known layers: it goes through autograd, with PyTorch's own errors."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        return out


@pytest.mark.parametrize(
    "look",
    [dfal.predict, dfal.features, dfal.DeepFool(), dfal.FGSM(), dfal.LinearHead()],
    ids=["predict", "features", "DeepFool", "FGSM", "LinearHead"],
)
def test_images_that_the_network_cannot_take_are_one_sentence(look: Callable[..., object]) -> None:
    for model in (dfal.lenet5(), Wrapped(dfal.lenet5())):
        with pytest.raises(
            dfal.DfalError,
            match=r"cannot take images of shape \(28, 28, 1\) .* images.permute\(0, 3, 1, 2\)",
        ):
            look(model, torch.rand(2, 28, 28, 1))
        assert look(model.double(), torch.rand(2, 1, 28, 28)) is not None


def test_images_that_are_no_floating_point_tensor_are_refused() -> None:
    with pytest.raises(dfal.DfalError, match=r"they are torch.uint8: try images.float\(\) / 255"):
        prepare_images(dfal.lenet5(), torch.zeros(2, 1, 28, 28, dtype=torch.uint8))
    with pytest.raises(dfal.DfalError, match=r"they are ndarray: try torch.as_tensor"):
        prepare_images(dfal.lenet5(), np.zeros((2, 1, 28, 28)))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("lenet", "there is no network 'lenet': did you mean 'lenet5'?"),
        ("no_such_module:net", "cannot be found"),
        ("dfal.nn.networks:no_such", "cannot be found"),
        ("dfal.nn.networks:", "cannot be found"),
        ("builtins:dict", "returned dict, but a torch.nn.Module is needed"),
    ],
)
def test_what_is_no_network_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(dfal.DfalError, match=sentence):
        build(name, (1, 28, 28), 10)


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


def test_one_mask_is_the_same_for_all_images_and_for_the_same_seed() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Flatten())
    ones = torch.ones(6, 1, 8, 8)
    with shared_dropout_mask(model, 3):
        first, again = model(ones), model(ones[:2])
    assert (first == first[0]).all()
    assert torch.equal(again, first[:2])
    assert set(first.unique().tolist()) == {0.0, 2.0}
    with shared_dropout_mask(model, 3):
        assert torch.equal(model(ones), first)
    with shared_dropout_mask(model, 4):
        assert not torch.equal(model(ones), first)
    assert torch.equal(model.eval()(ones), ones.flatten(1)), "the hooks are gone"


def test_one_mask_drops_whole_channels_where_the_layer_does() -> None:
    with shared_dropout_mask(model := nn.Sequential(nn.Dropout2d(0.5), nn.Flatten(2)), 0):
        seen = model(torch.ones(3, 32, 4, 4))
    assert (seen == seen[:, :, :1]).all()
    assert len(seen.unique()) == 2


def test_layers_of_one_network_have_masks_of_their_own() -> None:
    with shared_dropout_mask(
        model := nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5), nn.Flatten()), 0
    ):
        seen = model(torch.ones(1, 1, 32, 32))
    assert set(seen.unique().tolist()) == {0.0, 4.0}
    assert 0.15 < float((seen > 0).float().mean()) < 0.35


def test_one_mask_refuses_dropout_that_has_no_mask() -> None:
    with (
        pytest.raises(dfal.DfalError, match="AlphaDropout does not multiply by a mask"),
        shared_dropout_mask(nn.AlphaDropout(0.5), 0),
    ):
        pass


def test_the_ending_is_weights_features_and_logits(
    trained: nn.Sequential, some_digits: Tensor
) -> None:
    end = last_linear(trained, some_digits)
    assert end.layer is trained[-1]
    torch.testing.assert_close(
        end.features @ end.weight.T + end.bias, dfal.predict(trained, some_digits)
    )


def test_features_are_chunked_and_the_same(trained: nn.Sequential, some_digits: Tensor) -> None:
    torch.testing.assert_close(
        dfal.features(trained, some_digits, chunk=7), dfal.features(trained, some_digits)
    )


def test_a_linear_layer_that_sees_no_row_an_image_gives_no_features() -> None:
    model = nn.Sequential(nn.Flatten(0), nn.Linear(32, 6), nn.Unflatten(0, (2, 3)))
    with pytest.raises(dfal.DfalError, match="give it one row an image"):
        dfal.features(model, torch.rand(2, 1, 4, 4))


def test_passes_differ_by_their_dropout_alone(trained: nn.Sequential, some_digits: Tensor) -> None:
    class Hidden(nn.Module):
        """The same network, but no chain."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = trained

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.inner(x)
            return out

    images = some_digits[:4].repeat(40, 1, 1, 1)
    with torch.random.fork_rng(), only_dropout_on(trained):
        torch.manual_seed(0)
        by_chain, by_module = (
            stochastic_forward(trained, images, 50),
            stochastic_forward(Hidden(), images, 50),
        )
    assert by_chain.shape == (50, 160, 10)
    for found in (by_chain, by_module):
        assert not torch.equal(found[0], found[1])
        assert not torch.equal(found[0, :4], found[0, 4:8]), "every image has its own mask"
    mean, other = (found.reshape(2000, 4, 10).mean(0) for found in (by_chain, by_module))
    spread = by_module.reshape(2000, 4, 10).std(0) / 2000**0.5
    assert ((mean - other).abs() < 6 * spread).all()
    torch.testing.assert_close(
        by_chain.reshape(2000, 4, 10).std(0),
        by_module.reshape(2000, 4, 10).std(0),
        rtol=0.15,
        atol=0,
    )
    with frozen_eval(trained):
        still = stochastic_forward(trained, images[:4], 3)
    torch.testing.assert_close(still[2], dfal.predict(trained, images[:4]), rtol=1e-4, atol=1e-4)
