"""Whatever a network is wrapped in, returns, or does to its images: everything that looks at it
gets through to it."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dfal
from dfal.attacks import ATTACKS
from dfal.models.onnx import _Outputs
from dfal.nn.evaluation import frozen_eval, unwrap_network
from dfal.nn.features import affine_last_linear, last_linear
from dfal.nn.inference import check_logits, logits
from dfal.nn.networks import init_lazy_layers
from dfal.protocols import Strategy
from dfal.strategies import STRATEGIES
from dfal.strategies.egl import expected_gradient_length

DEFAULT_ATTACKS: list[dfal.Attack] = [ATTACKS[name]() for name in ATTACKS]
attacks = pytest.mark.parametrize("attack", DEFAULT_ATTACKS, ids=list(ATTACKS))
strategies = pytest.mark.parametrize("name", sorted(STRATEGIES.keys() - {"random"}))


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(
            *(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Dropout(0.3), nn.Flatten()),
            *(nn.Linear(75, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)),
        ).eval()


def compiled(model: nn.Module) -> nn.Module:
    wrapped: Any = torch.compile(model, backend="eager")
    assert isinstance(wrapped, nn.Module)
    return wrapped


class Wrapped(nn.Module):
    """No chain of known layers: it is differentiated by autograd."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        return self.inner(x)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(24, 1, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def pool(images: Tensor) -> dfal.Pool:
    return dfal.Pool.new(images, {0: 0, 5: 1, 9: 2})


def ask(strategy: Strategy, model: nn.Module, pool: dfal.Pool) -> dfal.Query:
    return strategy(model, pool, 5, dfal.generator(0, 0, "select"))


def compiled_inside() -> nn.Module:
    inner = network()
    return Wrapped(nn.Sequential(inner[:4], compiled(inner[4:])))


def compiled_in_place() -> nn.Module:
    model = Wrapped(network())
    model.compile(backend="eager")
    return model


COVERED: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "compiled chain": (lambda: compiled(network()), network),
    "compiled": (lambda: compiled(Wrapped(network())), lambda: Wrapped(network())),
    "compiled inside": (compiled_inside, lambda: Wrapped(network())),
    "compiled in place": (compiled_in_place, lambda: Wrapped(network())),
    "data parallel": (lambda: nn.DataParallel(network()), network),
    "compiled data parallel": (lambda: compiled(nn.DataParallel(network())), network),
}


@pytest.mark.parametrize("cover", COVERED)
def test_what_a_network_is_wrapped_in_changes_nothing(
    cover: str, pool: dfal.Pool, images: Tensor
) -> None:
    """All strategies one after the other on one network that has run as compiled code before."""
    model, plain = (make() for make in COVERED[cover])
    with torch.no_grad():
        model(images[:4])
    modes = [module.training for module in model.modules()]
    for name in (
        "dfal",
        "core-set",
        "badge",
        "egl",
        "egl-last-layer",
        "bald",
        "batch-bald",
        "u-herding",
        "cluster-margin",
    ):
        query, want = ask(STRATEGIES[name], model, pool), ask(STRATEGIES[name], plain, pool)
        assert torch.equal(query.indices, want.indices), name
        assert torch.equal(query.scores, want.scores), name
    for attack in DEFAULT_ATTACKS:
        assert torch.equal(attack(model, images).distance, attack(plain, images).distance)
    assert torch.equal(dfal.predict(model, images), dfal.predict(plain, images))
    assert torch.equal(dfal.features(model, images), dfal.features(plain, images))
    assert not any(module._forward_hooks for module in unwrap_network(model).modules())
    assert [module.training for module in model.modules()] == modes


def test_the_network_under_its_covers() -> None:
    inner = network()
    assert unwrap_network(inner) is inner
    assert unwrap_network(compiled(nn.DataParallel(compiled(inner)))) is inner
    with frozen_eval(nn.DataParallel(inner)) as seen:
        assert seen is inner


class Output(OrderedDict[str, Tensor]):
    """As Hugging Face's: a dictionary whose keys are attributes, too."""

    def __getattr__(self, name: str) -> Tensor:
        return self[name]


@dataclass
class Told:
    logits: Tensor
    attention: Tensor


class Pair(NamedTuple):
    hidden: Tensor
    logits: Tensor


