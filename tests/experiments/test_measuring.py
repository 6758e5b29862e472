"""What every round measures."""

import pytest
import torch
from torch import nn

from dfal.data.datasets import Dataset
from dfal.experiments import measuring
from dfal.nn.inference import predict


def test_accuracy_is_that_of_all_chunks_of_the_test_set(
    trained: nn.Sequential, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfal.nn.passes.CHUNK_IMAGES", 300)
    images = digits.test_images.take(torch.arange(len(digits.test_images)))
    correct = (predict(trained, images).argmax(1) == digits.test_labels).double()
    assert measuring.evaluate(trained, digits) == pytest.approx(float(correct.mean()))
    assert correct[:300].mean() != correct.mean(), "one chunk would not tell"
