"""Train a network on labelled data: from scratch, with early stopping and restarts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from dfal.arguments import check_network, kind_of, whole
from dfal.errors import DfalError, first_line
from dfal.nn.fast_sequential import FastSequential, fast_sequential
from dfal.nn.inference import (
    check_logits,
    default_modes,
    logits,
    predict,
    prepare_images,
    shape_errors,
)
from dfal.nn.networks import init_lazy_layers
from dfal.nn.training_settings import Training
from dfal.pool import LabelledData
from dfal.seeding import derive_seed, fork_rng, generator

__all__ = ["Training", "check_device", "fit", "holdout_size", "split_holdout"]


def check_device(device: str) -> None:
    """Check that networks can be trained on a device.

    Raises:
        DfalError: where they cannot.
    """
    try:
        torch.device(device)
    except RuntimeError:
        raise DfalError(
            f"there is no device {device!r}: use cpu, cuda, or cuda:1 for the second GPU"
        ) from None
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DfalError(
            f"the device {device!r} cannot be used ({first_line(error)}): use cpu"
        ) from None


Network = TypeVar("Network", bound=nn.Module)


@default_modes()
def fit(make: Callable[[], Network], data: LabelledData, settings: Training, seed: int) -> Network:
    """Train `settings.restarts` networks on the labelled data and return the best of them.

    Frozen blocks (modules whose parameters all have requires_grad = False) stay in evaluation mode,
    with everything in them: a frozen backbone's batch norm keeps its running statistics, and its
    dropout is off. A layer without parameters that is in no frozen block, such as dropout before a
    new head, is trained as usual. A network in float16 is trained, and returned, in float32. The
    caller's `torch.no_grad`, `torch.inference_mode` and autocast are off meanwhile.

    Args:
        make: returns a new, randomly initialised network.
        data: the network is trained on the device of its images.
        settings: how it is trained.
        seed: fixes hold-out, initialisations, mini-batches and dropout.

    Raises:
        DfalError: for labels that are no classes of the network, for anything else that cannot be
            trained on, and for a network without a parameter to train.
    """
    data = _checked(make, data, settings)
    seed = whole("seed", seed)
    training, validation = split_holdout(data, settings.holdout, generator(seed, 0, "holdout"))
    trained = []
    for restart in range(settings.restarts):
        with fork_rng(derive_seed(seed, restart, "restart"), data.images.device):
            model = make()
            check_network(model, "what make returns")
            model = model.to(data.images.device)
            if any(p.requires_grad and p.dtype == torch.float16 for p in model.parameters()):
                model = model.float()  # squares of gradients are 0 in float16
            init_lazy_layers(model, prepare_images(model, data.images[:1]))
            trained.append(_train(model, training, validation, settings))
    return min(trained, key=lambda pair: pair[1])[0]


def _checked(make: Any, data: Any, settings: Any) -> LabelledData:
    """Return the labelled data with labels as int64.

    Raises:
        DfalError: for arguments that `fit` does not take.
    """
    if isinstance(make, nn.Module) or not callable(make):
        cure = "lambda: copy.deepcopy(network)" if isinstance(make, nn.Module) else "dfal.lenet5"
        raise DfalError(
            f"make must be a function that returns a new network, but it is {kind_of(make)}: give"
            f" {cure}"
        )
    if not isinstance(settings, Training):
        raise DfalError(
            f"the settings must be a dfal.Training, but they are {kind_of(settings)}: give"
            " dfal.Training()"
        )
    if not isinstance(data, LabelledData):
        cure = (
            "pool.labelled_data()"
            if hasattr(data, "labelled_data")
            else "dfal.LabelledData(images, labels, source)"
        )
        raise DfalError(
            f"the data must be a dfal.LabelledData, but they are {kind_of(data)}: give {cure}"
        )
    if settings.unlabelled != "none":
        raise DfalError(
            f"unlabelled = {settings.unlabelled!r} needs images without a label, and labelled data"
            " have none: give it to a dfal.Trial with a backbone"
        )
    tensors = {"images": data.images, "labels": data.labels, "source": data.source}
    for name, tensor in tensors.items():
        if not torch.is_tensor(tensor):
            raise DfalError(
                f"{name} must be a tensor, but they are {kind_of(tensor)}: try"
                f" torch.as_tensor({name})"
            )
    if data.labels.is_floating_point() or data.labels.is_complex():
        raise DfalError(
            f"labels must be whole numbers, but they are {data.labels.dtype}: try labels.long()"
        )
    if data.labels.ndim != 1 or len({len(tensor) for tensor in tensors.values()}) > 1:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise DfalError(
            "images, labels and source must have a row for each image, but their shapes are"
            f" {shapes}"
        )
    if not len(data.labels):
        raise DfalError(
            "there is no labelled image to train on: give the pool some known labels first"
        )
    return replace(data, labels=data.labels.long())


class _LabelCheck:
    """Compares the labels with the network's classes, once, in the first step of a training."""

    def __init__(self, data: LabelledData, validation: LabelledData):
        self._data, self._checked = (data, validation), False

    def check(self, f: Tensor) -> None:
        """Check that every label is a class of the network that returned the logits f.

        Raises:
            DfalError: where one is not.
        """
        if self._checked:
            return
        classes = f.shape[1]
        for data in self._data:
            strange = ((data.labels < 0) | (data.labels >= classes)).nonzero()
            if not len(strange):
                continue
            label, image = int(data.labels[strange[0]]), int(data.source[strange[0]])
            cure = (
                f"number the classes from 0, or give the network {int(data.labels.max()) + 1}"
                " logits"
            )
            cure = "give it a class" if label < 0 else cure
            raise DfalError(
                f"image {image} has the label {label}, but the network has the classes 0 to"
                f" {classes - 1}: {cure}"
            )
        self._checked = True


