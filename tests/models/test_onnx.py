"""Models as ONNX give the same logits, or one sentence says why they cannot."""

import importlib.resources
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import dfal
from dfal.errors import DfalError
from dfal.models import ModelCard, Prediction, SavedModel, label, save_onnx
from saved_models import DIGITS, one_logit

not_by_torch_2_6 = pytest.mark.skipif(
    torch.__version__.startswith("2.6."), reason="PyTorch 2.6 does not export it, or says not why"
)


@pytest.mark.filterwarnings("ignore")  # of PyTorch's exporter, about itself
@pytest.mark.parametrize("kind", ["lenet5", pytest.param("one logit", marks=not_by_torch_2_6)])
def test_the_onnx_says_the_same(
    tmp_path: Path, trained: nn.Sequential, some_digits: Tensor, kind: str
) -> None:
    import onnxruntime

    network: nn.Module = trained
    card, images = DIGITS, some_digits
    if kind == "one logit":
        card, images = ModelCard(("a", "b"), (3, 8, 8)), torch.rand(7, 3, 8, 8)
        network = one_logit((3, 8, 8), 2)
    network.train()
    save_onnx(network, card, tmp_path / "one.onnx")
    assert network.training  # the network is left as it was
    session = onnxruntime.InferenceSession(tmp_path / "one.onnx")
    for n in (1, len(images)):
        found, shares = session.run(["logits", "probabilities"], {"images": images[:n].numpy()})
        wanted = dfal.predict(network, images[:n])
        assert np.abs(found - wanted.numpy()).max() < 1e-4
        assert found.argmax(1).tolist() == wanted.argmax(1).tolist()
        assert np.abs(shares - wanted.softmax(1).numpy()).max() < 1e-5
    told = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(told["classes"])) == card.classes
    assert json.loads(told["dfal"])["annotations"] == card.annotations
    assert "temperature" not in told
    save_onnx(network, replace(card, temperature=1.5), tmp_path / "two.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "two.onnx")
    (shares,) = session.run(["probabilities"], {"images": images.numpy()})
    assert np.abs(shares - (dfal.predict(network, images) / 1.5).softmax(1).numpy()).max() < 1e-5
    told = session.get_modelmeta().custom_metadata_map
    assert (float(told["temperature"]), json.loads(told["dfal"])["temperature"]) == (1.5, 1.5)
    network.eval()


PAGE = Path(__file__).parents[2] / "docs" / "model.md"


def files_of_all_kinds(folder: Path) -> list[Path]:
    """Image files as people have them: large, small, grey, transparent, turned."""
    folder.mkdir()
    pictures = Path(str(importlib.resources.files("sklearn.datasets") / "images"))
    china, flower = (Image.open(pictures / name) for name in ("china.jpg", "flower.jpg"))
    paths = [Path(shutil.copy(pictures / name, folder)) for name in ("china.jpg", "flower.jpg")]

    def save(image: Image.Image, name: str, **options: Any) -> None:
        image.save(folder / name, **options)
        paths.append(folder / name)

    save(china.resize((1920, 1280)), "large.jpg", quality=90)
    save(china.crop((200, 0, 440, 420)), "portrait.png")
    save(flower.convert("L"), "grey.png")
    save(flower.resize((40, 90)), "small.webp", lossless=True)
    save(china.resize((48, 40)), "exact.png")
    clear = flower.resize((300, 200)).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize((300, 200)))
    save(clear, "transparent.png")
    save(flower.quantize(32), "palette.gif")
    for turn in (3, 6, 8):
        exif = Image.Exif()
        exif[274] = turn
        save(china.resize((900, 500)), f"turned-{turn}.jpg", exif=exif, quality=95)
    return paths


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("channels", [1, 3])
def test_other_programs_read_files_by_the_metadata_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    """The program in docs/model.md gives what `dfal predict` gives."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(channels)
    card = ModelCard(("=a", "b", "ü"), (channels, 40, 48), temperature=0.05)
    network = dfal.lenet5((channels, 40, 48), 3)
    save_onnx(network, card, Path("photos.onnx"))
    paths = files_of_all_kinds(tmp_path / "files")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    (program,) = (block for block in blocks if "onnxruntime" in block)
    reader: dict[str, Any] = {}
    exec(program, reader)
    predicted = list(label(SavedModel(network.eval(), card), paths))
    confidences = {one.confidence for one in predicted if isinstance(one, Prediction)}
    assert max(confidences) - min(confidences) > 0.2, "all look alike: the test says nothing"
    for path, wanted in zip(paths, predicted, strict=True):
        assert isinstance(wanted, Prediction), wanted
        found, confidence = reader["predict"](path)
        assert (found, confidence) == (wanted.label, pytest.approx(wanted.confidence, abs=1e-3))


def test_without_the_extra_onnx_says_what_to_install(
    tmp_path: Path, trained: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DfalError, match=r"pip install 'dfal\[onnx\]'"):
        save_onnx(trained, DIGITS, tmp_path / "one.onnx")


class Undecided(nn.Module):
    """A network that cannot be exported: it looks at what it sees."""

    def forward(self, images: Tensor) -> Tensor:
        if images.sum() > 3:
            return images.flatten(1)[:, :2]
        return -images.flatten(1)[:, :2] - 1


class Strange(nn.Module):
    """A network with an operation that ONNX does not have."""

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = torch.special.zeta(images + 2, images + 1).flatten(1)[:, :2]
        return out


class OneByOne(nn.Module):
    """A network that looks at one image after the other: PyTorch makes a graph for two images of
    it, and says nothing."""

    def forward(self, images: Tensor) -> Tensor:
        return (
            torch.cat([images[place : place + 1].flatten(1)[:, :2] for place in range(len(images))])
            - 1
        )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("network", "cure"),
    [
        pytest.param(
            Undecided,
            (
                r"it decides by the values of an image \(in test_onnx.py, line \d+\), .* use"
                r" torch.where or a mask"
            ),
            marks=not_by_torch_2_6,
        ),
        (Strange, r"ONNX has nothing for the operation .*zeta.*; put another in its place"),
        (
            OneByOne,
            (
                r"it takes one number of images only, .* let it compute with all images of a batch"
                r" at once"
            ),
        ),
    ],
)
def test_a_network_that_cannot_be_exported_is_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], network: type[nn.Module], cure: str
) -> None:
    with pytest.raises(
        DfalError, match=f"the network lenet5 cannot be exported as ONNX: {cure}"
    ) as raised:
        save_onnx(network(), ModelCard(("a", "b"), (1, 8, 8)), tmp_path / "one.onnx")
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", ""), "pages of graph"
