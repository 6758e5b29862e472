"""Trainings that run together: those of networks of one structure take their steps at once.

`fit` hands its trainings to the trainer of `training_together`, where there is one. On a GPU, small
networks have one by default: their step is one CUDA graph, in place of hundreds of operations that
are each launched in more time than they take. What a training draws at random comes from a
generator of its own, so that its result does not depend on those beside it.
"""

import contextlib
import math
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from dfal.errors import first_line
from dfal.nn.mini_batches import count_steps, epochs
from dfal.nn.stack import BETA1, BETA2, MOST_STEPS, Stack, StackableTraining, Steps
from dfal.nn.stacked_network import UnstackableError, Weights
from dfal.nn.training_settings import Training
from dfal.nn.training_steps import learning_rates, shuffled_cycles
from dfal.seeding import generator

MOST_WEIGHTS = 2**22
"""Trained weights of a network up to which it is trained as a CUDA graph by default. The graph
keeps five times as many numbers on the GPU, and a larger network gains little."""
MOST_STACKS = 8
"""Stacks that are kept; those without a training are let go, the oldest first."""


@dataclass(frozen=True)
class Trained:
    """What a training leaves.

    Attributes:
        weights: the trained parameters, on the CPU.
        loss: the lowest on the hold-out; infinite without one.
    """

    weights: Weights
    loss: float


Owner = Any
"""A name of a training, by which its result is found."""
Trainer = Callable[[Sequence[StackableTraining]], list[Trained] | None]
"""Runs trainings together; returns None where they cannot be stacked."""

_TRAINER: ContextVar[Trainer | None] = ContextVar("trainer", default=None)


def trainer(device: torch.device) -> Trainer | None:
    """Return what runs the trainings of `fit` on a device; None where they run step by step."""
    return _TRAINER.get() or (_one_by_one if device.type == "cuda" else None)


def pays(run: Trainer, model: nn.Module) -> bool:
    """Return whether a network is to be trained by a trainer: by the default one if it is small."""
    weights = sum(each.numel() for each in model.parameters() if each.requires_grad)
    return run is not _one_by_one or weights <= MOST_WEIGHTS


def _one_by_one(trainings: Sequence[StackableTraining]) -> list[Trained] | None:
    with _ONE_LOCK:
        return _ONE(trainings)


@contextlib.contextmanager
def training_together(run: Trainer) -> Iterator[None]:
    """Let `fit` hand its trainings to a trainer, inside the block."""
    token = _TRAINER.set(run)
    try:
        yield
    finally:
        _TRAINER.reset(token)


class InThisProcess:
    """A trainer in this process: networks of one call of `fit`, its restarts and ensemble.

    Args:
        slots: how many networks are trained at a time.
        tells: whether a line on standard error says why networks are not trained so.
    """

    def __init__(self, slots: int, *, tells: bool = True):
        self._together = Together(slots, tells=tells)

    def __call__(self, trainings: Sequence[StackableTraining]) -> list[Trained] | None:
        results: dict[object, Trained | None] = {}
        for place, training in enumerate(trainings):
            self._together.add(place, training)
        try:
            while self._together.busy and None not in results.values():
                results |= self._together.advance()
        finally:
            for place in range(len(trainings)):
                self._together.drop(place)
        trained = [result for _, result in sorted(results.items()) if result is not None]
        return trained if len(trained) == len(trainings) else None


