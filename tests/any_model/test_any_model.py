"""The functions of docs/any-model.md, with random weights, in everything that takes a network.

They need torchvision, timm, transformers and foolbox: `make any-model`.
"""

import contextlib
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import dfal
from dfal import backbones, models
from dfal.attacks import ATTACKS
from dfal.experiments.store import Store
from dfal.labelling.learning.model_file import model_path
from dfal.labelling.learning.trainer import Trainer
from dfal.labelling.photos import Photos
from dfal.labelling.setup import open_session
from dfal.nn.networks import build
from dfal.strategies import STRATEGIES
from shell import Shell

pytestmark = [
    pytest.mark.any_model,
    # Other packages warn of what they will change.
    pytest.mark.filterwarnings("default"),
]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "any-model.md"
PACKAGES = ("foolbox", "timm", "torchvision", "transformers")
SMALL = (3, 32, 32)
SIZES = {
    "resnet": (3, 224, 224),
    "torchvision_vit": (3, 32, 32),
    "frozen_vit": (3, 224, 224),
    "hugging_face_vit": (3, 48, 48),
    "convnext": (3, 64, 64),
}
"""The networks of the page, each with the images that it is shown by `dfal label`."""
TAKES_SMALL = ["resnet", "torchvision_vit", "convnext"]
"""Those that take images of 32 × 32."""
WITHOUT_DROPOUT = {"bald", "batch-bald", "power-bald"}
"""Strategies that need dropout."""
SLOW = {"egl", "egl-released"}
"""Strategies with a backward pass an image and class: not tried at 224 pixels."""
CHECKPOINT = "resnet18-f37072fd.pth"

every = pytest.mark.parametrize("name", SIZES)


@pytest.fixture(scope="module", autouse=True)
def networks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The module of the page, beside weights that are random in place of downloaded ones."""
    for package in PACKAGES:
        pytest.importorskip(package, reason=f"{package} is not installed: make any-model")
    torchvision = pytest.importorskip("torchvision")
    transformers = pytest.importorskip("transformers")

    folder = tmp_path_factory.mktemp("any-model")
    text = "\n".join(re.findall(r"^```python\n(?!>>>)(.*?)^```", PAGE.read_text(), re.M | re.S))
    assert text.count("pretrained=True") == 1
    (folder / "networks.py").write_text(text.replace("pretrained=True", "depth=2, drop_rate=0.1"))
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.syspath_prepend(folder)
        patch.setenv("TORCH_HOME", str(folder / "torch"))
        patch.setenv("PYTHONPATH", str(folder), prepend=":")
        checkpoints = folder / "torch" / "hub" / "checkpoints"
        checkpoints.mkdir(parents=True)
        torch.save(torchvision.models.resnet18().state_dict(), checkpoints / CHECKPOINT)
        config = transformers.ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=48,
            patch_size=12,
            num_labels=1000,
            hidden_dropout_prob=0.1,
        )
        transformers.ViTForImageClassification(config).save_pretrained(folder / "my-vit")
        sys.modules.pop("networks", None)
        yield importlib.import_module("networks")
        sys.modules.pop("networks", None)


@pytest.fixture(autouse=True)
def beside_the_weights(networks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(networks.__file__).parent)


def made(name: str, image: tuple[int, int, int] | None = None, classes: int = 4) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(f"networks:{name}", image or SIZES[name], classes).eval()
        for parameter in model.parameters():  # a head of zeros has no boundary
            if parameter.ndim > 1 and not parameter.any():
                nn.init.normal_(parameter, std=0.1)
    return model


def noise(n: int, image: tuple[int, int, int]) -> Tensor:
    return torch.rand(n, *image, generator=torch.Generator().manual_seed(0))


@every
def test_every_strategy_queries_with_it(name: str) -> None:
    image = SMALL if name in TAKES_SMALL else SIZES[name]
    model, has_dropout = made(name, image), name not in {"resnet", "convnext"}
    pool = dfal.Pool.new(noise(16, image), {0: 0, 1: 1, 2: 3})
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for strategy in STRATEGIES:
        if strategy in SLOW and image[1] > 100:
            continue
        if strategy in WITHOUT_DROPOUT and not has_dropout:
            with pytest.raises(dfal.DfalError, match="no dropout layer"):
                STRATEGIES[strategy](model, pool, 3, dfal.generator(0, 0, "select"))
            continue
        query = STRATEGIES[strategy](model, pool, 3, dfal.generator(0, 0, "select"))
        pool.validate(query, 3)
        assert query.scores.isfinite().all(), strategy
    assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())


@every
def test_attacks_flip_its_class(name: str) -> None:
    image = SMALL if name in TAKES_SMALL else SIZES[name]
    model, images = made(name, image), noise(4, image)
    own = dfal.predict(model, images).argmax(1)
    found = dfal.DeepFool()(model, images)
    assert found.fooled.all()
    assert (dfal.predict(model, found.images).argmax(1) != own).all()
    for attack in ATTACKS:
        assert ATTACKS[attack]()(model, images).distance.shape == (4,)


class AsPixelsTo4096(nn.Module):
    """The same network for pixels from 0 to 4096, with logits as much larger.

    Foolbox adds 1e-4 to each step, which is nothing there.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        out = self.model(images / 4096)
        return getattr(out, "logits", out) * 4096


