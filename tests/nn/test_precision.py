"""Every strategy and attack in every precision: as in float32, up to the rounding of weights and
logits."""

import copy
import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.attacks import ATTACKS, deepfool_state
from dfal.attacks.gradients import gradients_of
from dfal.nn.evaluation import frozen_eval
from dfal.nn.network_input import is_half, prepare_images
from dfal.protocols import Strategy
from dfal.strategies import STRATEGIES
from dfal.strategies.base import Ranking
from dfal.strategies.egl import expected_gradient_length
from small_networks import Wrapped

HALVES = [torch.float16, torch.bfloat16]
TYPES = [torch.float64, torch.float32, *HALVES]
SETTINGS: dict[str, dict[str, Any]] = {"fgsm": {"epsilon": 0.5}}
EVERY_ATTACK: dict[str, dfal.Attack] = {
    "deepfool-inf": dfal.DeepFool(p=torch.inf),
    **{name: attack(**SETTINGS.get(name, {})) for name, attack in ATTACKS.items()},
}
EVERY: dict[str, Strategy] = {
    **STRATEGIES,
    "dfal-linear-head": dfal.DFAL(attack=dfal.LinearHead(), twins=False),
    "dfal-fgsm": dfal.DFAL(attack=dfal.FGSM(epsilon=0.5)),
    "entropy+twins": dfal.WithTwins(dfal.Entropy()),
    "stochastic": dfal.Stochastic(dfal.Margin(), form="soft-rank"),
    "typi-clust-features": dfal.TypiClust(space="features", neighbours=3),
    "prob-cover-features": dfal.ProbCover(space="features", radius=0.3),
    "u-herding-pixels": dfal.UHerding(space="pixels"),
    "core-set-outliers": dfal.RobustCoreSet(outliers=3),
}
K = 5
RANKED = [
    name
    for name, strategy in EVERY.items()
    if isinstance(strategy, Ranking | dfal.CEAL | dfal.DFAL) and name not in {"bald", "dfal-fgsm"}
]
"""Strategies that give each image a score of its own, without a draw."""


class Casting(Wrapped):
    """A network that computes in half precision alone: it asks for it in its forward pass."""

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__(inner)
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.dtype))


class Autocasting(Wrapped):
    """A network whose forward pass is under autocast, and whose logits are float32."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x).float()


def network() -> nn.Sequential:
    """Convolution, batch norm, dropout and linear layers with the same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(
            *(
                nn.Conv2d(1, 3, 2),
                nn.BatchNorm2d(3),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Dropout(0.3),
                nn.Flatten(),
            ),
            *(nn.Linear(27, 8), nn.ReLU(), nn.Linear(8, 3)),
        ).eval()


FORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "chain": lambda model: model,
    "autograd": Wrapped,
}
HALF_INSIDE: dict[str, Callable[[], nn.Module]] = {
    "float16 alone": lambda: Casting(network().half(), torch.float16),
    "bfloat16 alone": lambda: Casting(network().bfloat16(), torch.bfloat16),
    "autocast": lambda: Autocasting(network()),
}


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(24, 1, 7, 7, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def pool(images: Tensor) -> dfal.Pool:
    return dfal.Pool.new(images, {0: 0, 5: 1, 9: 2})


def ask(strategy: Strategy, model: nn.Module, pool: dfal.Pool, k: int = K) -> dfal.Query:
    return strategy(model, pool, k, dfal.generator(0, 0, "select"))


def same(one: dfal.Query, other: dfal.Query) -> bool:
    pairs = [
        (one.scores, other.scores),
        (one.indices, other.indices),
        (one.twins, other.twins),
        (one.guesses, other.guesses),
    ]
    return all(
        (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b))
        for a, b in pairs
    )


def rounding(dtype: torch.dtype) -> float:
    return 16 * torch.finfo(dtype).eps


