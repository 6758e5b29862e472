"""A model that was taken home says what it said at home, and nothing in its file is believed
unchecked."""

import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import dfal
from dfal.errors import DfalError
from dfal.models import (
    ModelCard,
    Prediction,
    SavedModel,
    label,
    load,
    predictions,
    save,
    save_onnx,
    weights,
)

DIGITS = ModelCard(
    classes=tuple("0123456789"),
    image=(1, 28, 28),
    annotations=200,
    accuracy=0.87,
    interval=(0.84, 0.9),
    held_out=500,
    licence="CC0",
    about="digits <b> ü",
)


@pytest.fixture
def path(tmp_path: Path, trained: nn.Sequential) -> Path:
    """A saved model."""
    save(trained, DIGITS, tmp_path / "digits.safetensors")
    return tmp_path / "digits.safetensors"


def one_logit(image: tuple[int, ...], classes: int) -> nn.Module:
    """A network of a user's, with one logit and batch norm."""
    return nn.Sequential(
        nn.Conv2d(image[0], 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 1)
    )


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether all are equal to the bit. What is computed with them may differ by rounding: they lie
    elsewhere in memory."""
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(
        name == another and torch.equal(values, others)
        for (name, values), (another, others) in pairs
    )


def test_what_is_loaded_has_the_same_weights_to_the_bit(
    path: Path, trained: nn.Sequential, some_digits: Tensor
) -> None:
    saved = load(path)
    assert saved.card == DIGITS
    assert not saved.network.training
    assert same_weights(saved.network, trained)
    torch.testing.assert_close(
        dfal.predict(saved.network, some_digits),
        dfal.predict(trained, some_digits),
        rtol=1e-4,
        atol=1e-4,
    )
    found = dfal.DeepFool()(saved.network, some_digits[:4])
    torch.testing.assert_close(
        found.distance, dfal.DeepFool()(trained, some_digits[:4]).distance, rtol=1e-3, atol=1e-3
    )


def test_a_network_of_the_users_with_one_logit(tmp_path: Path) -> None:
    name = f"{__name__}:one_logit"
    network = one_logit((3, 8, 8), 2)
    network.train()(torch.rand(64, 3, 8, 8))  # batch norm has seen something
    card = ModelCard(("yes", "no"), (3, 8, 8), name)
    save(network, card, tmp_path / "own.safetensors")
    with pytest.raises(DfalError, match=f"was made with the network {name}: say --model {name}"):
        load(tmp_path / "own.safetensors")
    with pytest.raises(DfalError, match="say --model"):
        load(tmp_path / "own.safetensors", "os:system")
    images = torch.rand(5, 3, 8, 8)
    loaded = load(tmp_path / "own.safetensors", name).network
    assert same_weights(loaded, network)
    torch.testing.assert_close(
        dfal.predict(loaded, images), dfal.predict(network, images), rtol=1e-4, atol=1e-4
    )


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
                r"it decides by the values of an image \(in test_models.py, line \d+\), .* use"
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


def damaged(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every way in which a file may be wrong, with the sentence."""
    good = path.read_bytes()
    (size,) = struct.unpack("<Q", good[:8])
    yield "damaged or no model", b""
    yield "damaged or no model", b"hello"
    yield "damaged or no model", good[: len(good) // 2]
    yield "damaged or no model", good[:-1]
    yield "damaged or no model", good + b"\0"
    yield "damaged or no model", struct.pack("<Q", 1 << 60) + good[8:]
    yield "its checksum does not fit", good[:-2] + bytes([good[-2] ^ 1]) + good[-1:]  # one weight
    yield (
        "its checksum does not fit",
        good.replace(b'\\"annotations\\": 200', b'\\"annotations\\": 900'),
    )
    yield "its checksum does not fit", good.replace(b'"4.weight"', b'"4.wEight"')
    header = json.loads(good[8 : 8 + size])
    del header["__metadata__"]["dfal"]
    text = json.dumps(header).encode()
    yield "has no card of dfal", struct.pack("<Q", len(text)) + text + good[8 + size :]


def test_a_file_that_is_damaged_or_changed_is_one_sentence(path: Path) -> None:
    for sentence, content in list(damaged(path)):
        assert content != path.read_bytes() or not content
        path.write_bytes(content)
        with pytest.raises(DfalError, match=sentence) as raised:
            load(path)
        assert "\n" not in str(raised.value)
    with pytest.raises(DfalError, match="there is no model"):
        load(path.parent)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "evil",))

    torch.save({"weight": Evil()}, tmp_path / "one.safetensors")
    with pytest.raises(DfalError, match="damaged or no model"):
        load(tmp_path / "one.safetensors")
    assert not (tmp_path / "evil").exists()


