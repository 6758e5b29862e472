"""What networks of other libraries do that plain chains do not: each fault on a small stand-in."""

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dfal
from dfal.nn.features import affine_last_linear, trained_head
from dfal.nn.inference import check_logits
from dfal.strategies import STRATEGIES
from small_networks import Wrapped


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(9, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def pool(images: Tensor) -> dfal.Pool:
    return dfal.Pool.new(images, {0: 0, 5: 1, 7: 2})


def ask(name: str, model: nn.Module, pool: dfal.Pool) -> dfal.Query:
    return STRATEGIES[name](model, pool, 2, dfal.generator(0, 0, "select"))


class Pooled(nn.Module):
    """A convolution, the mean over the image, and a linear layer."""

    def __init__(self, squeeze: Callable[[Tensor], Tensor], norm: bool = False) -> None:
        super().__init__()
        self.body, self.last = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.squeeze = squeeze

    def forward(self, x: Tensor) -> Any:
        return self.last(self.norm(self.squeeze(self.body(x).mean((2, 3), keepdim=True))))


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return make().eval()


@pytest.mark.parametrize("norm", [False, True], ids=["squeezed", "refused"])
def test_one_image_alone_is_computed_as_beside_others(
    norm: bool, images: Tensor, pool: dfal.Pool
) -> None:
    """`squeeze()` takes the batch of one image away, which batch norm refuses."""
    model = seeded(lambda: Pooled(torch.squeeze, norm))
    plain = seeded(lambda: Pooled(lambda x: x.flatten(1), norm))
    for look in (dfal.predict, dfal.features, lambda m, x: dfal.DeepFool()(m, x).distance):
        torch.testing.assert_close(look(model, images[:1]), look(plain, images[:1]))
    torch.testing.assert_close(
        dfal.predict(model, images, chunk=4), dfal.predict(plain, images, chunk=4)
    )
    assert torch.equal(dfal.LinearHead()(model, images[:1]).fooled, torch.tensor([True]))
    one = dfal.Pool.new(images, dict.fromkeys(range(8), 0))
    for name in ("dfal", "egl", "badge", "core-set", "entropy"):
        query = STRATEGIES[name](model, one, 1, dfal.generator(0, 0, "select"))
        want = STRATEGIES[name](plain, one, 1, dfal.generator(0, 0, "select"))
        torch.testing.assert_close(query.scores, want.scores)
    with pytest.raises(dfal.DfalError, match="probabilities"):
        dfal.predict(nn.Sequential(model, nn.Sigmoid()), images[:1])


def test_an_error_of_its_own_is_told_as_it_is(images: Tensor) -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Any:
            raise ValueError(f"{len(x)} is not enough")

    with pytest.raises(dfal.DfalError, match="1 is not enough"):
        dfal.predict(Failing(), images[:1])


def test_an_image_is_never_given_twice_in_training(images: Tensor) -> None:
    seen: list[int] = []

    class Watching(Pooled):
        def forward(self, x: Tensor) -> Any:
            if self.training:
                seen.append(len(x))
            return super().forward(x)

    data = dfal.Pool.new(images, {0: 0, 1: 1, 2: 2}).labelled_data()
    with pytest.raises(dfal.DfalError, match=r"\(expected 2D or 3D input"):
        dfal.fit(
            lambda: Watching(torch.squeeze, norm=True),
            data,
            dfal.Training(epochs=1, training_batch=1),
            0,
        )
    assert set(seen) == {1}


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.SyncBatchNorm])
def test_batch_norm_without_running_statistics_is_refused(
    norm: Any, images: Tensor, pool: dfal.Pool
) -> None:
    """The logits of an image would depend on its neighbours, and so would every score."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), norm(4, track_running_stats=False), nn.Flatten(), nn.Linear(144, 3)
    )
    looks: list[Callable[[], object]] = [
        lambda: dfal.predict(model, images),
        lambda: dfal.features(model, images),
        lambda: dfal.DeepFool()(model, images),
        lambda: ask("entropy", model, pool),
    ]
    for look in looks:
        with pytest.raises(dfal.DfalError, match=r"batch norm 1 .* no running statistics"):
            look()
    instances = nn.Sequential(nn.InstanceNorm2d(3), nn.Flatten(), nn.Linear(192, 3))
    assert dfal.predict(instances, images).shape == (9, 3)


class Twice(nn.Module):
    """One dropout layer that runs on two shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.first, self.last = nn.Dropout(0.5), nn.Linear(192, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.drop(F.relu(self.first(self.drop(x.flatten(1))))))


