"""Trains networks of one structure in step: slots of weights, and one step for all of them."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float32, Int32, Int64
from torch import Tensor

from dfal.data.image_array import Images
from dfal.nn.stacked_looks import Pixels, StackedLooks
from dfal.nn.stacked_network import Batch, StackedNetwork, Weights
from dfal.nn.training_settings import Training

MOST_STEPS = 32
"""Steps that are handed to the device at a time."""
LOOK_BATCH = 128
"""Images of the hold-out that each slot computes at a time."""
LEAST_ROWS = 64
"""Images for which a slot has room at first; later twice as many, and so on."""
MOST_BYTES = 8 * 2**30
"""Memory that the labelled images of all slots may take, and that the unlabelled ones may."""
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Of Adam, as PyTorch's."""


@dataclass(frozen=True)
class Unlabelled:
    """The images without a label that a training is to learn from, which others share with it.

    Attributes:
        digest: of their pixels.
        count: how many there are.
        images: None where the process that trains has them already.
    """

    digest: str
    count: int
    images: Images | None


@dataclass(frozen=True)
class StackableTraining:
    """One training of a network, with nothing of the process that asks for it.

    Attributes:
        structure: what `stacked_network.skeleton` returned.
        trained, fixed: the weights it begins with.
        images, labels: of the training, then of the hold-out.
        held_out: how many of them are held out.
        settings: how it is trained.
        steps: the least number of steps; 0 where the epochs alone decide.
        seed: of all that is random.
        device: on which it is trained.
        unlabelled: the images without a label, where the settings ask for them.
    """

    structure: bytes
    trained: Weights
    fixed: Weights
    images: Float[Tensor, "n *image"]
    labels: Int64[Tensor, "n"]
    held_out: int
    settings: Training
    steps: int
    seed: int
    device: str
    unlabelled: Unlabelled | None = None

    @property
    def kind(self) -> tuple[object, ...]:
        """Return what trainings must have in common to be in one stack."""
        settings = self.settings
        consistency = (
            *(settings.unlabelled, settings.unlabelled_batch),
            *(settings.threshold, settings.radius),
        )
        return (
            *(self.structure, self.device, self.images.shape[1:], self.images.dtype),
            *(settings.training_batch, bool(settings.average), settings.augment),
            *((self.unlabelled.digest, *consistency) if self.unlabelled else ()),
        )

    def to(self, device: str) -> "StackableTraining":
        """Return the same with its tensors on a device, on which it need not be trained."""

        def moved(weights: Weights) -> Weights:
            return {name: tensor.to(device) for name, tensor in weights.items()}

        return replace(
            self,
            trained=moved(self.trained),
            fixed=moved(self.fixed),
            images=self.images.to(device),
            labels=self.labels.to(device),
        )


@dataclass
class Steps:
    """Some steps of all slots; where a slot rests, its numbers are 0.

    Attributes:
        rows: the mini-batches, as rows of the slot's images.
        weights: of the rows in the loss.
        keys: decide dropout and looks.
        rates: step sizes of Adam, with the correction of the first moment.
        corrections: that of the root of the second moment.
        averaging: weights of the parameters in their running mean.
        unlabelled: the mini-batches without a label, as rows of all such images.
    """

    rows: Int64[Tensor, "k s b"]
    weights: Float32[Tensor, "k s b"]
    keys: Int32[Tensor, "k s 2"]
    rates: Float32[Tensor, "k s"]
    corrections: Float32[Tensor, "k s"]
    averaging: Float32[Tensor, "k s"]
    unlabelled: Int64[Tensor, "k s u"]

    @classmethod
    def empty(cls, count: int, slots: int, settings: Training) -> "Steps":
        """Return steps in which all slots rest."""
        batch = settings.training_batch
        unlabelled = settings.unlabelled_batch if settings.learns_consistency else 0
        return cls(
            rows=torch.zeros(count, slots, batch, dtype=torch.int64),
            weights=torch.zeros(count, slots, batch),
            keys=torch.zeros(count, slots, 2, dtype=torch.int32),
            rates=torch.zeros(count, slots),
            corrections=torch.zeros(count, slots),
            averaging=torch.zeros(count, slots),
            unlabelled=torch.zeros(count, slots, unlabelled, dtype=torch.int64),
        )

    def tensors(self) -> tuple[Tensor, ...]:
        """Return all of the numbers."""
        return (
            *(self.rows, self.weights, self.keys),
            *(self.rates, self.corrections, self.averaging, self.unlabelled),
        )


