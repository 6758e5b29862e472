"""Models as ONNX give the same logits, or one sentence says why they cannot."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.errors import DfalError
from dfal.models import (
    ModelCard,
    save_onnx,
)
from saved_models import DIGITS, one_logit


@pytest.mark.filterwarnings("ignore")  # of PyTorch's exporter, about itself
@pytest.mark.parametrize("kind", ["lenet5", "one logit"])
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
        found = session.run(["logits"], {"images": images[:n].numpy()})[0]
        wanted = dfal.predict(network, images[:n])
        assert np.abs(found - wanted.numpy()).max() < 1e-4
        assert found.argmax(1).tolist() == wanted.argmax(1).tolist()
    told = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(told["classes"])) == card.classes
    assert json.loads(told["dfal"])["annotations"] == card.annotations
    assert "temperature" not in told
    save_onnx(network, replace(card, temperature=1.5), tmp_path / "two.onnx")
    told = onnxruntime.InferenceSession(tmp_path / "two.onnx").get_modelmeta().custom_metadata_map
    assert (float(told["temperature"]), json.loads(told["dfal"])["temperature"]) == (1.5, 1.5)
    network.eval()


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
        (
            Undecided,
            (
                r"it decides by the values of an image \(in test_onnx.py, line \d+\), .* use"
                r" torch.where or a mask"
            ),
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