def forged(path: Path, tensors: dict[str, Tensor], **card: Any) -> Path:
    """A file whose checksum is right, and whose card is anything."""
    fields = json.loads(json.dumps(DIGITS.__dict__)) | card
    text = json.dumps({name: value for name, value in fields.items() if value is not ...})
    save_file(tensors, path, {"dfal": text, "sha256": weights._digest(text, tensors)})
    return path


@pytest.mark.parametrize(
    "card",
    [
        {"image": [1, 28]},
        {"image": [1, -28, 28]},
        {"image": ["1", 28, 28]},
        {"image": 3},
        {"classes": ["a"]},
        {"classes": [1, 2]},
        {"classes": ...},
        {"network": 5},
        {"surprise": 1},
        {"interval": [1]},
        {"accuracy": "high"},
        {"annotations": "many"},
        {"annotations": True},
        {"versions": ["1.0"]},
        {"temperature": 0},
        {"temperature": -1.5},
        {"temperature": float("inf")},
        {"temperature": float("nan")},
        {"temperature": "2"},
        {"temperature": True},
        {"classes": "ab"},
    ],
)
def test_a_card_of_another_form_is_one_sentence(
    tmp_path: Path, trained: nn.Sequential, card: dict[str, Any]
) -> None:
    with pytest.raises(
        DfalError, match=r"the card in .* is of another version of dfal, or damaged"
    ):
        load(forged(tmp_path / "x.safetensors", trained.state_dict(), **card))


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        ({"image": [3, 28, 28]}, "weights in .* do not fit the network lenet5"),
        ({"image": [1, 30_000, 30_000]}, "do not fit"),  # and no terabyte is asked for
        ({"image": [1, 8, 8]}, "needs images of at least 16"),
        ({"classes": ["a", "b"]}, "do not fit"),
        ({"network": "vgg8"}, "do not fit"),
        ({"network": "os:system"}, "say --model os:system if its code may be run"),
    ],
)
def test_a_card_that_does_not_fit_the_weights_is_one_sentence(
    tmp_path: Path, trained: nn.Sequential, card: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DfalError, match=sentence) as raised:
        load(forged(tmp_path / "x.safetensors", trained.state_dict(), **card))
    assert "\n" not in str(raised.value)


