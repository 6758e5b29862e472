import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dfal.data.image_array import CHUNK, Images
from dfal.errors import DfalError
from dfal.pool import Pool


def test_bytes_are_scaled_to_0_1_exactly() -> None:
    images = Images(np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1))
    taken = images.take(torch.arange(256))
    assert taken.dtype == torch.float32
    assert torch.equal(taken.flatten(), torch.arange(256, dtype=torch.float32) / 255)
    assert (taken.min().item(), taken.max().item()) == (0, 1)


@pytest.mark.parametrize("kind", ["<f4", ">f4", "f8", "f2"])
def test_floats_are_taken_unscaled_whatever_their_width_and_byte_order(kind: str) -> None:
    array = np.array([-2.5, 0.25, 300]).reshape(3, 1, 1).astype(kind)
    taken = Images(array).take(torch.arange(3))
    assert taken.dtype == torch.float32
    assert taken.flatten().tolist() == [-2.5, 0.25, 300]


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_tensors_are_taken_like_arrays(kind: torch.dtype) -> None:
    tensor = torch.tensor([[51.0], [102.0]]).to(kind)
    scale = 255 if kind == torch.uint8 else 1
    assert torch.equal(
        Images(tensor).take(torch.tensor([1, 0])), torch.tensor([[102.0], [51.0]]) / scale
    )


def test_a_tensor_that_wants_a_gradient_is_taken_without_it() -> None:
    assert not Images(torch.rand(2, 3, requires_grad=True)).take(torch.arange(2)).requires_grad


def test_images_come_in_the_order_of_the_indices_and_as_often() -> None:
    images = Images(torch.arange(5.0).reshape(5, 1, 1))
    assert images.take(torch.tensor([4, 0, 2, 0])).flatten().tolist() == [4, 0, 2, 0]
    assert images.take(torch.empty(0, dtype=torch.int64)).shape == (0, 1, 1)


def test_some_rows_of_an_array_in_their_own_order() -> None:
    images = Images(np.arange(10, dtype=np.float32).reshape(5, 2), np.array([4, 0, 3]))
    assert (len(images), images.shape) == (3, (2,))
    assert images.take(torch.tensor([2, 0])).tolist() == [[6, 7], [8, 9]]
    assert images.raw(np.array([1])).tolist() == [[0, 1]]
    again = Images(images, np.array([2, 1]))  # rows of rows
    assert again.take(torch.tensor([0, 1])).tolist() == [[6, 7], [0, 1]]
    assert Images(images).take(torch.arange(3)).tolist() == images.take(torch.arange(3)).tolist()


def test_what_is_taken_is_a_copy() -> None:
    array = np.zeros((3, 2), np.float32)
    Images(array).take(torch.arange(3)).fill_(7)
    assert not array.any()


def test_length_and_shape_are_those_of_the_array() -> None:
    images = Images(np.zeros((7, 3, 4, 5), np.uint8))
    assert (len(images), images.shape) == (7, (3, 4, 5))
    assert Images(images).array is images.array


def test_a_memory_map_larger_than_memory_is_not_read_whole(tmp_path: Path) -> None:
    shape = (1 << 26, 1, 64, 64)  # 256 GiB, of which the file holds nothing but its end
    file = tmp_path / "images.raw"
    with file.open("wb") as out:
        out.truncate(1 << 38)
        out.seek(-1, 2)
        out.write(b"\xff")
    array = np.memmap(file, np.uint8, "r", shape=shape)
    tracemalloc.start()
    try:
        images = Images(array)
        taken = images.take(torch.tensor([(1 << 26) - 1, 3]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert images.array is array
    assert taken.sum((1, 2, 3)).tolist() == [1, 0]
    assert peak < 1 << 20


def test_a_memory_map_of_floats_is_not_read_for_nan_before_it_is_taken(tmp_path: Path) -> None:
    shape = (1 << 26, 32, 32)  # 256 GiB, of which the file holds nothing but its end
    file = tmp_path / "features.raw"
    with file.open("wb") as out:
        out.truncate(1 << 38)
        out.seek(-4, 2)
        out.write(np.float32(np.nan).tobytes())
    array = np.memmap(file, np.float32, "r", shape=shape)
    start = time.process_time()
    pool = Pool.new(Images(array, np.arange(7, len(array))), {0: 1})
    assert time.process_time() - start < 20, "reading it would take minutes"
    assert not pool.images.take(torch.tensor([5, 0])).any()
    with pytest.raises(DfalError, match=rf"^image {(1 << 26) - 8} holds NaN or infinite"):
        pool.images.take(torch.tensor([3, (1 << 26) - 8]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bad", [0, 2, CHUNK, CHUNK + 5])
def test_an_image_that_is_not_finite_is_named_by_its_index(value: float, bad: int) -> None:
    array = np.zeros((CHUNK + 7, 1, 2), np.float32)
    array[[bad, -1], 0, 1] = value
    with pytest.raises(DfalError, match=rf"^image {bad} holds NaN or infinite"):
        Images(array)


@pytest.mark.parametrize("shape", [(), (5,), (0, 1, 28, 28), (5, 0), (5, 1, 0, 28)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_an_array_without_images_is_refused(shape: tuple[int, ...], kind: type) -> None:
    with pytest.raises(
        DfalError, match=r"\(N, …\).*" + str(shape).replace("(", r"\(").replace(")", r"\)")
    ):
        Images(np.zeros(shape, kind))


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2), np.int64), torch.zeros(2, 2, dtype=torch.bool), np.zeros((2, 2), complex)],
)
def test_numbers_of_another_kind_are_refused_and_named(array: Any) -> None:
    with pytest.raises(
        DfalError,
        match=f"uint8 or floating point, but they are {str(array.dtype).removeprefix('torch.')}",
    ):
        Images(array)


@pytest.mark.parametrize("array", [np.full((2, 2), "x"), np.full((2, 2), None)])
def test_what_is_no_number_is_refused(array: Any) -> None:
    with pytest.raises(DfalError, match="uint8 or floating point"):
        Images(array)


@pytest.mark.parametrize("kind", ["u1", "f4", "f8"])
def test_all_pixels_are_those_that_are_taken(kind: str) -> None:
    images = Images((np.arange(24) * 9).reshape(6, 1, 2, 2).astype(kind), np.array([5, 0, 3]))
    pixels = images.pixels()
    assert pixels.dtype == (torch.uint8 if kind == "u1" else torch.float32)
    scale = 255 if kind == "u1" else 1
    assert torch.equal(pixels / scale, images.take(torch.arange(3)))


def test_a_digest_is_that_of_the_images_in_their_order(tmp_path: Path) -> None:
    array = np.arange(3 * CHUNK, dtype=np.uint8).reshape(-1, 1, 1, 3)
    digest = Images(array).digest
    rows = np.arange(len(array))
    assert Images(np.concatenate([array[:1], array]), rows + 1).digest == digest
    np.save(tmp_path / "images.npy", array)
    assert Images(np.load(tmp_path / "images.npy", mmap_mode="r")).digest == digest
    others = (array[::-1], array[1:], array.astype(np.float32), array.reshape(-1, 1, 3, 1))
    digests = {Images(np.ascontiguousarray(each)).digest for each in others}
    assert len(digests | {digest}) == 5
