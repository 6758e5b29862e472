"""How far it is: formulas against closed forms, and what is said too early, in time, and at the
end."""

from typing import Any

import numpy as np
import pytest

from dfal.labelling.learning.progress import (
    MAX_CURVE_POINTS,
    STOP_PAIRS,
    Accuracy,
    curve,
    labels_left,
    progress,
    reached_at,
)
from dfal.labelling.store.records import Answer, Model
from dfal.labelling.store.schema import Settings
from dfal.labelling.store.state import State
from dfal.query import UNKNOWN
from dfal.stats.agreement import wilson


def a_model(number: int, annotations: int, seen: list[int]) -> Model:
    return Model(
        number, 0.0, 0, annotations, annotations, 2, 1.0, np.arange(len(seen)), np.array(seen)
    )


def a_state_of(right: int, of: int, n: int = 2000, **settings: Any) -> State:
    """A session in which a network gets so many of so many hold-out answers right."""
    state = State()
    state.set_settings(Settings(**{"holdout": 0.5} | settings))
    state.classes = ["a", "b"]
    state.add_images((i, f"{i}.png", None) for i in range(n))
    if n < 100:
        state.hold_out[:] = True
    held = np.flatnonzero(state.hold_out)
    seen = np.zeros(n, np.int64)
    for place, image in enumerate(held[:of]):
        state.add_answer(place + 1, Answer("answer", int(image), int(place >= right), "ann"))
        seen[image] = 0
    seen[held[of:]] = np.arange(len(held[of:])) % 2
    state.add_model(a_model(1, 10, seen.tolist()), [])
    return state


def test_a_power_law_is_found_again() -> None:
    sizes = np.array([20.0, 40, 80, 160])
    errors = np.stack([2 * sizes**-0.5, 0 * sizes + 0.3, 0.01 * sizes**0.5])
    n = reached_at(sizes, errors, 0.1)
    assert n[0] == pytest.approx(400)
    assert np.isinf(n[1:]).all()


def test_labels_left_is_said_when_there_is_enough_to_say() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=1000)

    def models(sizes: list[int], n: int) -> list[Model]:
        wrong = rng.random(1000)
        return [
            a_model(i, size, np.where(wrong < 2 * size**-0.5, 1 - truth, truth)[:n].tolist())
            for i, size in enumerate(sizes)
        ]

    assert labels_left(models([20, 40, 80], 1000), truth, 0.9) is None
    assert labels_left(models([20, 40, 80, 160], 19), truth, 0.9) is None
    assert labels_left([], truth, 0.9) is None
    left = labels_left(models([20, 40, 80, 160], 1000), truth, 0.9)
    assert left is not None
    assert left.labels == pytest.approx(240, rel=0.4)
    assert left.low <= left.labels <= left.high


def test_every_network_is_measured_on_all_hold_out_answers() -> None:
    models = [a_model(1, 10, [0, 0, 1, 1]), a_model(2, 20, [0, 1, 1, 1])]
    points = curve(models, np.array([0, 1, UNKNOWN, 1, *[UNKNOWN] * 95, 0]))
    assert [(point.right, point.of) for point in points] == [(2, 3), (3, 3)]
    assert isinstance(points[0], Accuracy)


def test_it_looks_time_to_stop_when_three_pairs_of_networks_agree() -> None:
    state = State()
    state.set_settings(Settings(holdout=0.5))
    state.classes = ["a", "b"]
    state.add_images((i, f"{i}.png", None) for i in range(200))
    held = np.flatnonzero(state.hold_out)
    for place, image in enumerate(held[:30]):
        state.add_answer(
            place + 1, Answer("answer", int(image), int(image) % 2, "ann", seconds=2.0)
        )
    same = (np.arange(200) % 2).tolist()
    other = same[100:] + [1 - one for one in same[:100]]
    for number, seen in enumerate([other, same, same, same], 1):
        state.add_model(a_model(number, 10 * number, seen), [])
    now = progress(state)
    assert not now.stop
    assert now.agreement == [pytest.approx(0.0, abs=0.01), 1.0, 1.0]
    assert now.seconds == 2.0
    assert now.curve[-1].value == 1.0
    assert not now.reached, "30 of 30 may be 89 %"
    assert now.to_confirm == 43
    assert now.labels_left is None
    state.add_model(a_model(5, 50, same), [])
    assert progress(state).stop


