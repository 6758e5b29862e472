"""What the compiled kernels give: LeNet5's two convolutions with ReLU and pooling, 32 images, by
`dfal.nn.kernels` and by PyTorch's operations (`dfal.nn.fast_layers`).

    python benchmarks/kernels.py

One thread, CPU time, the sides in turns. Before each call other numbers are read, as many as the
processor's second cache holds, since in a training step it holds something else by then, too.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn

from dfal.experiments.executors.base import keep_memory
from dfal.nn import kernels
from dfal.nn.fast_layers import Forward, conv_relu_pool
from measure import taken_on, write

ROUNDS, IMAGES = 300, 32


@torch.no_grad()
def milliseconds(layer: nn.Conv2d, images: Tensor) -> dict[str, dict[str, float]]:
    """Return the median time of each part, by each side."""
    forwards: dict[str, Forward] = {
        "PyTorch": partial(conv_relu_pool, layer, True, True),
        "kernels": partial(kernels.conv_relu_pool, layer, True),
    }
    other = torch.rand(2**18)
    seconds: dict[str, dict[str, list[float]]] = {side: {} for side in forwards}

    def timed(side: str, part: str, call: Callable[[], Any]) -> Any:
        other.sum()
        start = process_time()
        found = call()
        seconds[side].setdefault(part, []).append(process_time() - start)
        return found

    for _ in range(ROUNDS):
        for side, forward in forwards.items():
            out, backward = timed(side, "forward", partial(forward, images))
            gradient = torch.rand_like(out).unsqueeze(0)
            by_weights = partial(backward, gradient, params=True, inputs=False)
            by_images = partial(backward, gradient, params=False, inputs=True)
            timed(side, "gradient by the weights", by_weights)
            timed(side, "gradient by the images", by_images)
    return {
        side: {part: round(1000 * median(times), 3) for part, times in each.items()}
        for side, each in seconds.items()
    }


def main() -> None:
    torch.set_num_threads(1)
    keep_memory()
    torch.manual_seed(0)
    figures = {
        f"{c} to {o} channels": milliseconds(nn.Conv2d(c, o, 5), torch.rand(IMAGES, c, side, side))
        for c, side, o in ((1, 28, 6), (6, 12, 16))
    }
    for name, each in figures.items():
        print(name, each)
    out = Path(__file__).parent / "results" / "kernels.json"
    write(out, taken_on(("torch",)) | {"images": IMAGES, "milliseconds": figures})


if __name__ == "__main__":
    main()
