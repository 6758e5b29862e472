"""The examples of docs/training.md, each run as a training of `dfal run`."""

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import dfal
from dfal.nn.custom_fit import load_fit

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
EXAMPLES = dict(re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```", PAGE, re.M | re.S))


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.filterwarnings("ignore")  # of Lightning, about loaders without workers
def test_an_example_trains_and_the_seed_decides(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name != "mine":
        pytest.importorskip(name.removeprefix("with_"))
    (tmp_path / f"{name}.py").write_text(EXAMPLES[name])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    labels = torch.arange(60) % 3
    images = torch.rand(60, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 5 * label : 5 * label + 4] += 0.7
    data = dfal.LabelledData(images, labels, torch.arange(60))

    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(256, 3))

    fit = load_fit(f"{name}:fit")
    models = [fit(make, data, seed) for seed in (0, 0, 1)]
    correct = dfal.predict(models[0], images).argmax(1) == labels
    assert correct.float().mean() > 0.9
    first, same, other = (nn.utils.parameters_to_vector(model.parameters()) for model in models)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert [file.name for file in tmp_path.iterdir() if file.suffix != ".py"] in (
        [],
        ["__pycache__"],
    )


def test_every_library_has_an_example() -> None:
    assert list(EXAMPLES) == ["mine", "with_lightning", "with_skorch"]
