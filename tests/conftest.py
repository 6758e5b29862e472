"""Shapes and types are checked at run time under pytest only, and every test is given the same
small networks."""

from jaxtyping import install_import_hook

install_import_hook("dfal", "checked.checked")

import os  # noqa: E402  the hook must be there before dfal is imported
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import dfal  # noqa: E402
from dfal.data.datasets import Dataset, load  # noqa: E402
from shell import Shell  # noqa: E402
from skips import pytest_sessionfinish  # noqa: E402, F401

pytest_plugins = ["browsers", "paper_store", "ray_clusters", "saved_models"]

torch.set_num_threads(int(os.environ.get("DFAL_TEST_THREADS", "1")))


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """5,000 real digits, which every machine has."""
    return load("mnist-5k")


@pytest.fixture(scope="session")
def trained(digits: Dataset) -> nn.Sequential:
    """LeNet5 that has seen 200 digits."""
    pool = dfal.Pool.new(digits.images, {i: int(digits.labels[i]) for i in range(0, 4000, 20)})
    return dfal.fit(dfal.lenet5, pool.labelled_data(), dfal.Training(epochs=30), seed=0)


@pytest.fixture(scope="session")
def some_digits(digits: Dataset) -> Tensor:
    """48 digits that `trained` has not seen, of all classes."""
    return digits.images.take(torch.arange(1, 4000, 83)[:48])


@pytest.fixture(name="dfal")
def command_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    """The command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Shell(capsys, monkeypatch)


@pytest.fixture(scope="session")
def pool(digits: Dataset) -> dfal.Pool:
    """60 digits, three of them labelled."""
    return dfal.Pool.new(digits.images.take(torch.arange(0, 4000, 66)[:60]), {0: 0, 7: 1, 59: 2})


@pytest.fixture(scope="session")
def one_class(pool: dfal.Pool) -> nn.Sequential:
    """LeNet5 that has seen nothing but sevens."""
    sevens = dfal.Pool.new(pool.images, {0: 7, 7: 7, 59: 7})
    return dfal.fit(dfal.lenet5, sevens.labelled_data(), dfal.Training(epochs=20), seed=0)
