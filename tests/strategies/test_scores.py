"""Scores from logits, where probabilities are 0 or 1 too."""

import math

import torch

from dfal.strategies.scores import (
    confidence,
    entropy,
    head_gradient_length,
    margin,
    mutual_information,
    unguarded_entropy,
)

CERTAIN = torch.tensor([[1e4, 0.0, -1e4]])
UNDECIDED = torch.zeros(1, 4)


def test_entropy_of_a_certain_network_is_zero_and_not_nan() -> None:
    assert entropy(CERTAIN).tolist() == [0]


def test_unguarded_entropy_is_entropy_but_for_certain_networks() -> None:
    assert unguarded_entropy(CERTAIN).isnan().all()
    f = torch.randn(7, 4)
    torch.testing.assert_close(unguarded_entropy(f), entropy(f))


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


def test_mutual_information_is_zero_where_all_networks_agree() -> None:
    f = torch.randn(1, 6, 4).repeat(5, 1, 1)
    torch.testing.assert_close(mutual_information(f), torch.zeros(6), atol=1e-6, rtol=0)
    assert (mutual_information(f) >= 0).all()


def test_mutual_information_is_all_where_networks_are_sure_and_disagree() -> None:
    f = torch.tensor([[[1e4, -1e4]], [[-1e4, 1e4]]])
    torch.testing.assert_close(mutual_information(f), torch.tensor([math.log(2)]))


def test_mutual_information_is_the_mean_divergence_from_the_mean() -> None:
    p = torch.randn(7, 3, 5).softmax(2)
    divergence = (p * (p / p.mean(0)).log()).sum(2).mean(0)  # KL(p_ω ‖ mean p)
    torch.testing.assert_close(mutual_information(p.log()), divergence, atol=1e-6, rtol=1e-4)


def test_head_gradient_length_by_hand() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2]])
    x = torch.tensor([[3.0, 4.0]])
    want = sum(float(p[0, y] * (p[0] - torch.eye(3)[y]).norm()) for y in range(3))
    torch.testing.assert_close(
        head_gradient_length(p.log(), x), torch.tensor([want * math.sqrt(26)])
    )
    torch.testing.assert_close(
        head_gradient_length(p.log(), x, bias=False), torch.tensor([want * 5])
    )
    assert head_gradient_length(CERTAIN, x).tolist() == [0]
