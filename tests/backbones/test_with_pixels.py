"""Pixels beside the features of a backbone."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dfal import backbones
from dfal.backbones import Backbone
from dfal.backbones.with_pixels import BackboneWithPixels, SmallImage, averages, with_pixels
from dfal.errors import DfalError

IMAGE = (3, 40, 24)


def a_backbone(image: tuple[int, int, int] = IMAGE) -> BackboneWithPixels:
    c, h, w = image
    network = nn.Sequential(nn.Flatten(), nn.Linear(c * h * w, 7))
    return with_pixels(Backbone("own:body", network, image, 7, "noise"))


def test_features_are_those_of_the_network_and_behind_them_the_pixels() -> None:
    backbone, images = a_backbone((3, 32, 48)), torch.rand(5, 3, 32, 48)
    assert (backbone.name, backbone.features) == ("own:body+pixels", 7 + 3 * 16 * 16)
    found = backbone.network(images)
    torch.testing.assert_close(found[:, :7], backbone.alone.network(images))
    small = F.avg_pool2d(images, (2, 3)).flatten(1)
    torch.testing.assert_close(found[:, 7:], small)


def test_a_pixel_on_a_border_counts_in_both_parts() -> None:
    matrix = averages(24)  # a part is one and a half pixels
    torch.testing.assert_close(matrix[0, :3], torch.tensor([2 / 3, 1 / 3, 0]))
    torch.testing.assert_close(matrix[1, :3], torch.tensor([0, 1 / 3, 2 / 3]))
    torch.testing.assert_close(matrix.sum(1), torch.ones(16))
    torch.testing.assert_close(averages(5).sum(1), torch.ones(16))


def test_grey_and_coloured_images_give_the_pixels_that_the_network_takes() -> None:
    grey = torch.rand(2, 1, 28, 28)
    in_colours = SmallImage((1, 28, 28), 3)(grey)
    assert in_colours.shape == (2, 3 * 16 * 16)
    torch.testing.assert_close(in_colours, SmallImage((3, 28, 28), 3)(grey.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(
        SmallImage((3, 28, 28), 1)(grey.expand(-1, 3, -1, -1)), SmallImage((1, 28, 28), 1)(grey)
    )
    red = torch.zeros(1, 3, 16, 16)
    red[:, 0] = 1
    torch.testing.assert_close(SmallImage((3, 16, 16), 1)(red), torch.full((1, 256), 0.299))


def test_features_and_pixels_count_the_same() -> None:
    backbone = a_backbone()
    features = backbone.network(torch.rand(200, *IMAGE) * 0.1).detach().numpy()
    features[:, :7] *= 1000
    space = backbone.space(features)
    z = space(features)
    own = np.square(z[:, :7]).sum(1)
    assert z.shape == (200, 7 + 50)
    assert backbone.dimensions == 7 + 50
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-5)
    assert 0.4 < own.mean() < 0.6
    alone = backbone.alone.space(features[:, :7])(features[:, :7])
    cosine = (z[:, :7] * alone).sum(1) / np.sqrt(own)
    np.testing.assert_allclose(cosine, 1, rtol=1e-4)


def test_the_form_to_fine_tune_computes_the_same() -> None:
    backbone, images = a_backbone(), torch.rand(2, *IMAGE)
    network = backbone.trainable()
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert len(list(network.parameters())) == 2
    torch.testing.assert_close(network.eval()(images), backbone.network(images))


def test_it_is_loaded_by_its_name() -> None:
    backbone = backbones.load("lite0+pixels", (3, 32, 32))
    assert (backbone.name, backbone.image) == ("lite0+pixels", (3, 32, 32))
    assert backbone.network(torch.rand(1, 3, 32, 32)).shape == (1, 1280 + 768)
    with pytest.raises(DfalError, match="say pixels"):
        backbones.load("pixels+pixels")
    with pytest.raises(DfalError, match="there is no backbone 'lite7'"):
        backbones.load("lite7+pixels")


def test_weights_of_another_network_are_refused() -> None:
    network = backbones.load("lite0+pixels", (3, 32, 32)).network
    weights: dict[str, Tensor] = {**network.state_dict(), "more": torch.zeros(1)}
    with pytest.raises(RuntimeError, match="more"):
        backbones.rebuild("lite0+pixels", (3, 32, 32), {"folded": True}, weights)