OUTPUTS: dict[str, Callable[[Tensor], Any]] = {
    "hugging face": lambda f: Output(loss=f.sum(), logits=f),
    "dictionary": lambda f: {"hidden": f * 2, "logits": f},
    "dataclass": lambda f: Told(f, f * 2),
    "named tuple": lambda f: Pair(f * 2, f),
    "namespace": lambda f: SimpleNamespace(logits=f),
}


class Telling(Wrapped):
    def __init__(self, inner: nn.Module, output: str) -> None:
        super().__init__(inner)
        self.output = output

    def forward(self, x: Tensor) -> Any:
        return OUTPUTS[self.output](self.inner(x))


@pytest.mark.parametrize("output", OUTPUTS)
def test_outputs_with_logits_are_taken(output: str, pool: dfal.Pool, images: Tensor) -> None:
    model, plain = Telling(network(), output), Wrapped(network())
    assert torch.equal(logits(model, images), logits(plain, images))
    assert torch.equal(dfal.predict(model, images), dfal.predict(plain, images))
    for attack in DEFAULT_ATTACKS:
        assert torch.equal(attack(model, images).distance, attack(plain, images).distance)
    for name in ("entropy", "badge", "egl", "bald", "batch-bald"):
        assert torch.equal(
            ask(STRATEGIES[name], model, pool).scores, ask(STRATEGIES[name], plain, pool).scores
        ), name
    assert torch.equal(_Outputs(model, 1.0)(images)[0], plain(images)), "ONNX"
    trained, want = (
        dfal.fit(partial(copy.deepcopy, made), pool.labelled_data(), dfal.Training(epochs=2), 0)
        for made in (model, plain)
    )
    assert torch.equal(dfal.predict(trained, images), dfal.predict(want, images))


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        (
            {"scores": torch.rand(2, 3)},
            r"returned dict with scores and no logits: give it a layer for the classes$",
        ),
        (SimpleNamespace(logits=None), r"returned NoneType$"),
        (
            (torch.rand(2, 3), torch.rand(2, 3)),
            r"returned tuple: wrap it in a module that returns out\[0\]",
        ),
        ({"logits": torch.rand(2, 3, 4)}, r"returned \(2, 3, 4\)$"),
        (torch.tensor([1, 2]), "returns torch.int64, but logits are needed"),
    ],
)
def test_outputs_without_logits_are_refused(out: Any, sentence: str) -> None:
    with pytest.raises(dfal.DfalError, match=sentence):
        check_logits(out, 2)


class Normalising(Wrapped):
    """A network that normalises its images in place."""

    def forward(self, x: Tensor) -> Any:
        return self.inner(x.sub_(0.5).div_(0.25))


class Normalised(Wrapped):
    def forward(self, x: Tensor) -> Any:
        return self.inner(x.sub(0.5).div(0.25))


@strategies
def test_strategies_take_networks_that_change_their_images(name: str, pool: dfal.Pool) -> None:
    kept = pool.images.array.copy()
    query, want = (
        ask(STRATEGIES[name], make(network()), pool) for make in (Normalising, Normalised)
    )
    assert torch.equal(query.indices, want.indices)
    assert torch.equal(query.scores, want.scores)
    assert (pool.images.array == kept).all()


@attacks
def test_attacks_take_networks_that_change_their_images(
    attack: dfal.Attack, images: Tensor
) -> None:
    mine = images.clone()
    found, want = (attack(make(network()), mine) for make in (Normalising, Normalised))
    assert torch.equal(found.distance, want.distance)
    assert torch.equal(found.images, want.images)
    assert torch.equal(mine, images)


@pytest.mark.parametrize("expanded", [False, True], ids=["own", "expanded"])
def test_no_image_of_the_caller_is_changed(expanded: bool, images: Tensor) -> None:
    mine = images[:1].expand(24, 1, 6, 6) if expanded else images.clone()
    before, model = mine.clone(), Normalising(network())
    looks: list[Callable[[nn.Module, Tensor], object]] = [
        *(
            dfal.predict,
            dfal.features,
            dfal.logits,
            last_linear,
            affine_last_linear,
            expected_gradient_length,
            init_lazy_layers,
        ),
        lambda network, images: _Outputs(network, 1.0)(images),
    ]
    for look in looks:
        look(model, mine)
        assert torch.equal(mine, before), look
    lazy = Normalising(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)))
    init_lazy_layers(lazy, mine)
    assert torch.equal(mine, before)


