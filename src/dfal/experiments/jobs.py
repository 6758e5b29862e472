"""What the runner runs: configurations with an id that yield records."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dfal.data import datasets
from dfal.data.datasets import Dataset
from dfal.experiments.serialization import id_of, to_json
from dfal.experiments.store import Record


class Job(ABC):
    """A frozen dataclass that decides its result: it is stored as text, and resumed at any round.

    Subclasses are stored under the name that they give to `serialization.stored_kind`.
    """

    if TYPE_CHECKING:  # fields of most jobs; a property here would be taken for their default

        @property
        def dataset(self) -> str: ...
        @property
        def model(self) -> str: ...
        @property
        def device(self) -> str: ...

    @property
    def id(self) -> str:
        """Return the beginning of the SHA-256 of the configuration."""
        return id_of(self.to_json())

    def to_json(self) -> str:
        """Return the whole configuration as text."""
        return to_json(self)

    @property
    def sources(self) -> tuple["Job", ...]:
        """Return the jobs, all of them trials, whose rounds this job needs; by default none."""
        return ()

    @property
    @abstractmethod
    def label(self) -> str:
        """Return what distinguishes the job from the others of a study."""

    @property
    @abstractmethod
    def round_costs(self) -> list[float]:
        """Return the relative cost of each round, from which the remaining time is estimated."""

    def data(self) -> Dataset:
        """Return the data that the job runs on; what must be computed for them is computed once."""
        return datasets.load(self.dataset)

    def data_to_check(self) -> Dataset:
        """Return data of the same form, which take no time to compute."""
        return self.data()

    @abstractmethod
    def check(self, data: Dataset) -> None:
        """Check that the job can run on data of this form.

        Raises:
            DfalError: if it cannot.
        """

    @abstractmethod
    def finished(self, past: Sequence[Record]) -> bool:
        """Return whether these rounds are all of the job."""

    @abstractmethod
    def run(
        self, data: Dataset, past: Sequence[Record], sources: Sequence[Sequence[Record]]
    ) -> Iterator[Record]:
        """Yield the missing rounds.

        Args:
            data: what `data` returns.
            past: the stored rounds, from round 0 on, which were made on the same data.
            sources: the rounds of each of `self.sources`.
        """
