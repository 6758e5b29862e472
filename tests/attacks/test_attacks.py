"""Attacks against closed forms, against a plain reference, and at the edges where public
implementations fail."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import dfal
from dfal.attacks import deepfool
from dfal.attacks.affine import dual
from dfal.attacks.deepfool import Race, side_by_side
from dfal.attacks.gradients import ByChain, Slopes, slopes
from dfal.data.datasets import Dataset

ATTACKS = [
    dfal.DeepFool(),
    dfal.DeepFool(p=torch.inf, chunk=7),
    dfal.DeepFool(classes=3),
    dfal.FGSM(),
    dfal.LinearHead(),
]


class Counting(nn.Module):
    """A network that remembers how many images each forward pass had."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner
        self.passes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.passes.append(len(images))
        out: Tensor = self.inner(images)
        return out


def affine(inputs: int, classes: int, seed: int) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(inputs, classes)


def affine_distance(model: nn.Linear, x: Tensor, p: float) -> Tensor:
    """min_k |f_k − f_k̂| / ‖w_k − w_k̂‖_q, one image and one class at a time, in float64."""
    q = {1: math.inf, math.inf: 1.0}.get(p) or p / (p - 1)
    w, b, out = model.weight.detach().double(), model.bias.detach().double(), []
    for image in x.double():
        f = w @ image + b
        if len(f) == 1:
            out.append(abs(f[0]) / torch.linalg.vector_norm(w[0], ord=q))
        else:
            k = int(f.argmax())
            gaps = [
                (f[k] - f[j]) / torch.linalg.vector_norm(w[k] - w[j], ord=q)
                for j in range(len(f))
                if j != k
            ]
            out.append(torch.stack(gaps).min())
    return torch.stack(out).float()


def plain_deepfool(
    model: nn.Module, x0: Tensor, p: float, overshoot: float = 0.02, steps: int = 50
) -> tuple[float, bool]:
    """DeepFool as the paper writes it, one image and one gradient at a time."""
    q = {1: math.inf, math.inf: 1.0}.get(p) or p / (p - 1)
    k = int(model(x0[None]).argmax())
    r = torch.zeros_like(x0)
    for _ in range(steps):
        x = (x0 + (1 + overshoot) * r).clone().requires_grad_()
        f = model(x[None])[0]
        gradients = [torch.autograd.grad(f[j], x, retain_graph=True)[0] for j in range(len(f))]
        best = (math.inf, torch.zeros_like(x0))
        for j in range(len(f)):
            w = gradients[j] - gradients[k]
            length = float(
                (f[j] - f[k]).detach().abs() / torch.linalg.vector_norm(w.flatten(), ord=q)
            )
            if j != k and length < best[0]:
                best = (length, w)
        length, w = best
        if p == 2:
            r = r + length * w / w.norm()
        elif p == math.inf:
            r = r + length * w.sign()
        else:
            r = (
                r
                + length
                / torch.linalg.vector_norm(w.flatten(), ord=q) ** (q - 1)
                * w.abs() ** (q - 1)
                * w.sign()
            )
        if int(model((x0 + (1 + overshoot) * r)[None]).argmax()) != k:
            return float(torch.linalg.vector_norm(r.flatten(), ord=p)), True
    return math.inf, False