class Functional(Wrapped):
    """A last operation that is no module."""

    def __init__(self, inner: nn.Module, last: Callable[[Tensor], Tensor]) -> None:
        super().__init__(inner)
        self.last = last

    def forward(self, x: Tensor) -> Any:
        return self.last(self.inner(x))


def head(classes: int) -> nn.Sequential:
    return nn.Sequential(network()[:-1], nn.Linear(8, classes))


PROBABILITIES: dict[str, Callable[[], nn.Module]] = {
    "one sigmoid": lambda: nn.Sequential(head(1), nn.Sigmoid()),
    "several sigmoids": lambda: nn.Sequential(head(3), nn.Sigmoid()),
    "one sigmoid, squeezed": lambda: nn.Sequential(head(1), nn.Sigmoid(), nn.Flatten(0)),
    "torch.sigmoid": lambda: Functional(head(1), torch.sigmoid),
    "in float64": lambda: Functional(head(1), torch.sigmoid).double(),
    "in bfloat16": lambda: Functional(head(3), torch.sigmoid).bfloat16(),
    "cast afterwards": lambda: Functional(head(3), lambda f: f.sigmoid().double()),
    "several heads": lambda: Functional(
        head(3), lambda f: torch.cat([f[:, :1].sigmoid(), f[:, 1:].sigmoid()], 1)
    ),
    "hard sigmoid": lambda: nn.Sequential(head(1), nn.Hardsigmoid()),
    "one column of a softmax": lambda: Functional(head(2), lambda f: f.softmax(1)[:, 1]),
    "saturated": lambda: Functional(head(1), lambda f: (1e4 * f).sigmoid()),
    "softmax": lambda: Functional(head(3), lambda f: f.softmax(1)),
    "softmax in bfloat16": lambda: Functional(head(3), lambda f: f.bfloat16().softmax(1)),
    "compiled": lambda: compiled(nn.Sequential(head(1), nn.Sigmoid())),
}


@pytest.mark.parametrize("kind", PROBABILITIES)
def test_probabilities_are_refused(kind: str, pool: dfal.Pool, images: Tensor) -> None:
    model = PROBABILITIES[kind]()
    looks: list[Callable[[], object]] = [
        *(lambda attack=attack: attack(model, images) for attack in DEFAULT_ATTACKS),
        *(
            lambda name=name: ask(STRATEGIES[name], model, pool)
            for name in ("dfal", "entropy", "egl", "badge", "bald")
        ),
        lambda: dfal.predict(model, images),
        lambda: dfal.predict(model, images[:1]),
        lambda: logits(model, images.to(next(model.parameters()).dtype)),
    ]
    for look in looks:
        with pytest.raises(
            dfal.DfalError,
            match=r"the network returns probabilities .* take off its s(igmoid|oftmax)$",
        ):
            look()
    with torch.inference_mode(), pytest.raises(dfal.DfalError, match="probabilities"):
        dfal.predict(model, images)


TRUE_LOGITS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: Functional(head(3), lambda f: 0.5 + f / 100),
    "one logit": lambda: Functional(head(1), lambda f: 0.5 + f / 100),
    "of squashed features": lambda: nn.Sequential(
        nn.Flatten(), nn.Sigmoid(), steady(nn.Linear(36, 3))
    ),
    "gated": lambda: Functional(head(3), lambda f: f.sigmoid() * (0.5 + f / 100)),
    "scaled": lambda: Functional(head(3), lambda f: 0.9 * f.sigmoid()),
    "silu": lambda: Functional(head(3), lambda f: F.silu(1 + f / 100)),
}


def steady(layer: nn.Linear) -> nn.Linear:
    with torch.no_grad():
        layer.weight.uniform_(0, 1 / 36)
        layer.bias.zero_()
    return layer


@pytest.mark.parametrize("kind", TRUE_LOGITS)
def test_logits_between_0_and_1_are_no_probabilities(
    kind: str, pool: dfal.Pool, images: Tensor
) -> None:
    model = TRUE_LOGITS[kind]()
    raw = model.eval()(images).detach()
    assert raw.min() >= 0
    assert raw.max() <= 1
    f = dfal.predict(model, images)
    assert torch.equal(f[:, -raw.shape[1] :], raw)
    assert dfal.DeepFool()(model, images).images.shape == images.shape
    assert len(ask(dfal.DFAL(), model, pool).indices) == 5
    state = torch.get_rng_state()
    logits(model, images)
    assert torch.equal(torch.get_rng_state(), state)


