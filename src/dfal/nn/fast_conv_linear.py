"""A 1 × 1 convolution and the linear layer after it as one layer of a `FastSequential`."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from dfal.nn.fast_layers import Backward, add_grad


def conv_linear_pair(modules: Sequence[nn.Module]) -> tuple[nn.Conv2d, nn.Linear] | None:
    """Return a 1 × 1 convolution and a linear layer, where modules begin with them.

    Between them there is a flattening. It is None where one matrix needs no less arithmetic.
    """
    if [type(module) for module in modules[:3]] != [nn.Conv2d, nn.Flatten, nn.Linear]:
        return None
    convolution, linear = cast("nn.Conv2d", modules[0]), cast("nn.Linear", modules[2])
    c, hidden, o = convolution.in_channels, convolution.out_channels, linear.out_features
    pays = (
        convolution.kernel_size == convolution.stride == (1, 1)
        and convolution.padding == (0, 0)
        and convolution.groups == 1
        and c * o < hidden * (c + o)
    )
    return (convolution, linear) if pays else None


def conv_linear(
    convolution: nn.Conv2d, linear_weight: Tensor, linear_bias: Tensor | None, x: Tensor
) -> tuple[Tensor, Backward]:
    """Convolve by 1 × 1, flatten and multiply by a matrix, as one matrix that is made anew.

    With the convolution K (hidden, c) and the linear layer's W (o, hidden, pixels) it is
    M[:, c, p] = Σ_h W[:, h, p] K[h, c]. To make it, and its gradient's way back to K and W, take as
    long as a few images, and save two thirds of the layers' arithmetic for each image (LeNet5). W
    lies with h first meanwhile, so that each sum over h is one matrix product.
    """
    kernel = convolution.weight.flatten(1)  # (hidden, c)
    (hidden, c), o = kernel.shape, len(linear_weight)
    weight = (
        linear_weight.unflatten(1, (hidden, -1)).transpose(0, 1).reshape(hidden, -1)
    )  # (hidden, o·p)
    matrix = (kernel.T @ weight).view(c, o, -1).transpose(0, 1).reshape(o, -1)  # (o, c·p)
    sums = weight.view(hidden, o, -1).sum(2)
    bias = torch.zeros_like(matrix[:, 0]) if linear_bias is None else linear_bias
    if convolution.bias is not None:
        bias = bias + convolution.bias @ sums
    flat = x.flatten(1)

    def backward(gradient: Tensor, *, params: bool, inputs: bool) -> Tensor:
        m, n, _ = gradient.shape
        if params:
            of_bias = gradient[0].sum(0)
            of_matrix = (gradient[0].T @ flat).view(o, c, -1).transpose(0, 1).reshape(c, -1)
            of_weight = (kernel @ of_matrix).view(hidden, o, -1)
            if convolution.bias is not None:
                of_weight += torch.outer(convolution.bias, of_bias).unsqueeze(2)
                add_grad(convolution.bias, lambda: sums @ of_bias)
            add_grad(linear_weight, lambda: of_weight.transpose(0, 1).reshape(o, -1))
            add_grad(linear_bias, lambda: of_bias)
            add_grad(convolution.weight, lambda: (weight @ of_matrix.T).view_as(convolution.weight))
        if not inputs:
            return gradient
        columns = gradient.permute(2, 0, 1).reshape(o, m * n)
        of_x: Tensor = matrix.T @ columns  # (c·p, m·n)
        return of_x.view(*x.shape[1:], m, n).permute(3, 4, 0, 1, 2)

    return flat @ matrix.T + bias, backward
