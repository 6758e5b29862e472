"""Train a network on labelled data: from scratch, with early stopping and restarts."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from dfal.arguments import check_network, kind_of, whole
from dfal.data.image_array import Images
from dfal.errors import DfalError, first_line
from dfal.nn.augmentation_choice import suited_augmentation
from dfal.nn.consistency import ConsistencyStep
from dfal.nn.custom_augmentation import load_augmentation
from dfal.nn.ensemble import Ensemble, member_weights
from dfal.nn.inference import default_modes, predict, prepare_images
from dfal.nn.networks import init_lazy_layers
from dfal.nn.training_settings import AUTO, Training
from dfal.nn.training_steps import (
    LabelCheck,
    RunningMean,
    Step,
    gradients,
    labelled_step,
    learning_rates,
    shuffled_cycles,
)
from dfal.pool import LabelledData
from dfal.seeding import derive_seed, fork_rng, generator

__all__ = ["Training", "check_device", "fit", "holdout_size", "split_holdout"]

Network = TypeVar("Network", bound=nn.Module)
Proceed = Callable[[int, int], object]
"""Is told the number of the step that begins, and how many there are."""


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


@default_modes()
def fit(
    make: Callable[[], Network],
    data: LabelledData,
    settings: Training,
    seed: int,
    *,
    unlabelled: Images | None = None,
    start: Mapping[str, Tensor] | None = None,
    proceed: Proceed = lambda step, steps: None,
) -> Network:
    """Train networks on the labelled data, and on images without a label where settings say so.

    The best of `settings.restarts` networks is returned, or a `dfal.nn.ensemble.Ensemble` of such
    networks.

    Frozen blocks (modules whose parameters all have requires_grad = False) stay in evaluation mode,
    with everything in them: a frozen backbone's batch norm keeps its running statistics, and its
    dropout is off. A layer without parameters that is in no frozen block, such as dropout before a
    new head, is trained as usual. A network in float16 is trained, and returned, in float32. The
    caller's `torch.no_grad`, `torch.inference_mode` and autocast are off meanwhile.

    Args:
        make: returns a new, randomly initialised network.
        data: the network is trained on the device of its images.
        settings: how it is trained.
        seed: fixes hold-out, initialisations, mini-batches, dropout and random changes of images.
        unlabelled: images whose pixels teach, labelled or not; needed where `settings.unlabelled`
            is "pseudo-labels", "vat" or "consistency", and not used elsewhere.
        start: the `state_dict` of what `fit` returned before, to begin with in place of the random
            weights; trained are `settings.warm_steps` then.
        proceed: called before each step of a network with its number, from 0, and how many there
            are; what it raises ends the training.

    Raises:
        DfalError: for labels that are no classes of the network, for anything else that cannot be
            trained on, and for a network without a parameter to train.
    """
    data = _checked(make, data, settings, unlabelled)
    seed = whole("seed", seed)
    if settings.augment == AUTO:
        choice = suited_augmentation(fit, make, data, settings, derive_seed(seed, 0, "augment"))
        settings = replace(settings, augment=choice)
    if settings.ensemble == 1:
        return _best(
            make, data, settings, seed, unlabelled=unlabelled, start=start, proceed=proceed
        )
    members = []
    for member in range(settings.ensemble):
        own = None if start is None else member_weights(start, member)
        own_seed = derive_seed(seed, member, "member")
        members.append(
            _best(make, data, settings, own_seed, unlabelled=unlabelled, start=own, proceed=proceed)
        )
    return cast("Network", Ensemble(members).eval())


def _best(
    make: Callable[[], Network],
    data: LabelledData,
    settings: Training,
    seed: int,
    *,
    unlabelled: Images | None,
    start: Mapping[str, Tensor] | None,
    proceed: Proceed,
) -> Network:
    """Train `settings.restarts` networks and return that with the lowest loss."""
    training, validation = split_holdout(data, settings.holdout, generator(seed, 0, "holdout"))
    trained = []
    for restart in range(settings.restarts):
        restart_seed = derive_seed(seed, restart, "restart")
        with fork_rng(restart_seed, data.images.device):
            model = make()
            check_network(model, "what make returns")
            model = model.to(data.images.device)
            if any(p.requires_grad and p.dtype == torch.float16 for p in model.parameters()):
                model = model.float()  # squares of gradients are 0 in float16
            init_lazy_layers(model, prepare_images(model, data.images[:1]))
            if start is not None:
                model.load_state_dict(start)
            steps = settings.steps if start is None else settings.warm_steps
            training_run = _TrainingRun(training, validation, settings, steps, unlabelled, proceed)
            trained.append(training_run.train(model, generator(restart_seed, 0, "looks")))
    return min(trained, key=lambda pair: pair[1])[0]


def _checked(make: Any, data: Any, settings: Any, unlabelled: Any) -> LabelledData:
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
    if settings.unlabelled == "spreading":
        raise DfalError(
            "unlabelled = 'spreading' needs a graph of features: give it to a dfal.Trial with a"
            " backbone"
        )
    if settings.learns_consistency and not isinstance(unlabelled, Images):
        raise DfalError(
            f"unlabelled = {settings.unlabelled!r} needs the images of the pool: give fit"
            " unlabelled=pool.images"
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
    if settings.augment not in {"none", AUTO} and data.images.ndim != 4:
        raise DfalError(
            f"the augmentation {settings.augment} changes images, but the data have the shape"
            f" {tuple(data.images.shape[1:])}: leave it out"
        )
    return replace(data, labels=data.labels.long())


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
    return data.rows(~held_out), data.rows(held_out)


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


@dataclass(frozen=True)
class _TrainingRun:
    """What one network is trained on, and how.

    Attributes:
        data, validation: the labelled data, and those held out.
        settings: of the training.
        steps: the least number of steps.
        unlabelled, proceed: as in `fit`.
    """

    data: LabelledData
    validation: LabelledData
    settings: Training
    steps: int
    unlabelled: Images | None
    proceed: Proceed

    def train(self, model: Network, rng: torch.Generator) -> tuple[Network, float]:
        """Train a network; return it with the loss by which restarts are compared.

        That is the loss on the hold-out, or on the labelled data where there is none.

        Args:
            model: the network, on the device of the data.
            rng: decides random changes of images.

        Raises:
            DfalError: for a network without a parameter to train.
        """
        settings, data = self.settings, self.data
        images = prepare_images(model, data.images)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise DfalError(
                "the network has no parameter to train: set requires_grad of those to train,"
                " or give it some"
            )
        vectors = _flatten_parameters(model)
        optimiser = torch.optim.Adam(vectors, lr=settings.learning_rate, fused=True)
        mean = RunningMean(vectors, settings.average) if settings.average else None
        set_mode = train_mode(model, without_dropout=settings.is_without_dropout)
        set_mode()
        step = self._step(model, set_mode, rng)
        steps = max(self.steps, settings.epochs * -(-len(data.labels) // settings.training_batch))
        rates = learning_rates(settings.learning_rate, settings.schedule, steps)
        numbers = itertools.count()
        best_loss, best_weights, waited = torch.inf, None, 0
        for epoch in self._epochs(model, steps):
            set_mode()
            for rows in epoch:
                self.proceed(next(numbers), steps)
                optimiser.param_groups[0]["lr"] = next(rates)
                optimiser.zero_grad(set_to_none=False)
                step(images[rows], data.labels[rows])
                optimiser.step()
                if mean is not None:
                    mean.update()
            if not len(self.validation.labels):
                continue
            with _swapped(mean):
                loss = _loss(model, self.validation)
                if loss < best_loss:
                    best_loss, waited = loss, 0
                    best_weights = {
                        name: tensor.clone() for name, tensor in model.state_dict().items()
                    }
                else:
                    waited += 1
            if waited == settings.patience:
                break
        model.eval()
        if best_weights is not None:
            model.load_state_dict(best_weights)
            return model, best_loss
        if mean is not None:
            mean.swap()
        return model, _loss(model, data)

    def _epochs(self, model: nn.Module, steps: int) -> Iterator[Iterable[Int64[Tensor, "b"]]]:
        """Yield the mini-batches of each epoch, after which the hold-out is looked at.

        Where a number of steps is asked for all of them are full, so that few labels do not lead to
        steps on fewer still.
        """
        size, labels = self.settings.training_batch, self.data.labels
        if not self.steps:
            for _ in range(self.settings.epochs):
                order = torch.randperm(len(labels), device=labels.device)
                yield _mini_batches(order, size, model)
            return
        full = shuffled_cycles(len(labels), size, labels.device)
        each = -(-len(labels) // size)
        for start in range(0, steps, each):
            yield itertools.islice(full, min(each, steps - start))

    def _step(self, model: nn.Module, set_mode: Callable[[], object], rng: torch.Generator) -> Step:
        """Return what computes the gradient of a mini-batch."""
        settings, check = self.settings, LabelCheck(self.data, self.validation)
        augment = load_augmentation(settings.augment)
        if self.unlabelled is not None and settings.learns_consistency:
            return ConsistencyStep(
                gradients(model, set_mode),
                images=self.unlabelled,
                augment=augment,
                settings=settings,
                labels=self.data.labels,
                label_check=check,
                rng=rng,
            )
        step = labelled_step(model, check)
        if settings.augment == "none":
            return step
        return lambda images, labels: step(augment.strong(images, rng), labels)


@contextlib.contextmanager
def _swapped(mean: RunningMean | None) -> Iterator[None]:
    """Let the network have the running mean of its weights for a block."""
    if mean is not None:
        mean.swap()
    yield
    if mean is not None:
        mean.swap()


def train_mode(model: nn.Module, *, without_dropout: bool) -> Callable[[], object]:
    """Return a function that puts the network into training mode.

    Its frozen blocks stay in evaluation mode, and its dropout where it is to be left out.

    Args:
        model: the network.
        without_dropout: whether its dropout layers stay in evaluation mode.
    """
    frozen = [block for block in model.modules() if _is_frozen(block)]
    left_out = [layer for layer in model.modules() if isinstance(layer, _DropoutNd)]
    left_out = left_out if without_dropout else []
    if not frozen and not left_out:
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
        for layer in left_out:
            layer.eval()

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


def _loss(model: nn.Module, data: LabelledData) -> float:
    return F.cross_entropy(predict(model, data.images), data.labels).item()