def assert_as_good(query: dfal.Query, every: dfal.Query, tolerance: float) -> None:
    """The chosen images are among the best of a float32 network, up to a fraction of what its
    scores span."""
    assert len(query.indices.unique()) == K
    assert query.scores.isfinite().all()
    score = dict(zip(every.indices.tolist(), every.scores.tolist(), strict=True))
    chosen, best = [score[image] for image in query.indices.tolist()], every.scores[:K].tolist()
    span = max(score.values()) - min(score.values())
    for a, b in zip(sorted(chosen), sorted(best), strict=True):
        assert abs(a - b) <= tolerance * span


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float64, *HALVES], ids=str)
@pytest.mark.parametrize("name", EVERY)
def test_a_strategy_chooses_as_for_the_float32_network(
    name: str, dtype: torch.dtype, form: str, pool: dfal.Pool
) -> None:
    strategy, model = EVERY[name], FORMS[form](network().to(dtype))
    plain = FORMS[form](network())
    query = ask(strategy, model, pool)
    assert query.scores.dtype in {torch.float32, torch.float64}
    assert all(one.dtype == dtype for one in model.parameters())
    if is_half(dtype):  # what is left is the rounding of the weights
        exact = copy.deepcopy(model).float()
        assert same(query, ask(strategy, exact, pool))
        assert query.twins is None or query.twins.dtype == torch.float32
    elif name not in {"bald", "power-bald", "batch-bald"}:  # float64 draws other masks
        wanted = ask(strategy, plain, pool)
        assert query.indices.tolist() == wanted.indices.tolist()
        torch.testing.assert_close(query.scores.float(), wanted.scores, rtol=1e-4, atol=1e-4)
    if name in RANKED:
        assert_as_good(
            query,
            ask(strategy, plain, pool, 1000),
            rounding(dtype if is_half(dtype) else torch.float32),
        )


@pytest.mark.parametrize("model", HALF_INSIDE)
@pytest.mark.parametrize("name", EVERY)
def test_a_strategy_takes_a_network_that_computes_in_half_precision(
    name: str, model: str, pool: dfal.Pool
) -> None:
    strategy = EVERY[name]
    query = ask(strategy, HALF_INSIDE[model](), pool)
    assert query.scores.dtype == torch.float32
    assert len(query.indices.unique()) == K
    assert not query.scores.isnan().any()
    if name in RANKED:
        dtype = torch.float16 if model == "float16 alone" else torch.bfloat16
        assert_as_good(query, ask(strategy, Wrapped(network()), pool, 1000), rounding(dtype))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", EVERY_ATTACK)
def test_an_attack_measures_as_for_the_float32_network(
    name: str, dtype: torch.dtype, form: str, images: Tensor
) -> None:
    model, plain = (
        FORMS[form](network().to(dtype)),
        EVERY_ATTACK[name](FORMS[form](network()), images),
    )
    found = EVERY_ATTACK[name](model, images)
    assert found.fooled.any()
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert found.distance.dtype == found.images.dtype == wide
    assert torch.equal(found.fooled, plain.fooled)
    off = (found.distance / plain.distance - 1).abs()[plain.fooled]
    assert off.median() < 0.02
    assert off.max() < max(rounding(dtype), 1e-3)
    if name.startswith("deepfool"):
        moved = dfal.predict(model, found.images).argmax(1) != dfal.predict(model, images).argmax(1)
        assert torch.equal(moved, found.fooled)


@pytest.mark.parametrize("model", HALF_INSIDE)
@pytest.mark.parametrize("name", EVERY_ATTACK)
def test_an_attack_takes_a_network_that_computes_in_half_precision(
    name: str, model: str, images: Tensor
) -> None:
    made, plain = HALF_INSIDE[model](), EVERY_ATTACK[name](Wrapped(network()), images)
    found = EVERY_ATTACK[name](made, images)
    assert found.distance.dtype == found.images.dtype == torch.float32
    assert (found.fooled == plain.fooled).float().mean() >= 0.95
    both = found.fooled & plain.fooled
    off = (found.distance / plain.distance - 1).abs()[both]
    assert off.median() < 0.02
    assert off.max() < 0.15


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_lenet5_in_half_precision_has_the_distances_of_float32(
    dtype: torch.dtype, trained: nn.Sequential, some_digits: Tensor
) -> None:
    want = dfal.DeepFool()(trained, some_digits).distance
    for model in (
        copy.deepcopy(trained).to(dtype),
        Casting(copy.deepcopy(trained).to(dtype), dtype),
    ):
        found = dfal.DeepFool()(model, some_digits).distance
        assert float((found / want - 1).abs().median()) < 0.02
        assert len(set(found.argsort()[:10].tolist()) & set(want.argsort()[:10].tolist())) >= 9


CONTEXTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", EVERY)
def test_a_strategy_is_the_same_in_every_mode(
    name: str, context: str, form: str, pool: dfal.Pool
) -> None:
    model = FORMS[form](network())
    want = ask(EVERY[name], model, pool)
    with CONTEXTS[context]():
        query = ask(EVERY[name], model, pool)
    assert same(query, want)
    assert not query.scores.is_inference()
    assert query.twins is None or not query.twins.is_inference()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", EVERY_ATTACK)
def test_an_attack_is_the_same_in_every_mode(
    name: str, context: str, form: str, images: Tensor
) -> None:
    model = FORMS[form](network())
    want = EVERY_ATTACK[name](model, images)
    with CONTEXTS[context]():
        found = EVERY_ATTACK[name](model, images.clone())
        modes = (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
        )
    assert torch.equal(found.distance, want.distance)
    assert torch.equal(found.images, want.images)
    assert not found.images.is_inference()
    assert modes == (
        "autocast" in context,
        context == "inference_mode",
        "autocast" in context,
    ), "they are put back"
    with torch.inference_mode():
        seen = torch.rand(2, 1, 7, 7)
    assert torch.equal(dfal.predict(model, seen), dfal.predict(model, seen.clone()))


@pytest.mark.parametrize("name", [*EVERY, *EVERY_ATTACK])
def test_parameters_made_in_inference_mode(name: str, pool: dfal.Pool, images: Tensor) -> None:
    plain = Wrapped(network())
    with torch.inference_mode():
        model = Wrapped(network())
    if name in EVERY_ATTACK:
        assert torch.equal(
            EVERY_ATTACK[name](model, images).distance, EVERY_ATTACK[name](plain, images).distance
        )
    else:
        assert same(ask(EVERY[name], model, pool), ask(EVERY[name], plain, pool))
    assert all(
        parameter.is_inference() and parameter.requires_grad for parameter in model.parameters()
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", [*EVERY, *EVERY_ATTACK])
def test_networks_of_another_default_type(
    name: str, dtype: torch.dtype, pool: dfal.Pool, images: Tensor
) -> None:
    plain = network().to(dtype)
    want = None if name in EVERY_ATTACK else ask(EVERY[name], plain, pool)
    torch.set_default_dtype(dtype)
    try:
        model = nn.Sequential(*network())
        model.load_state_dict(plain.state_dict())
        if name in EVERY_ATTACK:
            query, distance = None, EVERY_ATTACK[name](model.eval(), images).distance
        else:
            query = ask(EVERY[name], model.eval(), pool)
    finally:
        torch.set_default_dtype(torch.float32)
    if query is None or want is None:
        assert torch.equal(distance, EVERY_ATTACK[name](plain, images).distance)
    elif name not in {"bald", "power-bald", "batch-bald"}:
        assert query.indices.tolist() == want.indices.tolist()
        torch.testing.assert_close(
            query.scores, want.scores, rtol=1e-4, atol=1e-4, check_dtype=False
        )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("second", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_parameters_of_several_types(
    second: torch.dtype, form: str, pool: dfal.Pool, images: Tensor
) -> None:
    mixed = network()
    mixed[-1].to(second)
    types = [one.dtype for one in mixed.parameters()]
    widest = torch.promote_types(torch.float32, second)
    model, exact = FORMS[form](mixed), FORMS[form](copy.deepcopy(mixed).to(widest))
    for name in ("dfal", "egl", "badge", "bald", "core-set"):
        assert same(ask(EVERY[name], model, pool), ask(EVERY[name], exact, pool)), name
    for attack in EVERY_ATTACK.values():
        assert torch.equal(attack(model, images).distance, attack(exact, images).distance)
    assert [one.dtype for one in mixed.parameters()] == types


def test_widened_parameters_and_buffers_are_put_back_whatever_happens(images: Tensor) -> None:
    model = Wrapped(network().bfloat16())
    tensors = {
        name: (one, one.data_ptr())
        for name, one in itertools.chain(model.named_parameters(), model.named_buffers())
    }
    model.inner.requires_grad_(True)
    gradient = model.inner[0].weight.grad = torch.ones_like(model.inner[0].weight)  # type: ignore[index]
    with pytest.raises(ZeroDivisionError), frozen_eval(model, images[:1]) as seen:
        assert {one.dtype for one in seen.parameters()} == {torch.float32}
        assert prepare_images(seen, images).dtype == torch.float32
        raise ZeroDivisionError
    for name, one in itertools.chain(model.named_parameters(), model.named_buffers()):
        assert one is tensors[name][0]
        assert one.data_ptr() == tensors[name][1]
        assert one.dtype == (torch.int64 if "num_batches" in name else torch.bfloat16)
    assert model.inner[0].weight.grad is gradient  # type: ignore[index]
    with frozen_eval(Casting(network().half(), torch.float16), images[:1]) as seen:
        assert {one.dtype for one in seen.parameters()} == {torch.float16}, (
            "it can compute in no other type"
        )


def test_types_that_do_not_fit_each_other_are_one_sentence(images: Tensor) -> None:
    class Impossible(Wrapped):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(
                x.double() if next(self.parameters()).dtype == torch.float32 else x.float()
            )

    for model in (Impossible(network()), Impossible(network().double())):
        looks: list[Callable[[nn.Module, Tensor], object]] = [
            dfal.predict,
            dfal.features,
            expected_gradient_length,
        ]
        for look in [*looks, *EVERY_ATTACK.values()]:
            with pytest.raises(
                dfal.DfalError,
                match=r"types that do not fit each other .* as model\.float\(\) does",
            ):
                look(model, images)


def test_the_rounding_of_logits_is_looked_for_in_the_network_and_not_only_in_its_output(
    images: Tensor,
) -> None:
    def found(model: nn.Module) -> float:
        view = gradients_of(model, images[:1])
        view.logits(images)
        return view.rounding

    whole = nn.Linear(2, 2)
    with torch.no_grad():
        whole.weight[:], whole.bias[:] = torch.eye(2), torch.zeros(2)
    with torch.no_grad():
        assert (
            found(Autocasting(network()))
            == found(HALF_INSIDE["bfloat16 alone"]())
            == torch.finfo(torch.bfloat16).eps
        )
        assert found(HALF_INSIDE["float16 alone"]()) == torch.finfo(torch.float16).eps
        assert (
            found(network()) == found(Wrapped(network())) == found(Wrapped(network().double())) == 0
        )
        view = gradients_of(Wrapped(whole), torch.ones(1, 2))
        view.logits(torch.ones(3, 2))
        assert view.rounding == 0, "logits that are whole numbers are no half precision"


@pytest.mark.parametrize("scale", [1e-7, 1e-4, 1.0, 255.0, 1e6])
def test_the_least_length_follows_the_scale_of_the_image(scale: float) -> None:
    """An affine network for images of any scale, whose distances are exact; the boundary is near
    some images."""
    layer = nn.Linear(8, 3)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        layer.weight.normal_()
        layer.bias.zero_()
        x = torch.randn(30, 8) * scale
    found = dfal.DeepFool()(layer, x)
    w, f = layer.weight.detach().double(), (x.double() @ layer.weight.detach().double().T)
    k = f.argmax(1)
    gaps = f.gather(1, k.unsqueeze(1)) - f
    want = (
        (gaps / (w[k].unsqueeze(1) - w).norm(dim=2))
        .nan_to_num(torch.inf)
        .scatter(1, k.unsqueeze(1), torch.inf)
        .amin(1)
    )
    assert found.fooled.all()
    torch.testing.assert_close(found.distance.double(), want, rtol=1e-3, atol=1e-6 * scale)
    assert float(deepfool_state.least_length(torch.full((1, 4), scale))) == pytest.approx(
        64 * 2**-23 * scale, rel=15.1
    )
    assert (
        float(deepfool_state.least_length(torch.zeros(1, 4)))
        == float(deepfool_state.least_length(torch.ones(1, 4)))
        == 64 * 2**-23
    )


def test_a_dark_image_far_from_the_boundary_does_leave_it() -> None:
    """The step that is felt at a dark image is not felt where its pixels have become bright."""
    layer = nn.Linear(1, 2)
    with torch.no_grad():
        layer.weight[:], layer.bias[:] = torch.tensor([[0.3], [-0.7]]), torch.tensor([0.61, -0.17])
    x = torch.linspace(-0.05, 0.05, 301).unsqueeze(1)
    found = dfal.DeepFool(overshoot=0)(layer, x)
    assert found.fooled.all()
    torch.testing.assert_close(found.distance, (x.squeeze(1) + 0.78).abs(), rtol=1e-4, atol=1e-5)