@pytest.mark.parametrize(
    ("right", "of", "reached", "to_confirm"),
    [
        (4, 4, False, 69),
        (20, 20, False, 53),
        (72, 72, False, 1),
        (73, 73, True, None),
        (99, 100, False, 15),
        (148, 150, True, None),
        (145, 150, False, 507),
        (95, 100, False, None),  # only more labels help
        (90, 100, False, None),
    ],
)
def test_the_target_is_reached_when_the_interval_is_above_it(
    right: int, of: int, reached: bool, to_confirm: int
) -> None:
    state = a_state_of(right, of)
    now = progress(state)
    assert (now.reached, now.to_confirm) == (reached, to_confirm)
    assert now.curve[-1].of == of
    if to_confirm:
        assert wilson(round(right / of * 10**6), 10**6)[0] > 0.95, (
            "with enough of such answers it is certain"
        )


def test_a_low_target_needs_as_many_hold_out_answers_as_any_number() -> None:
    for of, reached, to_confirm in ((8, False, 12), (19, False, 1), (20, True, None)):
        now = progress(a_state_of(of, of, target=0.5))
        assert (now.reached, now.to_confirm) == (reached, to_confirm)


def test_it_is_no_time_to_stop_with_few_hold_out_answers_or_few_watched_images() -> None:
    for of, n, stop in ((19, 400, False), (20, 400, True), (20, 25, True), (19, 19, False)):
        state = a_state_of(of, of, n=n)
        watched = np.arange(n)
        state.models = [
            Model(number, 0.0, 0, 10 * number, 10, 2, 1.0, watched, state.models[0].predicted)
            for number in range(1, STOP_PAIRS + 2)
        ]
        assert progress(state).stop == stop
    state.models = [
        Model(m.id, 0.0, 0, 10, 10, 2, 1.0, m.watched[:12], m.predicted[:12]) for m in state.models
    ]
    assert not progress(state).stop


