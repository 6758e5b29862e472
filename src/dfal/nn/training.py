"""Train a network on labelled data: from scratch, with early stopping and restarts."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from dfal.arguments import check_network, whole
from dfal.data.image_array import Images
from dfal.errors import DfalError, first_line
from dfal.nn import together
from dfal.nn.augmentation_choice import suited_augmentation
from dfal.nn.consistency import ConsistencyStep
from dfal.nn.custom_augmentation import load_augmentation
from dfal.nn.ensemble import Ensemble, member_weights
from dfal.nn.evaluation import default_modes
from dfal.nn.fit_arguments import checked
from dfal.nn.inference import predict
from dfal.nn.mini_batches import count_steps, epochs
from dfal.nn.network_input import prepare_images
from dfal.nn.networks import init_lazy_layers
from dfal.nn.stack import MOST_BYTES, StackableTraining, Unlabelled, same_types
from dfal.nn.stacked_looks import drawn_changes
from dfal.nn.stacked_network import fixed_weights, skeleton, trained_weights
from dfal.nn.train_mode import train_mode
from dfal.nn.training_settings import AUTO, Training
from dfal.nn.training_steps import (
    LabelCheck,
    RunningMean,
    Step,
    gradients,
    labelled_step,
    learning_rates,
)
from dfal.pool import LabelledData
from dfal.seeding import derive_seed, fork_rng, generator

__all__ = ["Training", "check_device", "fit", "holdout_size", "split_holdout"]

Network = TypeVar("Network", bound=nn.Module)
Proceed = Callable[[int, int], object]
"""Is told the number of the step that begins, and how many there are."""


def _proceed(step: int, steps: int) -> None:
    """Let a training go on."""


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
    proceed: Proceed = _proceed,
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
    data = checked(make, data, settings, unlabelled)
    seed = whole("seed", seed)
    if settings.augment == AUTO:
        choice = suited_augmentation(fit, make, data, settings, derive_seed(seed, 0, "augment"))
        settings = replace(settings, augment=choice)
    starts = _Starts(make, data, settings, seed, unlabelled, start, proceed)
    members = _together(starts) or [starts.best_of(member) for member in range(settings.ensemble)]
    if settings.ensemble == 1:
        return members[0]
    return cast("Network", Ensemble(members).eval())


@dataclass(frozen=True)
class _Starts(Generic[Network]):
    """The trainings of one call of `fit`, whose arguments these are."""

    make: Callable[[], Network]
    data: LabelledData
    settings: Training
    seed: int
    unlabelled: Images | None
    start: Mapping[str, Tensor] | None
    proceed: Proceed

    def best_of(self, member: int) -> Network:
        """Train the restarts of a member of the ensemble, and return that with the lowest loss."""
        trained = [
            run.train(model, generator(seed, 0, "looks"))
            for model, run, seed in self.restarts(member)
        ]
        return min(trained, key=lambda pair: pair[1])[0]

    def restarts(self, member: int) -> "Iterator[tuple[Network, _TrainingRun, int]]":
        """Yield each restart of a member: its network, its training and its seed.

        PyTorch's own generators have that seed until the next one.
        """
        data, settings, seed, start = self.data, self.settings, self.seed, self.start
        if settings.ensemble > 1:
            start = None if start is None else member_weights(start, member)
            seed = derive_seed(seed, member, "member")
        training, validation = split_holdout(data, settings.holdout, generator(seed, 0, "holdout"))
        steps = settings.steps if start is None else settings.warm_steps
        run = _TrainingRun(training, validation, settings, steps, self.unlabelled, self.proceed)
        for restart in range(settings.restarts):
            restart_seed = derive_seed(seed, restart, "restart")
            with fork_rng(restart_seed, data.images.device):
                model = self.make()
                check_network(model, "what make returns")
                model = model.to(data.images.device)
                if any(p.requires_grad and p.dtype == torch.float16 for p in model.parameters()):
                    model = model.float()  # squares of gradients are 0 in float16
                init_lazy_layers(model, prepare_images(model, data.images[:1]))
                if start is not None:
                    model.load_state_dict(start)
                yield model, run, restart_seed


def _together(starts: _Starts[Network]) -> list[Network] | None:
    """Train all networks of a call in step with others, where a trainer does so.

    Returns:
        The best of each member of the ensemble; None where they are to be trained one by one.
    """
    trainer, settings = together.trainer(starts.data.images.device), starts.settings
    if (
        trainer is None
        or starts.proceed is not _proceed
        or drawn_changes(settings.augment) is None
        or (settings.learns_consistency and _bytes_of(starts.unlabelled) > MOST_BYTES)
    ):
        return None
    every, trainings = [], []
    for member in range(settings.ensemble):
        for model, run, seed in starts.restarts(member):
            if not together.pays(trainer, model):
                return None
            if (training := run.stackable(model, seed)) is None:
                return None
            every.append((model, run))
            trainings.append(training)
    if (outcomes := trainer(trainings)) is None:
        return None
    trained = [
        run.loaded(model, outcome) for (model, run), outcome in zip(every, outcomes, strict=True)
    ]
    return [
        min(group, key=lambda pair: pair[1])[0]
        for group in zip(*[iter(trained)] * settings.restarts, strict=True)
    ]


def _bytes_of(images: Images | None) -> int:
    return 0 if images is None else len(images) * math.prod(images.shape) * images.array.itemsize


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
        steps = count_steps(len(data.labels), settings, self.steps)
        rates = learning_rates(settings.learning_rate, settings.schedule, steps)
        numbers = itertools.count()
        best_loss, best_weights, waited = torch.inf, None, 0
        normed = any(isinstance(layer, _BatchNorm) and layer.training for layer in model.modules())
        for epoch in epochs(
            len(data.labels), settings, self.steps, normed=normed, device=data.labels.device
        ):
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

    def stackable(self, model: nn.Module, seed: int) -> StackableTraining | None:
        """Return the training of a network in step with others; None where it cannot be.

        Raises:
            DfalError: for labels that are no classes of the network, and as the network does.
        """
        data, validation = self.data, self.validation
        images = torch.cat([prepare_images(model, each.images) for each in (data, validation)])
        LabelCheck(data, validation).check(predict(model, images[:1]))
        train_mode(model, without_dropout=self.settings.is_without_dropout)()
        structure = skeleton(model)
        trained, fixed = trained_weights(model), fixed_weights(model)
        if structure is None or not trained or not same_types(trained, images):
            return None
        unlabelled = None
        if self.settings.learns_consistency and self.unlabelled is not None:
            each = self.unlabelled
            unlabelled = Unlabelled(each.digest, len(each), each)
        return StackableTraining(
            structure,
            trained,
            fixed,
            images,
            torch.cat([data.labels, validation.labels]),
            len(validation.labels),
            self.settings,
            self.steps,
            seed,
            str(images.device),
            unlabelled,
        )

    @torch.no_grad()
    def loaded(self, model: Network, trained: together.Trained) -> tuple[Network, float]:
        """Return a network with the weights of its training in step, as `train` returns it."""
        for name, parameter in model.named_parameters():
            if name in trained.weights:
                parameter.copy_(trained.weights[name])
        model.eval()
        return model, trained.loss if trained.loss < torch.inf else _loss(model, self.data)

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