@every
def test_distances_are_those_of_foolbox(name: str) -> None:
    foolbox = pytest.importorskip("foolbox")

    image = SMALL if name in TAKES_SMALL else SIZES[name]
    model = AsPixelsTo4096(made(name, image).double()).eval()
    images = noise(4, image).double() * 4096
    own = dfal.predict(model, images).argmax(1)
    ours = dfal.DeepFool(overshoot=0.02)(model, images)
    attack = foolbox.attacks.L2DeepFoolAttack(steps=50, candidates=4, overshoot=0.02)
    # Bounds so wide clip nothing.
    bounded = foolbox.PyTorchModel(model, bounds=(-1e9, 1e9), device="cpu")
    _, theirs, _ = attack(bounded, images, foolbox.criteria.Misclassification(own), epsilons=None)
    assert ours.fooled.all()
    ours_length, their_length = (
        (moved - images).flatten(1).norm(dim=1) for moved in (ours.images, theirs)
    )
    torch.testing.assert_close(ours_length, their_length, rtol=1e-4, atol=0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 photographs of two classes, some brighter and some darker, in sub-folders."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for place in range(24):
        label = ("dark", "light")[place % 2]
        (folder / label).mkdir(exist_ok=True)
        pixels = rng.integers(0, 100, (40, 50, 3)) + (120 if label == "light" else 0)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{place:02}.png")
    return folder


@every
def test_label_shows_it_its_own_size_and_what_is_saved_predicts(
    name: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store, model = tmp_path / "labels.db", f"networks:{name}"
    options = {"model": model, "epochs": 3, "candidates": 6, "strategy": "dfal"}
    with contextlib.ExitStack() as stack:
        session, folder = open_session(stack, photos, store, options=options)
        c, h, w = SIZES[name]
        assert folder.shape == (h, w, c)
        list(folder.decode())
        trainer = Trainer(session, Photos(session, folder))
        network = trainer.train()
        assert (len(trainer._learner.images().shape) == 1) == (name == "frozen_vit")
        images = folder.images.take(torch.arange(4))
        saved = models.load(model_path(store), model)
        assert saved.card.image == SIZES[name]
        torch.testing.assert_close(
            dfal.predict(saved.network, images), dfal.predict(network, images)
        )
        if name == "frozen_vit":
            fresh = build(model, SIZES[name], 2)
            changed = {
                key.rpartition(".")[0].rpartition(".")[2]
                for key, tensor in network.state_dict().items()
                if not torch.equal(tensor, fresh.state_dict()[key])
            }
            assert "head" in changed


def test_size_overrides_it(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with contextlib.ExitStack() as stack:
        options = {"model": "networks:resnet", "size": 48}
        _, folder = open_session(stack, photos, tmp_path / "labels.db", options=options)
        assert folder.shape == (48, 48, 3)
    with contextlib.ExitStack() as stack, pytest.raises(dfal.DfalError) as error:
        options = {"model": "networks:frozen_vit", "size": 48}
        open_session(stack, photos, tmp_path / "others.db", options=options)
    assert "cannot take images of shape (3, 48, 48) (Input height (48)" in str(error.value)
    assert not (tmp_path / "others.db").exists()


@pytest.mark.parametrize("name", TAKES_SMALL)
def test_run_compares_strategies_with_it(name: str, tmp_path: Path, dfal: Shell) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = rng.integers(0, 100, (60, 32, 32, 3)) + 120 * labels[:, None, None, None]
    np.savez(
        tmp_path / "data.npz",
        images=images[:40].astype(np.uint8),
        labels=labels[:40],
        test_images=images[40:].astype(np.uint8),
        test_labels=labels[40:],
    )
    run = ["run", "--dataset", str(tmp_path / "data.npz"), "--model", f"networks:{name}"]
    run += ["--strategy", "dfal,entropy,core-set,badge", "--annotations", "12", "--first", "6"]
    run += ["--batch", "6", "--seeds", "1", "--epochs", "2", "--processes", "1", "--quiet"]
    with contextlib.chdir(Path(sys.modules["networks"].__file__ or "").parent):
        done = dfal(*run, "--store", str(tmp_path / "study.db"))
    assert done.code == 0, done.err
    with Store(tmp_path / "study.db") as store:
        assert [len(records) for records in map(store.records, store.trials())] == [2] * 4


@pytest.mark.parametrize("name", ["resnet", "hugging_face_vit", "convnext"])
def test_onnx_computes_the_same(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")

    image = SMALL if name in TAKES_SMALL else SIZES[name]
    model = made(name, image)
    card = models.ModelCard(classes=tuple("abcd"), image=image, network=f"networks:{name}")
    models.save_onnx(model, card, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    images = noise(3, image)
    (logits, *_) = session.run(["logits"], {"images": images.numpy()})
    torch.testing.assert_close(
        torch.from_numpy(logits), dfal.predict(model, images), rtol=1e-3, atol=1e-3
    )


HALVES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "bfloat16": lambda model: model.bfloat16(),
    "float16": lambda model: model.half(),
}


@every
@pytest.mark.parametrize("half", HALVES)
def test_half_precision(half: str, name: str) -> None:
    image = SMALL if name in TAKES_SMALL else SIZES[name]
    exact = made(name, image)
    model, images = HALVES[half](made(name, image)), noise(6, image)
    want, found = dfal.DeepFool()(exact, images), dfal.DeepFool()(model, images)
    assert found.fooled.all()
    assert float((found.distance / want.distance - 1).abs().median()) < 0.1
    data = dfal.Pool.new(images, {0: 0, 1: 1, 2: 2}).labelled_data()
    trained = dfal.fit(
        lambda: HALVES[half](made(name, image)), data, dfal.Training(epochs=2), seed=0
    )
    assert dfal.predict(trained, images).isfinite().all()


def test_the_size_of_the_images_is_one_sentence_for_every_library() -> None:
    for name in ("torchvision_vit", "frozen_vit", "hugging_face_vit"):
        for look in (dfal.predict, dfal.features, dfal.DeepFool()):
            with pytest.raises(dfal.DfalError, match=r"cannot take images of shape \(3, 40, 40\)"):
                look(made(name), noise(2, (3, 40, 40)))


def test_a_body_without_a_head_says_what_it_returns() -> None:
    transformers = pytest.importorskip("transformers")

    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=32, patch_size=16
    )
    with pytest.raises(
        dfal.DfalError, match="BaseModelOutputWithPooling with last_hidden_state, pooler_output"
    ):
        dfal.predict(transformers.ViTModel(config), noise(2, SMALL))


def test_backbone_of_torchvision() -> None:
    backbone = backbones.load("torchvision:resnet18")
    assert (backbone.image, backbone.features) == ((3, 224, 224), 512)
    assert backbone.network(noise(2, backbone.image)).shape == (2, 512)


def test_backbone_of_hugging_face() -> None:
    backbone = backbones.load("hf:my-vit")
    assert (backbone.image, backbone.features) == ((3, 48, 48), 32)
    assert backbone.network(noise(2, backbone.image)).shape == (2, 32)


def test_backbone_of_hugging_face_that_is_convolutional(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")

    config = transformers.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1])
    transformers.ConvNextForImageClassification(config).save_pretrained(tmp_path / "convnext")
    backbone = backbones.load(f"hf:{tmp_path / 'convnext'}", (3, 64, 64))
    features = backbone.network(noise(2, backbone.image))
    assert features.shape == (2, backbone.features) == (2, 32)
    assert not torch.allclose(features[0], features[1])


def test_backbone_of_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    from dfal.backbones import hub

    name = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    whole = timm.create_model(name, pretrained=False).eval()
    save_file(whole.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(hub, "fetch", lambda *arguments: tmp_path)
    backbone = backbones.load(f"timm:{name}")
    assert (backbone.image, backbone.features) == ((3, 224, 224), 192)
    images = noise(2, backbone.image)
    want = whole.forward_head(whole.forward_features((images - 0.5) / 0.5), pre_logits=True)
    torch.testing.assert_close(backbone.network(images), want.detach())
    small = backbones.load(f"timm:{name}", (3, 64, 64))
    assert small.network(noise(2, small.image)).shape == (2, 192)
