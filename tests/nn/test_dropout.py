"""Dropout on for a block: a mask for each image, or one for all."""

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.nn.dropout import only_dropout_on, shared_dropout_mask, stochastic_forward
from dfal.nn.evaluation import frozen_eval


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