def test_a_model_is_not_saved_with_a_card_that_does_not_fit(
    tmp_path: Path, trained: nn.Sequential
) -> None:
    for card, sentence in (
        (replace(DIGITS, classes=("a", "b")), "gives 10 logits, but its card names 2 classes"),
        (replace(DIGITS, image=(3, 28, 28)), "cannot take images of shape"),
    ):
        with pytest.raises(DfalError, match=sentence):
            save(trained, card, tmp_path / "x.safetensors")
    with pytest.raises(DfalError, match="cannot be written"):
        save(trained, DIGITS, tmp_path / "nowhere" / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_an_older_model_stays_until_the_new_one_is_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(DfalError, match="No space left on device"):
            save(dfal.lenet5(), DIGITS, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_card_reads_like_sentences() -> None:
    lines = DIGITS.lines()
    assert (
        lines["accuracy"] == "87.0% (95 % interval 84.0% to 90.0%) on 500 images held out at random"
    )
    assert lines["trained on"] == "200 annotations"
    assert lines["images"].startswith("28×28 pixels, grey")
    few = replace(DIGITS, accuracy=1.0, interval=(0.51, 1.0), held_out=4).lines()["accuracy"]
    assert few.endswith("on 4 images held out at random; fewer than 20 are too few to rely on")
    assert replace(DIGITS, accuracy=None).lines()["accuracy"] == "not measured"
    assert set(DIGITS.versions) == {"dfal", "torch", "numpy", "pillow", "python"}


def test_a_card_of_an_older_model_says_that_it_is_not_calibrated(
    tmp_path: Path, trained: nn.Sequential
) -> None:
    old = load(forged(tmp_path / "old.safetensors", trained.state_dict(), temperature=...))
    assert old.card == DIGITS
    assert old.card.temperature is None
    assert old.card.lines()["confidence"] == "not calibrated"
    assert (
        replace(DIGITS, temperature=1.834).lines()["confidence"] == "calibrated (temperature 1.83)"
    )


def test_a_calibrated_model_predicts_the_same_classes_with_other_confidences(
    photos: list[Path], trained: nn.Sequential, some_digits: Tensor, tmp_path: Path
) -> None:
    save(trained, replace(DIGITS, temperature=2.5), tmp_path / "m.safetensors")
    saved = load(tmp_path / "m.safetensors")
    assert saved.card.temperature == 2.5
    raw, calibrated = (
        list(label(SavedModel(trained, card), photos[:3], True)) for card in (DIGITS, saved.card)
    )
    wanted = (dfal.predict(trained, some_digits[:3]) / 2.5).softmax(1).amax(1).tolist()
    for before, after, confidence in zip(raw, calibrated, wanted, strict=True):
        assert isinstance(before, Prediction)
        assert isinstance(after, Prediction)
        assert after.label == before.label
        assert after.distance == pytest.approx(before.distance, rel=1e-4)
        assert after.confidence == pytest.approx(confidence, abs=1e-5)
        assert after.confidence < before.confidence


@pytest.fixture
def photos(tmp_path: Path, some_digits: Tensor) -> list[Path]:
    """Digits as files, one of which is broken."""
    (tmp_path / "photos").mkdir()
    paths = [tmp_path / "photos" / f"{number:02}.png" for number in range(12)]
    for path, digit in zip(paths, some_digits, strict=False):
        Image.fromarray(digit[0].mul(255).round().byte().numpy()).save(path)
    paths[5].write_bytes(b"hello")
    return paths


def test_files_are_labelled_as_the_network_sees_them(
    photos: list[Path], trained: nn.Sequential, some_digits: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "PREDICTION_BATCH", 5)
    found = list(label(SavedModel(trained, DIGITS), photos, distances=True))
    assert found[5] == (photos[5], "it is no JPEG, PNG, WebP, GIF or TIFF, whatever its name says")
    kept = [row for row in range(12) if row != 5]
    confidences, labels = dfal.predict(trained, some_digits[kept]).softmax(1).max(1)
    distances = dfal.DeepFool()(trained, some_digits[kept]).distance
    for place, row in enumerate(kept):
        one = found[row]
        assert isinstance(one, Prediction)
        assert (one.path, one.label) == (photos[row], str(int(labels[place])))
        assert one.confidence == pytest.approx(float(confidences[place]), abs=1e-5)
        assert one.distance == pytest.approx(float(distances[place]), rel=1e-3)
    plain = next(iter(label(SavedModel(trained, DIGITS), photos)))
    assert isinstance(plain, Prediction)
    assert plain.distance is None


def test_a_part_of_broken_files_alone(photos: list[Path], trained: nn.Sequential) -> None:
    assert [type(one) for one in label(SavedModel(trained, DIGITS), [photos[5]])] == [tuple]


def test_the_first_rows_come_before_a_pipe_is_closed(path: Path, photos: list[Path]) -> None:
    """`dfal predict … | head -1` ends without a complaint."""
    command = [sys.executable, "-m", "dfal", "predict", str(path), str(photos[0].parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait()
