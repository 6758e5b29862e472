"""Would a compiled kernel pay? LeNet5's two convolutions with ReLU and pooling, forward, 32 images:

    python benchmarks/kernels.py

- dfal: `fast_layers.conv_relu_pool`, PyTorch's operations.
- product: of these, the matrix product alone.
- C: forty lines with eight images in each vector, compiled for this machine by `cc`, and made for
  2 × 2 pooling and 32-bit numbers alone.

One thread, CPU time, the sides in turns, with a read of 4 MB before each call, since in a training
step the cache holds something else by then.
"""

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time

import torch
from torch import Tensor, nn

from dfal.experiments.executors.base import keep_memory
from dfal.nn.fast_layers import conv_relu_pool
from measure import taken_on, write

ROUNDS, IMAGES = 300, 32
SOURCE = """
typedef float vector __attribute__((vector_size(32), aligned(4)));

static vector larger(vector a, vector b)
{
    vector c;
    for (int lane = 0; lane < 8; lane++)
        c[lane] = a[lane] > b[lane] ? a[lane] : b[lane];
    return c;
}

/* x (c, h, w, n), weight (o, c, k, k), bias (o), y (o, (h − k + 1)/2, (w − k + 1)/2, n);
   o a multiple of 2, n of 8. */
void conv_relu_pool(const float *x, const float *weight, const float *bias, float *y,
                    long c, long h, long w, long n, long o, long k)
{
    long rows = (h - k + 1) / 2, columns = (w - k + 1) / 2, size = c * k * k;
    for (long p = 0; p < rows; p++)
    for (long q = 0; q < columns; q++)
    for (long m = 0; m < n; m += 8)
    for (long f = 0; f < o; f += 2) {
        vector sum[2][2][2] = {0};
        const float *one = weight + f * size, *two = one + size;
        for (long ch = 0; ch < c; ch++)
        for (long i = 0; i < k; i++) {
            const float *at = x + ((ch * h + 2 * p + i) * w + 2 * q) * n + m;
            for (long j = 0; j < k; j++, at += n, one++, two++)
                for (int a = 0; a < 2; a++)
                for (int b = 0; b < 2; b++) {
                    vector pixel = *(const vector *)(at + (a * w + b) * n);
                    sum[0][a][b] += *one * pixel;
                    sum[1][a][b] += *two * pixel;
                }
        }
        for (int g = 0; g < 2; g++) {
            vector most = larger(larger(sum[g][0][0], sum[g][0][1]),
                                 larger(sum[g][1][0], sum[g][1][1])) + bias[f + g];
            *(vector *)(y + (((f + g) * rows + p) * columns + q) * n + m)
                = larger(most, (vector){0});
        }
    }
}
"""


def compiled(folder: Path) -> Callable[..., None]:
    source, library = folder / "kernel.c", folder / "kernel.so"
    source.write_text(SOURCE, encoding="utf-8")
    options = ["-O3", "-march=native", "-ffast-math", "-shared", "-fPIC"]
    subprocess.run(["cc", *options, "-o", str(library), str(source)], check=True)
    function = ctypes.CDLL(str(library)).conv_relu_pool
    function.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_long] * 6
    return function


def with_products(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve, apply ReLU and pool images of shape (c, h, w, n)."""
    return conv_relu_pool(layer, True, True, x.permute(3, 0, 1, 2))[0].permute(1, 2, 3, 0)


def with_kernel(function: Callable[..., None], layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Do the same by the kernel."""
    (c, h, w, n), (o, k) = x.shape, (layer.out_channels, layer.kernel_size[0])
    y = torch.empty(o, (h - k + 1) // 2, (w - k + 1) // 2, n)
    assert layer.bias is not None
    given = (x, layer.weight, layer.bias, y)
    function(*(tensor.data_ptr() for tensor in given), c, h, w, n, o, k)
    return y


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    keep_memory()
    torch.manual_seed(0)
    other = torch.rand(2**20)
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        function = compiled(Path(folder))
        for c, side, o in ((1, 28, 6), (6, 12, 16)):
            layer, x = nn.Conv2d(c, o, 5), torch.rand(c, side, side, IMAGES)
            out = (side - 4) // 2
            kernels, columns = torch.rand(4 * o, 36 * c), torch.rand(36 * c, out * out * IMAGES)
            sides: dict[str, Callable[[], Tensor]] = {
                "dfal": partial(with_products, layer, x),
                "product": partial(torch.mm, kernels, columns),
                "C": partial(with_kernel, function, layer, x),
            }
            torch.testing.assert_close(sides["C"](), sides["dfal"](), atol=1e-5, rtol=1e-4)
            seconds: dict[str, list[float]] = {name: [] for name in sides}
            for _ in range(ROUNDS):
                for name, call in sides.items():
                    other.sum()
                    start = process_time()
                    call()
                    seconds[name].append(process_time() - start)
            figures[f"{c} to {o} channels"] = {
                name: round(1000 * median(each), 3) for name, each in seconds.items()
            }
    print(figures)
    out_file = Path(__file__).parent / "results" / "kernels.json"
    write(out_file, taken_on(("torch",)) | {"images": IMAGES, "milliseconds": figures})


if __name__ == "__main__":
    main()
