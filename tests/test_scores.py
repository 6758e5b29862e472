"""Scores from logits, where probabilities are 0 or 1 too."""

import math

import torch

from dfal.scores import confidence, entropy, margin

CERTAIN = torch.tensor([[1e4, 0.0, -1e4]])
UNDECIDED = torch.zeros(1, 4)


def test_entropy_of_a_certain_network_is_zero_and_not_nan() -> None:
    assert entropy(CERTAIN).tolist() == [0]


def test_entropy_of_an_undecided_network_is_log_of_the_classes() -> None:
    torch.testing.assert_close(entropy(UNDECIDED), torch.tensor([math.log(4)]))


def test_entropy_by_hand() -> None:
    p = torch.tensor([[0.5, 0.25, 0.25]])
    torch.testing.assert_close(entropy(p.log()), torch.tensor([1.5 * math.log(2)]))


def test_margin_and_confidence_by_hand() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    torch.testing.assert_close(margin(p.log()), torch.tensor([0.2, 0.7]))
    torch.testing.assert_close(confidence(p.log()), torch.tensor([0.5, 0.8]))
    assert margin(UNDECIDED).tolist() == [0]
    assert confidence(CERTAIN).tolist() == [1]
