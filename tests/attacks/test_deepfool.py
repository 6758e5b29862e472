"""DeepFool against closed forms, the paper's algorithm one image at a time, and at the edges where
public implementations fail."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import dfal
from dfal.attacks import deepfool, deepfool_state, gradients
from dfal.attacks.deepfool import KNearestLimit
from dfal.attacks.deepfool_state import State
from dfal.attacks.gradients import (
    AutogradGradients,
    FusedGradients,
    _batched_pairs,
    gradients_of,
)
from dfal.attacks.threads import map_threads
from dfal.attacks.trace import trace
from dfal.data.datasets import Dataset
from plain_attacks import Counting, affine, affine_distance, plain_deepfool


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


def test_too_few_steps_are_a_failure_and_not_a_short_distance(
    trained: nn.Sequential, some_digits: Tensor
) -> None:
    found = dfal.DeepFool(max_steps=1, overshoot=0)(trained, some_digits)
    assert not found.fooled.all()
    assert torch.equal(found.distance.isinf(), ~found.fooled)


def test_no_image_takes_more_steps_than_it_may(trained: nn.Sequential, some_digits: Tensor) -> None:
    counting = Counting(trained)
    found = dfal.DeepFool(max_steps=1, overshoot=0)(counting, some_digits)
    assert not found.fooled.all()
    assert set(counting.passes) == {1, len(some_digits)}, "a second step would be one of fewer"
    assert counting.passes.count(1) == 2, "an example"


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
    passes = counting.passes[2:]  # after the example
    assert passes[:3] == 3 * [len(some_digits)]
    assert max(passes[3:]) < len(some_digits)
    assert passes[-1] < max(passes[3:])


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


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: dfal.DeepFool(p=0.5), "p = 0.5 is not a norm"),
        (lambda: dfal.DeepFool(p=math.nan), "p = nan is not a norm"),
        (lambda: dfal.LinearHead(p=0), "p = 0 is not a norm"),
        (lambda: dfal.DeepFool(overshoot=-0.1), "overshoot = -0.1"),
        (lambda: dfal.DeepFool(max_steps=0), "max_steps = 0"),
        (lambda: dfal.DeepFool(classes=1), "classes = 1"),
        (lambda: dfal.FGSM(epsilon=0), "epsilon = 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: Callable[[], object], sentence: str) -> None:
    with pytest.raises(dfal.DfalError, match=sentence):
        wrong()


@pytest.mark.gpu
def test_cuda_finds_the_same_distances(trained: nn.Sequential, some_digits: Tensor) -> None:
    here = dfal.DeepFool()(trained, some_digits)
    there = dfal.DeepFool()(trained.cuda(), some_digits)
    trained.cpu()
    assert there.distance.is_cuda
    torch.testing.assert_close(there.distance.cpu(), here.distance, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("clip", [None, (0.0, 1.0)])
@pytest.mark.parametrize("kind", [FusedGradients, AutogradGradients])
def test_later_steps_take_two_backward_passes_and_change_nothing(
    trained: nn.Sequential,
    digits: Dataset,
    kind: Any,
    clip: tuple[float, float] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, attack = digits.images.take(torch.arange(0, 4000, 40)), dfal.DeepFool(clip=clip)
    model = trained if kind is FusedGradients else Counting(trained)
    taken: list[int] = []

    def logit_gradients(self: Any, x: Tensor, order: Tensor) -> Any:
        taken.append(len(x))
        return original(self, x, order)

    original = kind.logit_gradients
    monkeypatch.setattr(kind, "logit_gradients", logit_gradients)
    monkeypatch.setattr(deepfool_state, "MIN_SINGLE_CLASS", 10)
    every, gradients = attack(model, images), sum(taken)
    taken.clear()
    monkeypatch.setattr(deepfool_state, "MIN_SINGLE_CLASS", 3)
    fewer = attack(model, images)
    assert len(images) <= sum(taken) < 0.7 * gradients
    torch.testing.assert_close(fewer.distance, every.distance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_a_class_tried_alone_is_believed_only_where_it_is_the_nearest(p: float) -> None:
    layer, attack = affine(12, 4, seed=0), dfal.DeepFool(p=p)
    x = torch.randn(50, 12, generator=torch.Generator().manual_seed(0))
    network = gradients_of(nn.Sequential(layer), x[:1])
    order = network.logits(x).argsort(1, descending=True)
    every = attack._nearest_boundary(network, x, order, torch.zeros(50, dtype=torch.long))
    assert len(every.candidate_class.unique()) > 1
    for place in (1, 2, 3):
        some = torch.full((50,), place).where(torch.arange(50) % 5 > 0, 0)
        single = attack._nearest_boundary(network, x, order, some)
        torch.testing.assert_close(single.distance, every.distance)
        torch.testing.assert_close(single.w, every.w)
        assert torch.equal(single.candidate_class, every.candidate_class)


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_an_image_whose_first_step_is_short_enough_may_be_within(
    trained: nn.Sequential, some_digits: Tensor, p: float
) -> None:
    attack, network = dfal.DeepFool(p=p), gradients_of(trained, some_digits[:1])
    f = network.logits(some_digits)
    order = f.argsort(1, descending=True)
    state = State.start(some_digits, f[:, 0], order)
    distance = attack._boundary(network, some_digits, order)[1].distance
    every = torch.arange(len(some_digits))
    given_up = 0
    for limit in distance.sort().values[1::4].tolist():
        may_be = attack._may_be_within(network, state, every, limit)
        assert may_be[distance <= limit].all()
        given_up += int((~may_be).sum())
    assert given_up > len(every), "or nothing is saved"


@pytest.mark.parametrize("clip", [None, (0.0, 1.0)])
@pytest.mark.parametrize("exact", [True, False])
def test_a_limit_finds_the_nearest_with_less_work(
    trained: nn.Sequential,
    digits: Dataset,
    exact: bool,
    clip: tuple[float, float] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deepfool, "MIN_CERTIFIED_IMAGES", 0)
    images, attack = digits.images.take(torch.arange(3, 4000, 26)), dfal.DeepFool(clip=clip)
    every, limit = attack(trained, images), KNearestLimit(5, exact=exact)
    counting = Counting(trained)
    first, second = (attack.nearest(trained, part, limit) for part in images.split(75)[:2])
    distance = torch.cat([first.distance, second.distance])
    order = distance.argsort()[:5]
    want = every.distance[: len(distance)].argsort()[:5]
    assert sorted(order.tolist()) == sorted(want.tolist())
    torch.testing.assert_close(distance[order], every.distance[order], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        torch.cat([first.images, second.images])[order], every.images[order], rtol=1e-4, atol=1e-4
    )
    assert limit.distance == pytest.approx(float(distance[order[-1]]))
    kept = distance.isfinite()
    torch.testing.assert_close(
        distance[kept], every.distance[: len(kept)][kept], rtol=1e-4, atol=1e-5
    )
    if clip is None:
        attack.nearest(counting, images[:40], KNearestLimit(5, exact=False))
        fewer = sum(counting.passes)
        counting.passes.clear()
        attack(counting, images[:40])
        assert fewer < sum(counting.passes)


def test_images_certain_to_be_beyond_the_limit_are_given_up(
    trained: nn.Sequential, some_digits: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deepfool, "MIN_CERTIFIED_IMAGES", 0)
    limit = KNearestLimit(1, exact=True)
    limit.add(torch.tensor([1e-9]))
    found = dfal.DeepFool().nearest(trained, some_digits, limit)
    assert found.distance.isinf().all()
    assert torch.equal(found.images, some_digits)


def test_images_within_the_limit_are_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """For an affine network, whose certified distances are exact."""
    monkeypatch.setattr(deepfool, "MIN_CERTIFIED_IMAGES", 0)
    layer = affine(12, 4, seed=0)
    x = torch.randn(30, 12, generator=torch.Generator().manual_seed(0))
    exact = affine_distance(layer, x, 2)
    order, limit = exact.argsort(), KNearestLimit(1, exact=True)
    limit.add(1.01 * exact[order[:1]])
    found = dfal.DeepFool().nearest(nn.Sequential(layer), x, limit)
    assert found.fooled[order[0]]
    assert not found.fooled[order[-1]]


def test_with_fewer_images_than_k_there_is_no_limit(
    trained: nn.Sequential, some_digits: Tensor
) -> None:
    limit = KNearestLimit(100, exact=False)
    found = dfal.DeepFool().nearest(trained, some_digits, limit)
    assert limit.distance == math.inf
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
        map_threads(lambda x: 1 / x, [(1,), (0,), (1,)])


@pytest.mark.parametrize("p", [1, 1.5, 2, math.inf])
def test_fused_gradients_and_autograd_find_the_same(
    trained: nn.Sequential, some_digits: Tensor, p: float
) -> None:
    fused, by_autograd = (
        dfal.DeepFool(p=p)(model, some_digits) for model in (trained, Counting(trained))
    )
    torch.testing.assert_close(fused.distance, by_autograd.distance, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(fused.fooled, by_autograd.fooled)


@pytest.mark.parametrize(("pairs", "passes"), [(1, 9), (100, 5), (4096, 1)])
def test_gradients_of_repeated_images_are_those_of_one_class_after_another(
    trained: nn.Sequential, some_digits: Tensor, pairs: int, passes: int
) -> None:
    order = dfal.predict(trained, some_digits).argsort(1, True)
    f, each = AutogradGradients(trained).logit_gradients(some_digits, order)
    computed: list[int] = []
    with trained[0].register_full_backward_hook(lambda *_: computed.append(1)):
        f_batched, batched = AutogradGradients(trained, pairs).logit_gradients(some_digits, order)
        found = torch.cat([w for _, w in batched])
    torch.testing.assert_close(found, torch.cat([w for _, w in each]))
    torch.testing.assert_close(f_batched, f)
    assert len(computed) == passes


def test_small_networks_have_all_classes_computed_in_one_pass_on_a_gpu(
    trained: nn.Sequential, some_digits: Tensor
) -> None:
    assert _batched_pairs(trained, some_digits[:1]) > 5000
    assert 100 < _batched_pairs(dfal.vgg8(), some_digits[:1]) < 1000


@pytest.mark.parametrize("pairs", [100, 4096])
def test_deepfool_is_the_same_with_batched_gradients(
    trained: nn.Sequential, some_digits: Tensor, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = dfal.DeepFool()(trained, some_digits)
    monkeypatch.setattr(gradients, "gradients_of", lambda model, _: AutogradGradients(model, pairs))
    found = dfal.DeepFool()(Counting(trained), some_digits)
    torch.testing.assert_close(found.distance, want.distance, rtol=1e-4, atol=0)
    assert found.fooled.all()


def _tf32() -> tuple[Any, Any]:
    cuda: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    if hasattr(cuda, "fp32_precision"):
        return cuda.fp32_precision == "tf32", cudnn.conv.fp32_precision == "tf32"
    return cuda.allow_tf32, cudnn.allow_tf32


def _traced(model: nn.Module, images: Tensor) -> object:
    return trace(dfal.DeepFool(), model, images[0])


@pytest.mark.parametrize(
    "attack", [dfal.DeepFool(), dfal.FGSM(), _traced], ids=["DeepFool", "FGSM", "trace"]
)
def test_tf32_is_off_in_an_attack_and_as_it_was_afterwards(
    attack: Callable[[nn.Module, Tensor], object], trained: nn.Sequential, some_digits: Tensor
) -> None:
    class Precise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.add(_tf32())
            logits: Tensor = trained(x)
            return logits

    seen: set[tuple[Any, Any]] = set()
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        before = _tf32()
        attack(Precise(), some_digits[:2])
        assert _tf32() == before == (True, True)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(precision)
    assert seen == {(False, False)}