@given(
    p=st.sampled_from([1.0, 1.5, 2.0, 3.0, math.inf]) | st.floats(1.05, 20),
    inputs=st.integers(1, 12),
    classes=st.integers(1, 6),
    seed=st.integers(0, 10_000),
    overshoot=st.sampled_from([0.0, 0.02, 0.5]),
)
@settings(deadline=None)
def test_distance_is_exact_for_affine_classifiers(
    p: float, inputs: int, classes: int, seed: int, overshoot: float
) -> None:
    model = affine(inputs, classes, seed)
    x = torch.randn(9, inputs, generator=torch.Generator().manual_seed(seed))
    want = affine_distance(model, x, p)
    assume(
        float(want.max()) < 100
    )  # farther away, float32 tells the logits of nearly equal classes apart too coarsely
    for attack in (
        dfal.DeepFool(p=p, overshoot=overshoot),
        dfal.LinearHead(p=p, overshoot=max(overshoot, 0.02)),
    ):
        found = attack(model, x)
        assert found.fooled.all()
        torch.testing.assert_close(found.distance, want, rtol=1e-3, atol=1e-4)
        moved = torch.linalg.vector_norm((found.images - x).double(), ord=p, dim=1)
        torch.testing.assert_close(
            moved.float(), (1 + attack.overshoot) * found.distance, rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("p", [1.5, 2.0, 3.0, math.inf])
def test_agrees_with_one_image_at_a_time(
    trained: nn.Sequential, some_digits: Tensor, p: float
) -> None:
    found = dfal.DeepFool(p=p, chunk=20)(trained, some_digits)
    want = [plain_deepfool(trained, image, p) for image in some_digits]
    assert found.fooled.tolist() == [fooled for _, fooled in want]
    torch.testing.assert_close(
        found.distance, torch.tensor([distance for distance, _ in want]), rtol=1e-3, atol=1e-6
    )


def test_one_logit_and_two_are_the_same_classifier(some_digits: Tensor) -> None:
    single, double = affine(784, 1, 0), affine(784, 2, 0)
    with torch.no_grad():
        double.weight[0], double.bias[0] = 0, 0
        double.weight[1], double.bias[1] = single.weight[0], single.bias[0]
    one, two = (
        nn.Sequential(nn.Flatten(), single, nn.Flatten(0)),
        nn.Sequential(nn.Flatten(), double),
    )
    torch.testing.assert_close(
        dfal.DeepFool()(one, some_digits).distance, dfal.DeepFool()(two, some_digits).distance
    )


def test_every_digit_is_fooled_and_its_class_is_the_networks_own(
    trained: nn.Sequential, some_digits: Tensor
) -> None:
    found = dfal.DeepFool()(trained, some_digits)
    assert found.fooled.all()
    assert (
        dfal.predict(trained, found.images).argmax(1)
        != dfal.predict(trained, some_digits).argmax(1)
    ).all()
    assert (found.distance > 0).all(), "an image that the network has wrong is not at distance 0"


def test_the_boundary_lies_between_image_and_twin(
    trained: nn.Sequential, some_digits: Tensor
) -> None:
    found = dfal.DeepFool(overshoot=0.02)(trained, some_digits)
    before = some_digits + 0.9 * (found.images - some_digits) / 1.02
    assert (
        dfal.predict(trained, before).argmax(1) == dfal.predict(trained, some_digits).argmax(1)
    ).float().mean() > 0.9


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_leaves_the_network_as_it_was(attack: dfal.Attack, some_digits: Tensor) -> None:
    model = dfal.lenet5().train()
    model[3].eval()
    next(model.parameters()).requires_grad_(False)
    modes = [module.training for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    images, state = some_digits.clone(), torch.get_rng_state()
    attack(model, images)
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.equal(images, some_digits)
    assert not images.requires_grad
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_does_not_depend_on_the_batch_an_image_is_in(
    attack: dfal.Attack, trained: nn.Sequential, some_digits: Tensor
) -> None:
    together = attack(trained, some_digits)
    alone = [attack(trained, image[None]) for image in some_digits[:12]]
    torch.testing.assert_close(
        together.distance[:12], torch.cat([one.distance for one in alone]), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_takes_no_image_at_all(attack: dfal.Attack, trained: nn.Sequential) -> None:
    found = attack(trained, torch.empty(0, 1, 28, 28))
    assert len(found.images) == len(found.distance) == len(found.fooled) == 0


def test_batch_norm_and_dropout_are_in_evaluation_mode(some_digits: Tensor) -> None:
    model = nn.Sequential(
        nn.Flatten(), norm := nn.BatchNorm1d(784), nn.Dropout(0.5), affine(784, 5, 0)
    ).train()
    first, second = dfal.DeepFool()(model, some_digits), dfal.DeepFool()(model, some_digits)
    assert torch.equal(first.distance, second.distance)
    assert norm.num_batches_tracked is not None
    assert int(norm.num_batches_tracked) == 0


def test_an_image_on_the_boundary_does_leave_it() -> None:
    tie = nn.Linear(2, 2)
    with torch.no_grad():
        tie.weight[:] = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        tie.bias[:] = 0
    for value in (0.0, 3.0, 1e4):
        found = dfal.DeepFool(overshoot=0)(tie, torch.full((1, 2), value))
        assert found.fooled.all(), value
        assert float(found.distance[0]) <= 1e-4 * max(1, value)


def test_what_cannot_be_fooled_is_infinitely_far() -> None:
    flat = affine(4, 3, 0)
    with torch.no_grad():
        flat.weight[:] = 0
        flat.bias[:] = torch.tensor([1.0, 3.0, 2.0])
    for attack in (dfal.DeepFool(), dfal.LinearHead(), dfal.FGSM()):
        found = attack(flat, torch.randn(5, 4))
        assert not found.fooled.any()
        assert (found.distance == math.inf).all()
    assert (dfal.DeepFool(max_steps=1)(dfal.lenet5(), torch.rand(8, 1, 28, 28)).distance > 0).all()


def test_too_few_steps_are_a_failure_and_not_a_short_distance(
    trained: nn.Sequential, some_digits: Tensor
) -> None:
    found = dfal.DeepFool(max_steps=1, overshoot=0)(trained, some_digits)
    assert not found.fooled.all()
    assert torch.equal(found.distance.isinf(), ~found.fooled)


def test_nan_on_the_way_is_a_failure() -> None:
    class Cliff(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            f = torch.stack([x[:, 0], -x[:, 0]], dim=1)
            return torch.where(x[:, :1] < 0, torch.nan, f)

    found = dfal.DeepFool()(Cliff(), torch.tensor([[1.0], [2.0]]))
    assert not found.fooled.any()
    assert found.distance.isinf().all()


def test_finished_images_drop_out_of_the_work(trained: nn.Sequential, some_digits: Tensor) -> None:
    counting = Counting(trained)
    dfal.DeepFool()(counting, some_digits)
    assert counting.passes[0] == len(some_digits)
    assert counting.passes == sorted(counting.passes, reverse=True)
    assert counting.passes[-1] < len(some_digits)


def test_work_comes_in_chunks(trained: nn.Sequential, some_digits: Tensor) -> None:
    counting = Counting(trained)
    dfal.DeepFool(chunk=10)(counting, some_digits)
    assert max(counting.passes) == 10


def test_only_the_likeliest_classes_are_considered(
    trained: nn.Sequential, some_digits: Tensor
) -> None:
    two = dfal.DeepFool(classes=2)(trained, some_digits)
    every = dfal.DeepFool()(trained, some_digits)
    torch.testing.assert_close(
        dfal.DeepFool(classes=10)(trained, some_digits).distance, every.distance
    )
    assert (two.distance > every.distance * 1.001).any(), (
        "the second most likely class is not always the nearest"
    )


def test_clipping_stays_in_the_range_and_changes_the_distance(
    trained: nn.Sequential, some_digits: Tensor
) -> None:
    clipped, free = (dfal.DeepFool(clip=clip)(trained, some_digits) for clip in ((0.0, 1.0), None))
    assert clipped.images.min() >= 0
    assert clipped.images.max() <= 1
    assert free.images.min() < 0
    both = clipped.fooled & free.fooled
    length = (clipped.images - some_digits).flatten(1).norm(dim=1)
    assert (clipped.distance[both] <= length[both] * 1.001).all()
    assert not torch.allclose(clipped.distance[both], free.distance[both], rtol=0.01)


def test_double_precision_is_kept() -> None:
    model, x = affine(6, 3, 1).double(), torch.randn(4, 6, dtype=torch.float64)
    found = dfal.DeepFool()(model, x)
    assert found.images.dtype == found.distance.dtype == torch.float64


@pytest.mark.parametrize("attack", [dfal.DeepFool(), dfal.FGSM(), dfal.LinearHead()], ids=repr)
def test_probabilities_are_refused(attack: dfal.Attack) -> None:
    model = nn.Sequential(affine(4, 3, 0), nn.Softmax(dim=1))
    with pytest.raises(dfal.DfalError, match=r"probabilities.*softmax"):
        attack(model, torch.randn(5, 4))


@pytest.mark.parametrize("attack", [dfal.DeepFool(), dfal.FGSM(), dfal.LinearHead()], ids=repr)
def test_nan_logits_are_refused(attack: dfal.Attack) -> None:
    model = affine(4, 3, 0)
    with torch.no_grad():
        model.bias[0] = torch.nan
    with pytest.raises(
        dfal.DfalError, match=r"NaN or infinite logits for (\d) of \1 images"
    ):  # those of a thread
        attack(model, torch.randn(5, 4))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: dfal.DeepFool(p=0.5), "p = 0.5 is no norm"),
        (lambda: dfal.DeepFool(p=math.nan), "p = nan is no norm"),
        (lambda: dfal.LinearHead(p=0), "p = 0 is no norm"),
        (lambda: dfal.DeepFool(overshoot=-0.1), "overshoot = -0.1"),
        (lambda: dfal.DeepFool(max_steps=0), "max_steps = 0"),
        (lambda: dfal.DeepFool(classes=1), "classes = 1"),
        (lambda: dfal.FGSM(epsilon=0), "epsilon = 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: Callable[[], object], sentence: str) -> None:
    with pytest.raises(dfal.DfalError, match=sentence):
        wrong()


def test_fgsm_moves_every_pixel_by_epsilon_uphill(
    trained: nn.Sequential, some_digits: Tensor
) -> None:
    found = dfal.FGSM(epsilon=0.1)(trained, some_digits)
    x = some_digits.clone().requires_grad_()
    f = trained(x)
    nn.functional.cross_entropy(f, f.argmax(1), reduction="sum").backward()
    assert x.grad is not None
    torch.testing.assert_close(found.images, some_digits + 0.1 * x.grad.sign())
    assert torch.equal(found.fooled, trained(found.images).argmax(1) != f.argmax(1))
    torch.testing.assert_close(
        found.distance[found.fooled], torch.full((int(found.fooled.sum()),), 0.1)
    )


def test_linear_head_measures_in_feature_space(trained: nn.Sequential, some_digits: Tensor) -> None:
    found = dfal.LinearHead()(trained, some_digits)
    x, head = dfal.features(trained, some_digits), trained[-1]
    assert isinstance(head, nn.Linear)
    torch.testing.assert_close(found.distance, affine_distance(head, x, 2), rtol=1e-3, atol=1e-5)
    assert found.images.shape == x.shape
    affine_images = dfal.LinearHead()(nn.Sequential(nn.Flatten(), affine(784, 4, 0)), some_digits)
    assert affine_images.images.shape == some_digits.shape


def test_linear_head_refuses_what_does_not_end_in_a_linear_layer(some_digits: Tensor) -> None:
    model = nn.Sequential(nn.Flatten(), affine(784, 4, 0), nn.Tanh())
    with pytest.raises(dfal.DfalError, match="does not end in its last linear layer"):
        dfal.LinearHead()(model, some_digits)


def test_dual_norms() -> None:
    assert (dual(1), dual(2), dual(math.inf), dual(3)) == (math.inf, 2, 1, 1.5)


@pytest.mark.gpu
def test_cuda_finds_the_same_distances(trained: nn.Sequential, some_digits: Tensor) -> None:
    here = dfal.DeepFool()(trained, some_digits)
    there = dfal.DeepFool()(trained.cuda(), some_digits)
    trained.cpu()
    assert there.distance.is_cuda
    torch.testing.assert_close(there.distance.cpu(), here.distance, rtol=1e-3, atol=1e-5)


def test_what_is_certain_is_true_and_exact_for_an_affine_network(
    trained: nn.Sequential, some_digits: Tensor
) -> None:
    trained.eval()
    view = slopes(trained, some_digits[:1])
    certain = sure(view, some_digits, 2)
    assert (certain > 0).all()
    assert (certain <= 1.02 * dfal.DeepFool(p=2)(trained, some_digits).distance).all()
    for p in (1, 2, math.inf):
        layer = affine(12, 4, seed=0)
        x = torch.randn(20, 12, generator=torch.Generator().manual_seed(0))
        view, exact = slopes(nn.Sequential(layer), x[:1]), affine_distance(layer, x, p)
        bound = sure(view, x, p)
        assert (bound <= exact * 1.0001).all(), "no perturbation that short changes the class"
        if p == 2:
            torch.testing.assert_close(bound, exact, rtol=1e-4, atol=1e-5)
    nothing_known = slopes(Counting(trained), some_digits[:1])
    assert (sure(nothing_known, some_digits, 2) == 0).all()


def sure(view: Slopes, x: Tensor, p: float) -> Tensor:
    """A distance within which each image keeps its class."""
    f = view.logits(x)
    return view.certain(f, f.argmax(1), p).amin(1)


def test_late_steps_take_one_gradient_and_change_nothing(
    trained: nn.Sequential, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, attack = digits.images.take(torch.arange(0, 4000, 40)), dfal.DeepFool(clip=(0, 1))
    taken: list[int] = []

    def between(self: ByChain, x: Tensor, order: Tensor) -> Any:
        taken.append(len(x) * (order.shape[1] - 1))
        return original(self, x, order)

    original = ByChain.between
    monkeypatch.setattr(ByChain, "between", between)
    monkeypatch.setattr(deepfool, "SOME", 10**9)
    every, gradients = attack(trained, images), sum(taken)
    taken.clear()
    monkeypatch.setattr(deepfool, "SOME", 1)
    fewer = attack(trained, images)
    assert sum(taken) < 0.7 * gradients
    torch.testing.assert_close(fewer.distance, every.distance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_a_class_that_is_likely_to_be_the_nearest_is_not_believed_to_be(p: float) -> None:
    layer, attack = affine(12, 4, seed=0), dfal.DeepFool(p=p)
    x = torch.randn(50, 12, generator=torch.Generator().manual_seed(0))
    view = slopes(nn.Sequential(layer), x[:1])
    order = view.logits(x).argsort(1, descending=True)
    every, places = attack._step(view, x, order, torch.zeros(50, dtype=torch.long))
    assert len(places.unique()) > 1
    for place in (1, 2, 3):
        r, near = attack._step(view, x, order, torch.full((50,), place))
        torch.testing.assert_close(r, every)
        assert torch.equal(near, places)


@pytest.mark.parametrize("clip", [None, (0.0, 1.0)])
@pytest.mark.parametrize("exact", [True, False])
def test_a_race_finds_the_nearest_with_less_work(
    trained: nn.Sequential,
    digits: Dataset,
    exact: bool,
    clip: tuple[float, float] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deepfool, "MANY", 0)
    images, attack = digits.images.take(torch.arange(3, 4000, 26)), dfal.DeepFool(clip=clip)
    every, race = attack(trained, images), Race(5, exact=exact)
    counting = Counting(trained)
    first, second = (attack.nearest(trained, part, race) for part in images.split(75)[:2])
    distance = torch.cat([first.distance, second.distance])
    order = distance.argsort()[:5]
    want = every.distance[: len(distance)].argsort()[:5]
    assert sorted(order.tolist()) == sorted(want.tolist())
    torch.testing.assert_close(distance[order], every.distance[order], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        torch.cat([first.images, second.images])[order], every.images[order], rtol=1e-4, atol=1e-4
    )
    assert race.limit == pytest.approx(float(distance[order[-1]]))
    kept = distance.isfinite()
    torch.testing.assert_close(
        distance[kept], every.distance[: len(kept)][kept], rtol=1e-4, atol=1e-5
    )
    if clip is None:
        attack.nearest(counting, images[:40], Race(5, exact=False))
        fewer = sum(counting.passes)
        counting.passes.clear()
        attack(counting, images[:40])
        assert fewer < sum(counting.passes)


def test_a_race_that_nobody_new_can_win_is_over(
    trained: nn.Sequential, some_digits: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deepfool, "MANY", 0)
    race = Race(1, exact=True)
    race.add(torch.tensor([1e-9]))
    found = dfal.DeepFool().nearest(trained, some_digits, race)
    assert found.distance.isinf().all()
    assert torch.equal(found.images, some_digits)


def test_a_race_with_few_starters_has_no_limit(trained: nn.Sequential, some_digits: Tensor) -> None:
    race = Race(100, exact=False)
    found = dfal.DeepFool().nearest(trained, some_digits, race)
    assert race.limit == math.inf
    torch.testing.assert_close(
        found.distance, dfal.DeepFool()(trained, some_digits).distance, rtol=1e-4, atol=1e-6
    )


def test_threads_change_nothing(trained: nn.Sequential, digits: Dataset) -> None:
    images, threads = digits.images.take(torch.arange(200)), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = dfal.DeepFool()(trained, images)
        torch.set_num_threads(2)
        together = dfal.DeepFool()(trained, images)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(alone.distance, together.distance, rtol=1e-4, atol=1e-5)
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda x: 1 / x, [(1,), (0,), (1,)])


@pytest.mark.parametrize("p", [1, 1.5, 2, math.inf])
def test_a_chain_agrees_with_autograd(
    trained: nn.Sequential, some_digits: Tensor, p: float
) -> None:
    by_chain, by_autograd = (
        dfal.DeepFool(p=p)(model, some_digits) for model in (trained, Counting(trained))
    )
    torch.testing.assert_close(by_chain.distance, by_autograd.distance, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(by_chain.fooled, by_autograd.fooled)