class Detached(Wrapped):
    def forward(self, x: Tensor) -> Any:
        return self.inner(x.detach())


class Unrecorded(Wrapped):
    def forward(self, x: Tensor) -> Any:
        with torch.no_grad():
            return self.inner(x)


class Inferring(Wrapped):
    def forward(self, x: Tensor) -> Any:
        with torch.inference_mode():
            return self.inner(x)


class Overwriting(Wrapped):
    """It overwrites what the way back needs."""

    def forward(self, x: Tensor) -> Any:
        f = self.inner(x).exp()
        return f.add_(1)


@pytest.mark.parametrize("kind", [Detached, Unrecorded, Inferring])
@pytest.mark.parametrize("attack", [dfal.DeepFool(), dfal.FGSM()], ids=["DeepFool", "FGSM"])
def test_a_network_without_gradients_is_not_blamed_on_the_shape(
    attack: dfal.Attack, kind: type[Wrapped], images: Tensor
) -> None:
    model = kind(network())
    assert torch.equal(dfal.predict(model, images), dfal.predict(Wrapped(network()), images))
    with pytest.raises(
        dfal.DfalError, match=r"logits have no gradient, .*: take torch\.no_grad\(\), detach\(\)"
    ):
        attack(model, images)
    with pytest.raises(dfal.DfalError, match="logits have no gradient"):
        ask(dfal.DFAL(attack=attack), model, dfal.Pool.new(images, {}))


def test_what_autograd_cannot_follow_is_not_blamed_on_the_shape(
    pool: dfal.Pool, images: Tensor
) -> None:
    model = Overwriting(network())
    looks: list[Callable[[], object]] = [
        lambda: dfal.DeepFool()(model, images),
        lambda: dfal.FGSM()(model, images),
        lambda: ask(dfal.EGL(), model, pool),
    ]
    for look in looks:
        with pytest.raises(
            dfal.DfalError, match=r"cannot be differentiated \(one of the variables needed"
        ):
            look()
    with pytest.raises(dfal.DfalError, match="logits have no gradient"):
        ask(dfal.EGL(), Unrecorded(network()), pool)


def test_one_image_of_a_model_that_takes_them_by_name() -> None:
    """The last linear layer is called with a named argument."""

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(36, 3)

        def forward(self, x: Tensor) -> Any:
            return self.last(input=x.flatten(1))

    model, x = Named(), torch.rand(5, 1, 6, 6)
    assert torch.equal(dfal.features(model, x), x.flatten(1))
    assert dfal.LinearHead()(model, x).fooled.all()
    torch.testing.assert_close(
        expected_gradient_length(model, x),
        expected_gradient_length(nn.Sequential(nn.Flatten(), model.last), x),
    )


def test_what_comes_after_the_last_layer_in_place_is_seen() -> None:
    layer = nn.Linear(36, 3)
    model = nn.Sequential(nn.Flatten(), layer, nn.ReLU(inplace=True))
    x = torch.rand(5, 1, 6, 6)
    with torch.no_grad():
        layer.bias.fill_(-100)
    with pytest.raises(dfal.DfalError, match="does not end in its last linear layer"):
        affine_last_linear(model, x)
    with pytest.raises(dfal.DfalError, match="does not end in its last linear layer"):
        affine_last_linear(copy.deepcopy(model).bfloat16(), x)


def test_what_comes_after_a_last_layer_whose_logits_are_mostly_rounding_is_seen() -> None:
    """Large weights that cancel each other, in bfloat16: the closed form alone could not tell."""

    class Rectified(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(36, 3).bfloat16()

        def forward(self, x: Tensor) -> Any:
            return self.last(x.flatten(1).bfloat16()).relu_()

    model, x = Rectified(), torch.ones(5, 1, 6, 6)
    with torch.no_grad():
        model.last.weight[:] = torch.tensor([10.0, -10.0]).repeat(18)
        model.last.bias[:] = torch.tensor([-1.0, 1.5, -2.0])
    with pytest.raises(dfal.DfalError, match="does not end in its last linear layer"):
        affine_last_linear(model, x)