def test_labels_are_left_until_the_target_is_reached() -> None:
    truth = np.zeros(1000, np.int64)
    models = [
        a_model(i, 10 * 2**i, [0] * (1000 - 400 // 2**i) + [1] * (400 // 2**i)) for i in range(1, 6)
    ]
    left = labels_left(models, truth, 0.9)
    assert left is not None
    assert (left.labels, left.low) == (
        1,
        1,
    ), "the curve is beyond the target, but it is for the interval to say so"


def test_after_hundreds_of_networks_the_curve_goes_evenly_from_the_first_to_the_latest() -> None:
    state = State()
    state.set_settings(Settings(holdout=0.5))
    state.classes = ["a", "b"]
    state.add_images((i, f"{i}.png", None) for i in range(30))
    for image in range(30):
        state.add_answer(image + 1, Answer("answer", image, 0, "ann"))
    for number in range(1, 501):
        state.add_model(a_model(number, 10 * number, [0] * 30), [])
    now = progress(state)
    numbers = [point.model for point in now.curve]
    assert (len(numbers), numbers[0], numbers[-1]) == (MAX_CURVE_POINTS, 1, 500)
    assert set(np.diff(numbers)) == {4, 5}
    assert len(now.agreement) == STOP_PAIRS
    state.models = state.models[:MAX_CURVE_POINTS]
    assert [point.model for point in progress(state).curve] == list(
        range(1, MAX_CURVE_POINTS + 1)
    ), "all of them, where they are few"


def test_networks_of_neighbouring_answers_are_not_compared() -> None:
    """A network after each answer agrees with the one before it, whatever is learnt."""
    state = a_state_of(30, 30, n=400)
    same = state.models[0].predicted
    state.models = [a_model(1, 10, (1 - same).tolist())]
    for annotations in range(11, 50):
        state.add_model(a_model(annotations - 9, annotations, same.tolist()), [])
    now = progress(state)
    assert not now.stop, "the first pair, 10 and 20 labels, disagrees"
    assert len(now.agreement) == 3
    assert now.agreement[0] < 0.5
    assert now.labels_left is None
    assert [point.annotations for point in now.curve] == [10, 20, 30, 40, 49]
    state.add_model(a_model(41, 50, same.tolist()), [])
    assert progress(state).stop, "three pairs a batch of labels apart agree"


def test_labels_left_needs_networks_of_different_batches() -> None:
    state = a_state_of(20, 30, n=400)
    seen = state.models[0].predicted.tolist()
    for annotations in range(11, 40):
        state.add_model(a_model(annotations, annotations, seen), [])
    assert progress(state).labels_left is None, "30 networks, but of three batches"
    state.add_model(a_model(40, 40, seen), [])
    assert progress(state).labels_left is not None


def test_a_network_after_labels_were_taken_back_is_on_the_curve() -> None:
    state = a_state_of(20, 30)
    seen = state.models[0].predicted.tolist()
    for number, annotations in enumerate((30, 29, 28), 2):
        state.add_model(a_model(number, annotations, seen), [])
    assert [point.model for point in progress(state).curve] == [1, 2, 4]


@pytest.mark.parametrize(
    ("right", "of", "beaten"),
    [(19, 19, None), (14, 20, False), (15, 20, True), (59, 100, False), (60, 100, True)],
)
def test_nothing_is_learnt_before_the_interval_is_above_the_commonest_class(
    right: int, of: int, beaten: bool | None
) -> None:
    state = a_state_of(of // 2, of)  # half of the hold-out answers have each class
    state.models.clear()
    held = np.flatnonzero(state.hold_out)[:of]
    seen = state.labels.clip(0)
    seen[held[right:]] = 1 - seen[held[right:]]
    state.add_model(a_model(1, 10, seen.tolist()), [])
    now = progress(state)
    assert (now.curve[-1].right, now.curve[-1].of) == (right, of)
    if beaten is None:
        assert now.baseline is None, "too few answers to say"
    else:
        assert now.baseline is not None
        assert (now.baseline.share, now.baseline.beaten) == (0.5, beaten)


def test_the_baseline_is_the_commonest_class_of_the_hold_out_alone() -> None:
    state = a_state_of(30, 40)  # 30 a, 10 b
    rest = np.flatnonzero(~state.hold_out)
    for place, image in enumerate(rest[:100]):
        state.add_answer(100 + place, Answer("answer", int(image), 1, "ann"))
    baseline = progress(state).baseline
    assert baseline is not None
    assert (baseline.name, baseline.share, baseline.beaten) == ("a", 0.75, False)


def test_rare_classes_are_those_with_few_labels_to_train_on() -> None:
    state = State()
    state.set_settings(Settings(holdout=0.5))
    state.classes = ["a", "b", "c", "d"]
    state.add_images((i, f"{i}.png", None) for i in range(200))
    assert progress(state).rare == []
    rest, held = np.flatnonzero(~state.hold_out).tolist(), np.flatnonzero(state.hold_out).tolist()
    answers = [*zip(rest, [0] * 10 + [1] * 10 + [2] * 2, strict=False)]
    answers += [(image, 2) for image in held[:20]]  # networks never see them
    for number, (image, label) in enumerate(answers, 1):
        state.add_answer(number, Answer("answer", image, label, "ann"))
    assert progress(state).rare == ["d", "c"]


def test_labels_that_the_latest_network_has_not_seen_are_counted() -> None:
    state = a_state_of(5, 12)
    assert progress(state).newer == 2
    state.models.clear()
    assert progress(state).newer == 0
