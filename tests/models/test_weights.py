"""Weights saved and loaded to the bit; nothing in a file is believed unchecked."""

import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.errors import DfalError
from dfal.models import (
    ModelCard,
    load,
    save,
)
from saved_models import DIGITS, one_logit


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether all are equal to the bit. What is computed with them may differ by rounding: they lie
    elsewhere in memory."""
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(
        name == another and torch.equal(values, others)
        for (name, values), (another, others) in pairs
    )


def test_what_is_loaded_has_the_same_weights_to_the_bit(
    model_file: Path, trained: nn.Sequential, some_digits: Tensor
) -> None:
    saved = load(model_file)
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


def test_the_same_model_is_the_same_file(tmp_path: Path, trained: nn.Sequential) -> None:
    """safetensors writes its metadata in an order that differs from file to file."""
    files = set()
    for _ in range(20):
        save(trained, DIGITS, tmp_path / "m.safetensors")
        files.add((tmp_path / "m.safetensors").read_bytes())
    assert len(files) == 1
    assert int.from_bytes(files.pop()[:8], "little") % 8 == 0, "tensors are not aligned"


def test_a_network_of_the_users_with_one_logit(tmp_path: Path) -> None:
    name = "saved_models:one_logit"
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


def test_a_file_that_is_damaged_or_changed_is_one_sentence(model_file: Path) -> None:
    for sentence, content in list(damaged(model_file)):
        assert content != model_file.read_bytes() or not content
        model_file.write_bytes(content)
        with pytest.raises(DfalError, match=sentence) as raised:
            load(model_file)
        assert "\n" not in str(raised.value)
    with pytest.raises(DfalError, match="there is no model"):
        load(model_file.parent)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "evil",))

    torch.save({"weight": Evil()}, tmp_path / "one.safetensors")
    with pytest.raises(DfalError, match="damaged or no model"):
        load(tmp_path / "one.safetensors")
    assert not (tmp_path / "evil").exists()


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
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model_file.read_bytes()

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(DfalError, match="No space left on device"):
            save(dfal.lenet5(), DIGITS, model_file)
    assert model_file.read_bytes() == before
    assert list(model_file.parent.iterdir()) == [model_file]