class Stack:
    """Slots in which networks of one structure are trained by Adam, in step.

    On a GPU a step is one CUDA graph.

    Args:
        training: one of those that will be in the slots.
        slots: how many networks are trained at a time.
        unlabelled: the images without a label on the device, where such are trained on.

    Raises:
        UnstackableError: where such networks are to be trained on their own.
    """

    def __init__(self, training: StackableTraining, slots: int, unlabelled: Pixels | None = None):
        settings, fixed = training.settings, training.fixed
        self.slots, self.settings = slots, settings
        example = batch_of(training.images, settings.training_batch)
        network = StackedNetwork(training.structure, training.trained, fixed, example)
        self.network, self._image, self.device = network, example[0], example.device
        self._looks = StackedLooks(network, settings, slots, self._image, unlabelled)
        self._classes = torch.arange(network.classes, device=self.device)
        self._average = bool(settings.average)
        vector = network.flat(training.trained)
        self._vectors = vector.new_zeros(slots, len(vector))
        self._first, self._second = (torch.zeros_like(self._vectors) for _ in range(2))
        self._means = torch.zeros_like(self._vectors) if self._average else self._vectors
        self._best = torch.zeros_like(self._vectors)
        self._fixed = {
            name: tensor.new_zeros(slots, *tensor.shape) for name, tensor in fixed.items()
        }
        self._steps = Steps(
            *(t.to(self.device) for t in Steps.empty(MOST_STEPS, slots, settings).tensors())
        )
        self._position = torch.zeros(1, dtype=torch.int64, device=self.device)
        self._room = 0
        self._images, self._labels = example[:0].clone(), self._position.new_zeros(0)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._graphs = self.device.type == "cuda"
        self._offsets = torch.arange(slots, device=self.device).unsqueeze(1)

    def has_room(self, count: int) -> bool:
        """Return whether a slot may have as many images."""
        return self.slots * _room(count) * self._image.nbytes <= MOST_BYTES

    def load(self, slot: int, training: StackableTraining) -> None:
        """Begin a training in a slot."""
        images, labels = training.images, training.labels
        if len(images) > self._room:
            self._make_room(_room(len(images)))
        begin = slot * self._room
        self._images[begin : begin + len(images)] = images
        self._labels[begin : begin + len(labels)] = labels
        self._vectors[slot] = self.network.flat(training.trained)
        self._means[slot] = self._vectors[slot]
        for moment in (self._first, self._second):
            moment[slot] = 0
        for name, tensor in training.fixed.items():
            self._fixed[name][slot] = tensor
        self._looks.load(slot, labels[: len(labels) - training.held_out])

    def run(self, steps: Steps) -> None:
        """Make steps, at most `MOST_STEPS`."""
        count = len(steps.rows)
        for ours, theirs in zip(self._steps.tensors(), steps.tensors(), strict=True):
            # From pinned memory the copy waits for nothing; PyTorch keeps it until it is done.
            source = theirs.pin_memory() if self.device.type == "cuda" else theirs
            ours[:count].copy_(source, non_blocking=True)
        self._position.zero_()
        with torch.cuda.device(self.device) if self._graphs else contextlib.nullcontext():
            if self._graphs and self._graph is None:
                self._capture()
            for _ in range(count):
                if self._graph is not None:
                    self._graph.replay()
                else:
                    self._step()

    def losses(self, rows: Sequence[Tensor | None]) -> list[float]:
        """Return the mean cross-entropy of each slot in evaluation mode, 0 where it has no rows.

        That of the running mean of the weights, where there is one.

        Args:
            rows: of the images of each slot, int64.
        """
        most = max(len(each) for each in rows if each is not None)
        blocks = -(-most // LOOK_BATCH)
        table = torch.zeros(self.slots, blocks * LOOK_BATCH, dtype=torch.int64)
        weights = torch.zeros(self.slots, blocks * LOOK_BATCH)
        for slot, each in enumerate(rows):
            if each is not None:
                table[slot, : len(each)] = each
                weights[slot, : len(each)] = 1 / len(each)
        losses = self._vectors.new_zeros(self.slots)
        for some, some_weights in zip(
            table.to(self.device).split(LOOK_BATCH, 1),
            weights.to(self.device).split(LOOK_BATCH, 1),
            strict=True,
        ):
            batch = self._batch(some, some_weights)
            losses += self.network.losses(self._means, self._fixed, batch)
        return losses.tolist()

    def keep(self, slots: Sequence[int]) -> None:
        """Keep the weights of some slots as their best ones."""
        chosen = torch.tensor(slots, device=self.device)
        self._best[chosen] = self._means[chosen]

    def weights(self, slot: int, *, best: bool) -> Weights:
        """Return copies of a slot's weights on the CPU, the best ones or those it has now."""
        source = self._best if best else self._means
        # Each has memory of its own: pickle would send all of it with each.
        named = self.network.unflat(source[slot].to("cpu"))
        return {name: tensor.clone() for name, tensor in named.items()}

    def _batch(self, rows: Int64[Tensor, "s b"], weights: Float32[Tensor, "s b"]) -> Batch:
        """Return the images of rows of each slot, with their labels as class probabilities."""
        index = (rows + self._offsets * self._room).flatten()
        images = self._images.index_select(0, index).view(*rows.shape, *self._image.shape)
        labels = self._labels.index_select(0, index).view(*rows.shape, 1)
        return Batch(images, (labels == self._classes).to(images.dtype), weights.to(images.dtype))

    @torch.no_grad()
    def _step(self) -> None:
        """Make a step of all slots, with nothing that waits for the device."""
        rows, weights, keys, rates, corrections, averaging, unlabelled = (
            tensor.index_select(0, self._position)[0] for tensor in self._steps.tensors()
        )
        batch = self._batch(rows, weights)
        batch = self._looks(self._vectors, self._fixed, batch, unlabelled, keys)
        gradient = self.network.gradients(self._vectors, self._fixed, batch, keys)
        self._first.lerp_(gradient, 1 - BETA1)
        self._second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        root = self._second.sqrt().mul_(corrections.unsqueeze(1)).add_(EPSILON)
        self._vectors.sub_((self._first / root).mul_(rates.unsqueeze(1)))
        if self._average:
            self._means.lerp_(self._vectors, averaging.unsqueeze(1).to(self._vectors.dtype))
        self._position.add_(1)

    def _make_room(self, room: int) -> None:
        before, kept = (self._images, self._labels), self._room
        self._images = self._image.new_zeros(self.slots * room, *self._image.shape)
        self._labels = self._labels.new_zeros(self.slots * room)
        for old, new in zip(before, (self._images, self._labels), strict=True):
            shape = old.shape[1:]
            new.view(self.slots, room, *shape)[:, :kept] = old.view(self.slots, kept, *shape)
        self._room, self._graph = room, None

    def _capture(self) -> None:
        """Make a CUDA graph of a step, and leave everything as it was.

        Networks whose forward pass waits for the device cannot be captured; their steps are made
        one operation at a time.
        """
        moments = self._first, self._second
        state = (self._vectors, *moments, self._means, self._position, *self._looks.state)
        before = [tensor.clone() for tensor in state]

        def restore() -> None:
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)

        # Libraries allocate in their first calls, which a graph cannot hold.
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            for _ in range(3):
                self._step()
                restore()
        torch.cuda.current_stream(self.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads, as those of a page, may use the device meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._step()
        except RuntimeError:
            self._graphs = False
            with contextlib.suppress(RuntimeError):
                torch.cuda.synchronize(self.device)
        else:
            self._graph = graph
        restore()


def _room(count: int) -> int:
    """Return for how many images a slot gets room."""
    return max(LEAST_ROWS, 1 << (count - 1).bit_length())


def batch_of(images: Float[Tensor, "n *image"], size: int) -> Float[Tensor, "b *image"]:
    """Return a mini-batch of full size, with images twice where there are fewer."""
    return images[torch.arange(size, device=images.device) % len(images)]


def same_types(weights: Mapping[str, Tensor], images: Tensor) -> bool:
    """Return whether all weights have the type and device of the images."""
    return all(w.dtype == images.dtype and w.device == images.device for w in weights.values())
