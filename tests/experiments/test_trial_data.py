"""What trials run on: images as they are, resized, or the features of a backbone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import small_backbones
from dfal import backbones
from dfal.data import datasets
from dfal.data.resizing import resized
from dfal.errors import DfalError
from dfal.experiments import trial_data

BACKBONE = "small_backbones:patches"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    trial_data.forget()
    datasets.load.cache_clear()
    return tmp_path / "cache" / "dfal" / "features"


@pytest.fixture
def arrays(tmp_path: Path) -> str:
    """60 grey images of 20 × 20 pixels."""
    images = np.random.default_rng(0).integers(0, 256, (60, 20, 20), dtype=np.uint8)
    np.savez(tmp_path / "grey.npz", images=images, labels=np.arange(60) % 3)
    return str(tmp_path / "grey.npz")


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """30 colour photographs of 40 × 40 pixels in two classes."""
    for number in range(30):
        image = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        folder = tmp_path / "photos" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    return str(tmp_path / "photos")


def test_without_backbone_and_size_it_is_the_data_set_itself(arrays: str) -> None:
    assert trial_data.load(arrays) is datasets.load(arrays)


def test_features_are_of_unit_length_and_centred_by_the_pool(arrays: str, cache: Path) -> None:
    plain, data = datasets.load(arrays), trial_data.load(arrays, BACKBONE)
    pool, test = (
        images.take(torch.arange(len(images))) for images in (data.images, data.test_images)
    )
    assert (len(pool), len(test)) == (len(plain.images), len(plain.test_images))
    assert torch.equal(data.labels, plain.labels)
    assert torch.allclose(torch.cat([pool, test]).norm(dim=1), torch.tensor(1.0), atol=2e-3)
    network = small_backbones.patches().network

    def raw(images: torch.Tensor) -> torch.Tensor:
        return network(resized(images, (3, 16, 16)))  # type: ignore[no-any-return]

    of_pool = raw(plain.images.take(torch.arange(len(plain.images))))
    of_test = raw(plain.test_images.take(torch.arange(len(plain.test_images))))
    z = (of_test - of_pool.mean(0)) / of_pool.std(0, correction=0).clamp(min=1e-6)
    expected = torch.nn.functional.normalize(z)
    # The space may be turned by principal components, which keeps all products.
    assert torch.allclose(test @ test.T, expected @ expected.T, atol=5e-3)
    (file,) = cache.glob("*.npy")
    assert file.name.startswith("small_backbones_patches-16-")
    assert np.load(file, mmap_mode="r").dtype == np.float16


@pytest.mark.parametrize(
    ("backbone", "dimensions"), [("pixels", 50), (f"{BACKBONE}+pixels", 49 + 50)]
)
def test_features_are_in_the_space_of_their_backbone(
    arrays: str, cache: Path, backbone: str, dimensions: int
) -> None:
    plain, data = datasets.load(arrays), trial_data.load(arrays, backbone)
    assert data.images.shape == (dimensions,)
    assert trial_data.stand_in(arrays, backbone, 0).images.shape == (dimensions,)
    loaded = backbones.load(backbone, None if "+" in backbone else plain.images.shape)  # type: ignore[arg-type]
    images = resized(plain.images.take(torch.arange(len(plain.images))), loaded.image)
    features = loaded.network(images).numpy()
    expected = loaded.space(features)(features)
    found = data.images.take(torch.arange(len(data.images))).numpy()
    # Signs and turns of components keep all products.
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=5e-3)


def test_is_computed_once(arrays: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = trial_data.load(arrays, BACKBONE)
    assert trial_data.load(arrays, BACKBONE) is first
    trial_data.forget()
    monkeypatch.setattr("dfal.experiments.featuriser.Featuriser.__call__", None)
    again = trial_data.load(arrays, BACKBONE)  # nothing is computed
    assert np.array_equal(again.images.array, first.images.array)
    assert len(list(cache.glob("*.npy"))) == 1


def test_other_weights_another_size_and_other_images_are_other_files(
    arrays: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial_data.load(arrays, BACKBONE)
    trial_data.load(arrays, BACKBONE, 24)
    trial_data.load(arrays, "pixels")
    trial_data.load(arrays, "", 24)
    assert len(list(cache.glob("*.npy"))) == 4
    images = np.load(arrays)["images"]
    images[3, 4, 5] ^= 1
    np.savez(tmp_path / "other.npz", images=images, labels=np.arange(60) % 3)
    trial_data.load(str(tmp_path / "other.npz"), BACKBONE)
    assert len(list(cache.glob("*.npy"))) == 5
    trial_data.forget()
    make = small_backbones.patches

    def other(argument: str = "", image: tuple[int, int, int] | None = None) -> object:
        backbone = make(argument, image)
        with torch.no_grad():
            backbone.network.scale.mul_(2)  # type: ignore[operator]
        return backbone

    monkeypatch.setattr(small_backbones, "patches", other)
    trial_data.load(arrays, BACKBONE)
    assert len(list(cache.glob("*.npy"))) == 6


def test_files_are_read_in_the_backbones_size(photos: str) -> None:
    """Not from the images that the network would see, which may be smaller."""
    plain = datasets.load(photos)
    assert plain.files
    data = trial_data.load(photos, "", 10)
    for place, images in ((0, data.images), (len(data.images), data.test_images)):
        for index in range(len(images)):
            file = plain.files[place + index]
            (pixels,) = images.raw(np.array([index]))
            with Image.open(file) as image:
                small = np.asarray(image.resize((10, 10), Image.Resampling.BICUBIC))
            assert np.array_equal(pixels.transpose(1, 2, 0), small)
            labels = data.labels if not place else data.test_labels
            assert file.parent.name == data.classes[labels[index]]


def test_the_number_of_threads_changes_nothing(photos: str, cache: Path) -> None:
    threads = torch.get_num_threads()
    found = []
    for number in (1, 3):
        torch.set_num_threads(number)
        found.append(np.array(trial_data.load(photos, BACKBONE).images.array))
        assert torch.get_num_threads() == number
        trial_data.forget()
        for file in cache.glob("*.npy"):
            file.unlink()
    torch.set_num_threads(threads)
    assert np.array_equal(found[0], found[1])


def test_sizes_for_a_network_keep_the_channels(arrays: str) -> None:
    data = trial_data.load(arrays, "", 32)
    assert data.images.shape == data.test_images.shape == (1, 32, 32)
    assert data.images.array.dtype == np.uint8


@pytest.mark.parametrize(
    ("backbone", "size", "sentence"),
    [
        ("nowhere", 0, "there is no backbone 'nowhere'"),
        ("small_backbones:nothing", 0, "there is no 'nothing' in"),
        ("small_backbones:wrong_count", 0, "says that it makes 7 features .* but it makes"),
        ("small_backbones:no_rows", 0, r"returns \(2, 3, 4, 4\) for 2 images"),
        ("small_backbones:failing", 0, r"cannot take images of shape \(3, 16, 16\)"),
        ("small_backbones:patches", 3, r"cannot take images of shape \(3, 3, 3\) .*another --size"),
    ],
)
def test_a_backbone_that_does_not_fit_is_one_sentence(
    arrays: str, backbone: str, size: int, sentence: str
) -> None:
    for call in (trial_data.stand_in, trial_data.load):
        with pytest.raises(DfalError, match=sentence) as raised:
            call(arrays, backbone, size)
        assert "\n" not in str(raised.value)


def test_features_that_are_not_finite_name_their_image(tmp_path: Path) -> None:
    images = np.full((40, 16, 16), 200, np.uint8)
    images[7] = 0
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(40) % 2)
    data = datasets.load(str(tmp_path / "x.npz"))
    everywhere = torch.cat(
        [data.images.take(torch.arange(32)), data.test_images.take(torch.arange(8))]
    )
    black = int(everywhere.flatten(1).sum(1).argmin())
    with pytest.raises(DfalError, match=f"NaN or infinite features for image {black}"):
        trial_data.load(str(tmp_path / "x.npz"), "small_backbones:infinite")


def test_images_outside_0_to_1_and_no_images_are_refused(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "x.npz",
        images=np.random.default_rng(0).normal(size=(20, 16, 16)).astype(np.float32),
        labels=np.arange(20) % 2,
    )
    with pytest.raises(DfalError, match=r"pixels from -.* but --backbone and --size need 0 to 1"):
        trial_data.load(str(tmp_path / "x.npz"), BACKBONE)


def test_a_file_that_vanished_is_named(photos: str) -> None:
    data = datasets.load(photos)
    data.files[3].write_bytes(b"no image")
    with pytest.raises(DfalError, match=rf"{data.files[3].name}: it is no JPEG"):
        trial_data.load(photos, BACKBONE)