def split_holdout(
    data: LabelledData, holdout: float, rng: torch.Generator
) -> tuple[LabelledData, LabelledData]:
    """Split labelled data into some for training and some for validation.

    An image and its twins stay on one side, so that no network is validated on the twin of an image
    that it was trained on.

    Args:
        data: labelled data.
        holdout: fraction of the annotated images that are held out.
        rng: draws them.
    """
    sources = data.source.unique()
    order = torch.randperm(len(sources), generator=rng)
    held_out = torch.isin(data.source, sources[order[: holdout_size(holdout, len(sources))]])
    return _rows(data, ~held_out), _rows(data, held_out)


def holdout_size(holdout: float, images: int) -> int:
    """Return how many of a number of annotated images are held out.

    Raises:
        DfalError: where none would be left to train on.
    """
    count = round(holdout * images)
    if count >= images > 0:
        raise DfalError(
            f"holdout = {holdout} leaves none of {images} annotated images to train on: give less,"
            " or label more first"
        )
    return count


def _rows(data: LabelledData, which: Bool[Tensor, "n"]) -> LabelledData:
    on = which.to(data.images.device)
    return LabelledData(data.images[on], data.labels[on], data.source[which])


def _train(
    model: Network, data: LabelledData, validation: LabelledData, settings: Training
) -> tuple[Network, float]:
    """Train a network; return it with the loss by which restarts are compared.

    That is the loss on the hold-out, or on the labelled data where there is none.

    Raises:
        DfalError: for a network without a parameter to train.
    """
    images = prepare_images(model, data.images)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise DfalError(
            "the network has no parameter to train: set requires_grad of those to train,"
            " or give it some"
        )
    optimiser = torch.optim.Adam(_flatten_parameters(model), lr=settings.learning_rate, fused=True)
    train_mode = _train_mode(model)
    train_mode()
    step = _step(model, _LabelCheck(data, validation))
    best_loss, best_weights, waited = torch.inf, None, 0
    for _ in range(settings.epochs):
        train_mode()
        order = torch.randperm(len(data.labels), device=data.labels.device)
        for rows in _mini_batches(order, settings.training_batch, model):
            optimiser.zero_grad(set_to_none=False)
            step(images[rows], data.labels[rows])
            optimiser.step()
        if not len(validation.labels):
            continue
        loss = _loss(model, validation)
        if loss < best_loss:
            best_loss, waited = loss, 0
            best_weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        else:
            waited += 1
            if waited == settings.patience:
                break
    model.eval()
    if best_weights is None:
        return model, _loss(model, data)
    model.load_state_dict(best_weights)
    return model, best_loss