class Together:
    """Stacks of networks, one for each structure, and the trainings that wait for a slot.

    Args:
        slots: of each stack.
        tells: whether a line on standard error says why networks are not trained so.
    """

    def __init__(self, slots: int, *, tells: bool = True):
        self._slots, self._stacks = slots, dict[object, _RunningStack | None]()
        self._tells = tells
        self._refused: set[Owner] = set()
        # Stacks hold the images; without one that needs them they are gone.
        self._pixels = WeakValueDictionary[tuple[str, str], Tensor]()

    @property
    def busy(self) -> bool:
        """Return whether a training is not done."""
        return bool(self._refused) or any(stack.busy for stack in self._stacks.values() if stack)

    def lacks_images(self, training: StackableTraining) -> bool:
        """Return whether a training can only be added with its images without a label."""
        return (
            training.unlabelled is not None
            and training.kind not in self._stacks
            and (training.unlabelled.digest, training.device) not in self._pixels
        )

    def add(self, owner: Owner, training: StackableTraining) -> None:
        """Take in a training, which begins as soon as a slot is free.

        Args:
            owner: a name for it.
            training: the training.
        """
        key = training.kind
        try:
            training = training.to(training.device)
            if key not in self._stacks:
                pixels = self._unlabelled(training)  # first, while a stack that goes holds them
                self._let_go_of_idle()
                self._stacks[key] = _RunningStack(training, self._slots, pixels)
            stack = self._stacks[key]
        except (UnstackableError, RuntimeError) as error:  # the latter: no memory
            self._tell(error)
            stack = None
            self._stacks.setdefault(key, None)  # one that runs goes on
        if stack is None or not stack.has_room(training):
            self._refused.add(owner)
        else:
            stack.add(owner, training)

    def _unlabelled(self, training: StackableTraining) -> Tensor | None:
        """Return the images without a label of a training on its device, once for all stacks."""
        if (unlabelled := training.unlabelled) is None:
            return None
        key = unlabelled.digest, training.device
        pixels = self._pixels.get(key)
        if pixels is None and unlabelled.images is not None:
            pixels = self._pixels[key] = unlabelled.images.pixels().to(training.device)
        return pixels

    def _let_go_of_idle(self) -> None:
        """Make room for one more stack; a network whose structure is never the same fills all."""
        idle = [key for key, stack in self._stacks.items() if stack is None or not stack.busy]
        for key in idle[: max(0, len(self._stacks) - MOST_STACKS + 1)]:
            del self._stacks[key]

    def advance(self) -> dict[Owner, Trained | None]:
        """Make some steps of all trainings.

        Returns:
            Those that are done by the names they have; None for one to be trained on its own.
        """
        done: dict[Owner, Trained | None] = dict.fromkeys(self._refused)
        self._refused = set()
        for key, stack in self._stacks.items():
            if stack is None or not stack.busy:
                continue
            try:
                done |= stack.advance()
            except Exception as error:  # no memory, or the user's code, which may raise anything
                self._tell(error)
                done |= dict.fromkeys(stack.owners)
                self._stacks[key] = None
        return done

    def _tell(self, error: Exception) -> None:
        if self._tells:
            sys.stderr.write(f"dfal: networks are trained one by one ({first_line(error)})\n")

    def drop(self, owner: Owner) -> None:
        """End the training of a name."""
        self._refused.discard(owner)
        for stack in self._stacks.values():
            if stack is not None:
                stack.drop(owner)


class _RunningStack:
    """A stack with the trainings in its slots, and those that wait."""

    def __init__(self, training: StackableTraining, slots: int, unlabelled: Tensor | None):
        self._stack = Stack(training, slots, unlabelled)
        self._courses: list[_Course | None] = [None] * slots
        self._waiting: deque[tuple[Owner, StackableTraining]] = deque()

    @property
    def busy(self) -> bool:
        return bool(self._waiting) or any(self._courses)

    @property
    def owners(self) -> list[Owner]:
        return [owner for owner, _ in self._waiting] + [
            course.owner for course in self._courses if course is not None
        ]

    def has_room(self, training: StackableTraining) -> bool:
        return self._stack.has_room(len(training.images))

    def add(self, owner: Owner, training: StackableTraining) -> None:
        self._waiting.append((owner, training))

    def drop(self, owner: Owner) -> None:
        self._waiting = deque(pair for pair in self._waiting if pair[0] != owner)
        self._courses = [
            None if course is not None and course.owner == owner else course
            for course in self._courses
        ]

    def advance(self) -> dict[Owner, Trained]:
        for slot, course in enumerate(self._courses):
            if course is None and self._waiting:
                owner, training = self._waiting.popleft()
                self._stack.load(slot, training)
                self._courses[slot] = _Course(owner, training)
        running = [(slot, course) for slot, course in enumerate(self._courses) if course]
        count = min(MOST_STEPS, *(course.until_look for _, course in running))
        steps = Steps.empty(count, self._stack.slots, self._stack.settings)
        for slot, course in running:
            course.fill(steps, slot)
        self._stack.run(steps)
        self._look(
            [
                (slot, course)
                for slot, course in running
                if course.held_out and not course.until_look
            ]
        )
        done = {}
        for slot, course in running:
            if course.is_over:
                best = course.best_loss < math.inf
                weights = self._stack.weights(slot, best=best)
                done[course.owner] = Trained(weights, course.best_loss)
                self._courses[slot] = None
        return done

    def _look(self, courses: list[tuple[int, "_Course"]]) -> None:
        """Look at the hold-outs of trainings that are at the end of an epoch."""
        if not courses:
            return
        rows: list[Tensor | None] = [None] * self._stack.slots
        for slot, course in courses:
            rows[slot] = course.held_out_rows
        losses = self._stack.losses(rows)
        better = [slot for slot, course in courses if course.see(losses[slot])]
        if better:
            self._stack.keep(better)


