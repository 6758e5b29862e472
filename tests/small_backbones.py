"""Backbones that take no time: what tests give as package.module:function."""

import torch
from torch import Tensor, nn

from dfal.backbones import Backbone


class Patches(nn.Module):
    """Features are means of patches, and one that is always 0."""

    def __init__(self, patch: int):
        super().__init__()
        self.patches = nn.AvgPool2d(patch)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        means: Tensor = self.patches(x).flatten(1)
        return torch.cat([self.scale * means, torch.zeros(len(x), 1)], 1)


def patches(argument: str = "", image: tuple[int, int, int] | None = None) -> Backbone:
    c, h, w = image or (3, 16, 16)
    return Backbone("patches", Patches(4), (c, h, w), c * (h // 4) * (w // 4) + 1)


def wrong_count(argument: str = "", image: tuple[int, int, int] | None = None) -> Backbone:
    return Backbone("wrong", Patches(4), image or (3, 16, 16), 7)


def no_rows(argument: str = "", image: tuple[int, int, int] | None = None) -> Backbone:
    return Backbone("no rows", nn.AvgPool2d(4), image or (3, 16, 16), 48)


class Infinite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :5] / (x.flatten(1).sum(1, keepdim=True) > 1e-6)


def infinite(argument: str = "", image: tuple[int, int, int] | None = None) -> Backbone:
    """Gives features that are not finite for black images."""
    return Backbone("infinite", Infinite(), image or (3, 16, 16), 5)


def failing(argument: str = "", image: tuple[int, int, int] | None = None) -> Backbone:
    return Backbone("failing", nn.Linear(3, 3), image or (3, 16, 16), 3)