def _train_mode(model: nn.Module) -> Callable[[], object]:
    """Return a function that puts the network, but for its frozen blocks, into training mode."""
    frozen = [block for block in model.modules() if _is_frozen(block)]
    if not frozen:
        return model.train
    trained = list(_outside_frozen_blocks(model))

    def train() -> None:
        model.train()
        modes = [module.training for module in trained]
        for block in frozen:
            block.eval()
        # A frozen block may share modules with the rest, whose mode it must not change.
        for module, mode in zip(trained, modes, strict=True):
            module.training = mode

    return train


def _is_frozen(module: nn.Module) -> bool:
    """Return whether a module has parameters, and none of them is trained."""
    trained = [parameter.requires_grad for parameter in module.parameters()]
    return bool(trained) and not any(trained)


def _outside_frozen_blocks(module: nn.Module) -> Iterator[nn.Module]:
    if not _is_frozen(module):
        yield module
        for child in module.children():
            yield from _outside_frozen_blocks(child)


def _mini_batches(
    order: Int64[Tensor, "n"], size: int, model: nn.Module
) -> Sequence[Int64[Tensor, "b"]]:
    """Split the order into mini-batches.

    Where the network has batch norm, which cannot be trained on one image, a last mini-batch of one
    image joins the one before it.
    """
    batches: list[Tensor] = list(order.split(size))
    normed = any(isinstance(layer, _BatchNorm) and layer.training for layer in model.modules())
    if not normed or len(batches) < 2 or len(batches[-1]) > 1:
        return batches
    return [*batches[:-2], torch.cat(batches[-2:])]


def _flatten_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Make all trained parameters views of one vector for each data type; return these vectors.

    Their gradients are views of the vector's. A step of Adam is then one long run through memory,
    and not a call for each layer.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    vectors = []
    for dtype in dict.fromkeys(parameter.dtype for parameter in trained):
        parameters = [parameter for parameter in trained if parameter.dtype == dtype]
        vector = nn.Parameter(torch.cat([parameter.detach().flatten() for parameter in parameters]))
        vector.grad = torch.zeros_like(vector)
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, values, gradient in zip(
            parameters, vector.data.split(sizes), vector.grad.split(sizes), strict=True
        ):
            parameter.data, parameter.grad = values.view_as(parameter), gradient.view_as(parameter)
        vectors.append(vector)
    return vectors


Step = Callable[[Tensor, Tensor], None]
"""Adds the gradient of the mean cross-entropy of images and labels to the parameters' `.grad`."""


def _step(model: nn.Module, label_check: _LabelCheck) -> Step:
    """Return a training step, without autograd where the network's layers can be fused."""
    layers = fast_sequential(model)
    return _fused_step(layers, label_check) if layers else _autograd_step(model, label_check)


def _autograd_step(model: nn.Module, label_check: _LabelCheck) -> Step:
    def step(images: Tensor, labels: Tensor) -> None:
        try:
            with shape_errors(images):
                f = logits(model, images)
            label_check.check(f)
            F.cross_entropy(f, labels).backward()
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise DfalError(
                "batch norm cannot train on one image: let first and training_batch be 2 or more,"
                " or take it out"
            ) from error

    return step


def _fused_step(layers: FastSequential, label_check: _LabelCheck) -> Step:
    @torch.no_grad()
    def step(images: Tensor, labels: Tensor) -> None:
        with shape_errors(images):
            out, backward = layers.forward(images)
        f = check_logits(out, len(images))
        label_check.check(f)
        error = (f.softmax(1) - F.one_hot(labels, f.shape[1])) / len(labels)
        backward(error[:, -out.shape[-1] :].to(out.dtype).unsqueeze(0), params=True, inputs=False)

    return step


def _loss(model: nn.Module, data: LabelledData) -> float:
    return F.cross_entropy(predict(model, data.images), data.labels).item()
