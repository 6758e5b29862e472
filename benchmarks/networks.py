"""Small networks that are no chain of known layers, so that dfal computes them by autograd."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two convolutions with batch norm, and a way past them."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.past = nn.Identity() if stride == 1 and channels == width else past(channels, width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.past(x))


def past(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 1, 2, bias=False), nn.BatchNorm2d(width))


class Residual(nn.Module):
    """A residual network: a convolution, then blocks of twice the channels and half the side."""

    def __init__(self, image: tuple[int, int, int], classes: int, widths: tuple[int, ...]):
        super().__init__()
        self.first = nn.Conv2d(image[0], widths[0], 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        pairs = zip((widths[0], *widths), widths, strict=False)
        blocks = [Block(c, width, 1 if c == width else 2) for c, width in pairs]
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.blocks(F.relu(self.norm(self.first(x))))
        logits: Tensor = self.last(y.mean((2, 3)))
        return logits


class Transformer(nn.Module):
    """A vision transformer with patches of 4 × 4 pixels."""

    def __init__(self, image: tuple[int, int, int], classes: int, width: int = 64, depth: int = 4):
        super().__init__()
        self.patches = nn.Conv2d(image[0], width, 4, 4)
        self.places = nn.Parameter(0.02 * torch.randn(1, (image[1] // 4) * (image[2] // 4), width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.last = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2) + self.places
        logits: Tensor = self.last(self.layers(y).mean(1))
        return logits


def residual(image: tuple[int, int, int] = (1, 28, 28), classes: int = 10) -> nn.Module:
    """Three blocks of 16, 32 and 64 channels."""
    return Residual(image, classes, (16, 32, 64))


def resnet18(image: tuple[int, int, int] = (3, 32, 32), classes: int = 10) -> nn.Module:
    """ResNet-18 as it is built for images of 32 × 32 pixels."""
    return Residual(image, classes, (64, 64, 128, 128, 256, 256, 512, 512))


def vit(image: tuple[int, int, int] = (1, 28, 28), classes: int = 10) -> nn.Module:
    """A vision transformer of four layers of width 64."""
    return Transformer(image, classes)


class PhotographResNet18(nn.Module):
    """ResNet-18 as it is built for photographs, of transformers, with random weights."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        from transformers import ResNetConfig, ResNetForImageClassification

        config = ResNetConfig(
            hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic"
        )
        config.num_labels = classes
        self.network = ResNetForImageClassification(config)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(pixel_values=images).logits
        return logits


AUTOGRAD_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "residual": residual,
    "resnet18": resnet18,
    "vit": vit,
}


SCALE = 4096  # a power of two, so that scaling rounds nothing


class Scaled(nn.Module):
    """The same network for pixels from 0 to `SCALE`."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images / SCALE)
        return logits
