"""The parts of `gpu.py` that attack images."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

import dfal
from deepfool_many_classes import every_gradient, imagenet
from dfal.data.datasets import Dataset
from dfal.nn import NETWORKS
from dfal.nn.evaluation import full_precision
from dfal.nn.training import fit
from gpu_trials import Figures, Sizes, some_pool, timed
from measure import Measured
from networks import AUTOGRAD_NETWORKS

try:
    import foolbox
except ImportError:
    foolbox = None

NO_FOOLBOX = "Foolbox is not installed: pip install foolbox==3.3.4"


def fitted(make: Callable[[], nn.Module], data: Dataset, sizes: Sizes, epochs: int) -> nn.Module:
    labelled = some_pool(data, sizes.labels[1]).labelled_data(sizes.device)
    return fit(make, labelled, dfal.Training(epochs=min(epochs, sizes.epochs)), seed=0)


def attacked(data: Dataset, sizes: Sizes) -> Tensor:
    """Images of the test set."""
    return data.test_images.take(torch.arange(sizes.images)).to(sizes.device)


def with_foolbox(sizes: Sizes, model: nn.Module, images: Tensor, classes: int | None) -> Tensor:
    """Attack images with Foolbox, all classes of one image at a time or of all images."""
    attack = foolbox.attacks.L2DeepFoolAttack(steps=sizes.steps, candidates=classes, overshoot=0.02)
    bounded = foolbox.PyTorchModel(model, bounds=(-1e6, 1e6), device=images.device)
    moved = []
    for x in images.split(1 if classes is None else len(images)):
        left = foolbox.criteria.Misclassification(model(x).argmax(1))
        moved.append(attack(bounded, x, left, epsilons=None)[1])
    return torch.cat(moved)


def with_dfal(sizes: Sizes, model: nn.Module, images: Tensor) -> Tensor:
    return dfal.DeepFool(max_steps=sizes.steps)(model, images).images


def compared(
    model: nn.Module, images: Tensor, measured: dict[str, Measured[Tensor]]
) -> dict[str, Figures]:
    """Return the figures of each side, with its distances beside dfal's."""
    own = dfal.predict(model, images).argmax(1)
    with full_precision():
        exact = dfal.predict(model, images).argmax(1)
    lengths = {
        side: (each.result - images).flatten(1).norm(dim=1) for side, each in measured.items()
    }
    rows = {}
    for side, each in measured.items():
        with full_precision():
            left = dfal.predict(model, each.result).argmax(1)
        rows[side] = each.figures(len(images)) | {
            "median_distance": float(lengths[side].median()),
            "within_0.01_of_dfal": float(
                ((lengths[side] / lengths["dfal"] - 1).abs() < 0.01).double().mean()
            ),
            "not_flipped": int((left == exact).sum()),
            "not_flipped_as_pytorch_computes_by_default": int(
                (dfal.predict(model, each.result).argmax(1) == own).sum()
            ),
        }
    return rows


def deepfool(sizes: Sizes, data: Dataset, figures: Figures) -> Iterator[None]:
    if foolbox is None:
        figures["note"] = NO_FOOLBOX
    images = attacked(data, sizes)
    for name in ("lenet5", "vgg8", *AUTOGRAD_NETWORKS):
        make = NETWORKS.get(name) or partial(AUTOGRAD_NETWORKS[name], data.images.shape)
        model = fitted(make, data, sizes, 20)
        sides: dict[str, Callable[[], Tensor]] = {"dfal": partial(with_dfal, sizes, model, images)}
        if foolbox is not None:
            sides["Foolbox"] = partial(with_foolbox, sizes, model, images, 10)
        figures[name] = compared(model, images, timed(sides, sizes))
        yield


def crops(side: int, count: int) -> Tensor:
    """Return squares cut at random out of the two photographs that scikit-learn has."""
    photographs = [torch.tensor(each) / 255 for each in load_sample_images().images]
    rng, cut = torch.Generator().manual_seed(0), []
    for k in range(count):
        whole = photographs[k % len(photographs)]
        top, left = (int(torch.randint(n - side, (), generator=rng)) for n in whole.shape[:2])
        cut.append(whole[top : top + side, left : left + side].permute(2, 0, 1))
    return torch.stack(cut)


def many_classes(sizes: Sizes, data: Dataset, figures: Figures) -> Iterator[None]:
    side, counts = (224, (64, 2)) if sizes.device != "cpu" else (64, (1, 1))
    images = crops(side, counts[0]).to(sizes.device)
    try:
        model = imagenet().to(sizes.device)
    except SystemExit as error:
        figures["note"] = f"not run: {error}"
        return
    few = images[: counts[1]]
    others: dict[str, Callable[[], Tensor]] = {}
    if sizes.device != "cpu":
        others["all gradients"] = partial(every_gradient, model, few)
    if foolbox is not None:
        others["Foolbox"] = partial(with_foolbox, sizes, model, few, None)
    once = replace(sizes, repeats=1)
    for name, other in others.items():
        sides: dict[str, Callable[[], Tensor]] = {
            "dfal": partial(with_dfal, sizes, model, few),
            name: other,
        }
        figures[f"{len(few)} images, beside {name}"] = compared(model, few, timed(sides, once))
        yield
    alone = timed({"dfal": partial(with_dfal, sizes, model, images)}, once)
    figures[f"{len(images)} images"] = compared(model, images, alone)
    yield