class _Course:
    """Where a training is: all steps that it may take, and its hold-out.

    Attributes:
        owner: a name for it.
        held_out: how many images are held out.
        best_loss: the lowest loss on them so far.
        until_look: steps until the hold-out is looked at, or without one until the end.
    """

    def __init__(self, owner: Owner, training: StackableTraining):
        self.owner, self.best_loss, self._waited = owner, math.inf, 0
        self._training, settings, self.held_out = training, training.settings, training.held_out
        count = len(training.labels) - self.held_out
        drawn = epochs(
            count, settings, training.steps, rng=generator(training.seed, 0, "mini-batches")
        )
        batches, ends = list[Tensor](), list[int]()
        for epoch in drawn:
            batches += epoch
            ends.append(len(batches))
        self._count = count_steps(count, settings, training.steps)
        self._step, self._ends, self._is_over = 0, iter(ends), False
        self._steps = _steps(batches, settings, generator(training.seed, 0, "dropout"))
        if training.unlabelled is not None:
            rng = generator(training.seed, 0, "unlabelled")
            cycles = shuffled_cycles(training.unlabelled.count, settings.unlabelled_batch, rng=rng)
            for rows in self._steps.unlabelled:
                rows[0] = next(cycles)
        self.until_look = 0
        self._next_look()

    @property
    def is_over(self) -> bool:
        return self._is_over or self._step == self._count

    @property
    def held_out_rows(self) -> Int64[Tensor, "v"]:
        """Return the rows of the images that are held out."""
        count = len(self._training.labels)
        return torch.arange(count - self.held_out, count)

    def fill(self, steps: Steps, slot: int) -> None:
        """Write the next steps into a slot."""
        begin, count = self._step, len(steps.rows)
        for ours, theirs in zip(self._steps.tensors(), steps.tensors(), strict=True):
            theirs[:, slot] = ours[begin : begin + count, 0]
        self._step += count
        self.until_look -= count

    def see(self, loss: float) -> bool:
        """Take in the loss on the hold-out after an epoch; return whether it is the lowest."""
        better = loss < self.best_loss
        self._waited = 0 if better else self._waited + 1
        self.best_loss = loss if better else self.best_loss
        self._is_over = self._waited == self._training.settings.patience
        if not self.is_over:
            self._next_look()
        return better

    def _next_look(self) -> None:
        end = next(self._ends) if self.held_out else self._count
        self.until_look = end - self._step


def _steps(
    batches: Sequence[Int64[Tensor, "_"]], settings: Training, dropout: torch.Generator
) -> Steps:
    """Return all steps of one training, as those of a stack of one slot.

    Args:
        batches: the mini-batches, some of which may be smaller than the others.
        settings: how the network is trained.
        dropout: draws the keys of dropout.
    """
    steps = Steps.empty(len(batches), 1, settings)
    sizes = torch.tensor([len(batch) for batch in batches])
    is_filled = torch.arange(settings.training_batch) < sizes.unsqueeze(1)
    steps.rows[:, 0][is_filled] = torch.cat(list(batches))
    steps.weights[:, 0] = is_filled / sizes.unsqueeze(1)
    steps.keys.random_(-(2**31), 2**31, generator=dropout)
    numbers = torch.arange(1, len(batches) + 1, dtype=torch.float64)
    rates = torch.tensor(
        list(learning_rates(settings.learning_rate, settings.schedule, len(batches))),
        dtype=torch.float64,
    )
    steps.rates[:, 0] = rates / (1 - BETA1**numbers)
    steps.corrections[:, 0] = (1 - BETA2**numbers).rsqrt()
    if settings.average:
        steps.averaging[:, 0] = 1 - (numbers / (numbers + 9)).clamp_max(settings.average)
    return steps


_ONE, _ONE_LOCK = InThisProcess(1, tells=False), threading.Lock()