@pytest.mark.parametrize("name", ["bald", "power-bald", "batch-bald"])
def test_a_dropout_layer_may_run_on_several_shapes(name: str, pool: dfal.Pool) -> None:
    query = ask(name, seeded(Twice), pool)
    assert len(query.indices.unique()) == 2
    assert query.scores.isfinite().all()


@pytest.mark.parametrize(("p", "dual"), [(1, torch.inf), (1.5, 3), (torch.inf, 1)])
def test_the_closed_form_divides_by_the_dual_norm(p: float, dual: float) -> None:
    layer = seeded(lambda: nn.Linear(12, 5))
    images = torch.rand(20, 12, generator=torch.Generator().manual_seed(0))
    assert isinstance(layer, nn.Linear)
    f, w = dfal.predict(layer, images), layer.weight.detach()
    k = f.argmax(1)
    slopes = torch.stack([(w - w[own]).norm(dual, dim=1) for own in k.tolist()])
    want = ((f.amax(1, keepdim=True) - f) / slopes).nan_to_num(torch.inf).amin(1)
    torch.testing.assert_close(dfal.LinearHead(p=p)(layer, images).distance, want)


def test_a_thousand_classes_take_no_matrix_for_each_image() -> None:
    """One difference of weights for each image and class would be 300 × 1,000 × 64 numbers."""
    model = seeded(lambda: nn.Linear(64, 1000))
    images = torch.rand(300, 64, generator=torch.Generator().manual_seed(0))
    sizes: list[int] = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                sizes.append(out.numel())
            return out

    with Sizes():  # type: ignore[no-untyped-call]
        found = dfal.LinearHead()(model, images)
    assert max(sizes) <= 300 * 1000
    assert isinstance(model, nn.Linear)
    f, w = dfal.predict(model, images), model.weight.detach()
    k = f.argmax(1)
    slopes = torch.stack([(w - w[own]).norm(dim=1) for own in k.tolist()])
    want = ((f.amax(1, keepdim=True) - f) / slopes).nan_to_num(torch.inf).amin(1)
    torch.testing.assert_close(found.distance, want)


def test_outputs_without_logits_name_what_there_is() -> None:
    hidden = {"last_hidden_state": torch.rand(2, 5, 4), "pooler_output": torch.rand(2, 4)}
    with pytest.raises(
        dfal.DfalError,
        match=r"returned dict with last_hidden_state, pooler_output and no logits: give it a layer",
    ):
        check_logits(hidden, 2)


def test_a_network_in_float16_is_trained_in_float32(images: Tensor) -> None:
    data = dfal.Pool.new(images, {image: image % 3 for image in range(9)}).labelled_data()

    def make() -> nn.Sequential:
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 3)).half()

    model = dfal.fit(make, data, dfal.Training(epochs=60), 0)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert bool((dfal.predict(model, images).argmax(1) == data.labels).all())
    frozen = dfal.fit(
        lambda: nn.Sequential(make()[:3].requires_grad_(False), nn.Linear(8, 3).half()).bfloat16(),
        data,
        dfal.Training(epochs=1),
        0,
    )
    assert {parameter.dtype for parameter in frozen.parameters()} == {torch.bfloat16}


class HeadFirst(nn.Module):
    """The head is made before the body, has no bias, and what comes after it can be set."""

    def __init__(self, after: nn.Module | None = None, classes: int = 3) -> None:
        super().__init__()
        self.head = nn.Linear(16, classes, bias=False)
        self.body = nn.Linear(192, 16)
        self.after = after or nn.Identity()
        self.body.requires_grad_(False)

    def forward(self, x: Tensor) -> Any:
        return SimpleNamespace(logits=self.after(self.head(F.relu(self.body(x.flatten(1))))))


def test_the_head_that_alone_is_trained_is_found_by_what_runs_last(images: Tensor) -> None:
    model = HeadFirst()
    assert trained_head(model, images) is model.head
    assert affine_last_linear(model, images).layer is model.head
    assert trained_head(HeadFirst(nn.LayerNorm(3)), images) is None, "the norm is trained"
    scaled = HeadFirst(nn.LayerNorm(3, elementwise_affine=False))
    assert trained_head(scaled, images) is None, "something comes after it"
    assert trained_head(copy.deepcopy(model).requires_grad_(True), images) is None
    both = HeadFirst()
    both.body.bias.requires_grad_(True)
    assert trained_head(both, images) is None
    assert trained_head(Wrapped(model), images) is model.head
