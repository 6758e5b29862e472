"""Learning after every answer."""

import numpy as np
import pytest

from dfal.errors import DfalError
from dfal.semisupervised import FewLabelLearner, Neighbourhood

CLASSES = 4


def blobs(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % CLASSES
    return (3 * np.eye(20)[truth] + 0.2 * rng.standard_normal((n, 20))).astype(np.float32), truth


FEATURES, TRUTH = blobs(240)
NEIGHBOURHOOD = Neighbourhood.of(FEATURES)


def labelled(images: list[int], n: int = 240) -> np.ndarray:
    labels = np.full(n, -1)
    labels[images] = TRUTH[images]
    return labels


def test_one_label_of_each_class_teaches_the_rest_and_images_never_seen() -> None:
    learner = FewLabelLearner(NEIGHBOURHOOD, CLASSES)
    learned = learner.update(labelled([0, 1, 2, 3]))
    assert (learner.predict(learned).argmax(1) == TRUTH).mean() > 0.95
    others, truth = blobs(200, seed=5)
    logits = learned.head(NEIGHBOURHOOD.space(others))
    assert (logits.argmax(1) == truth).mean() > 0.95


def test_order_of_answers_and_corrections_do_not_matter() -> None:
    one, other = (FewLabelLearner(NEIGHBOURHOOD, CLASSES) for _ in range(2))
    images = [0, 1, 2, 3, 10, 21, 33]
    for count in range(1, 8):
        one.update(labelled(images[:count]))
    wrong = labelled(images)
    wrong[10], wrong[50] = 0, 3
    other.update(wrong)
    last, direct = one.update(labelled(images)), other.update(labelled(images))
    np.testing.assert_allclose(one.predict(last), other.predict(direct), atol=5e-3)
    np.testing.assert_allclose(last.posterior, direct.posterior, atol=1e-4)


@pytest.mark.parametrize("labels", [[], [0], [0, 4, 8], [0, 1]])
def test_classes_without_a_label_break_nothing(labels: list[int]) -> None:
    learner = FewLabelLearner(NEIGHBOURHOOD, CLASSES)
    learned = learner.update(labelled(labels))
    probability = learner.predict(learned)
    assert np.isfinite(probability).all()
    np.testing.assert_allclose(probability.sum(1), 1, rtol=1e-5)
    seen = np.unique(TRUTH[labels])
    assert learned.has_label.nonzero()[0].tolist() == seen.tolist()
    if len(seen):
        assert np.isin(probability.argmax(1), seen).all()
    else:
        np.testing.assert_allclose(probability, 1 / CLASSES)


def test_declined_images_are_as_unlabelled_ones() -> None:
    learner = FewLabelLearner(NEIGHBOURHOOD, CLASSES)
    plain = learner.update(labelled([0, 1, 2, 3]))
    declined = labelled([0, 1, 2, 3])
    declined[100:120] = -2
    np.testing.assert_allclose(learner.update(declined).posterior, plain.posterior)


def test_labels_are_left_out_only_where_others_of_the_class_remain() -> None:
    learner = FewLabelLearner(NEIGHBOURHOOD, CLASSES)
    assert learner.update(labelled([0, 1])).left_out.accuracy is None
    images = [0, 1, 2, 4, 5, 6, 8, 11]
    left_out = learner.update(labelled(images)).left_out
    assert left_out.images.tolist() == [0, 1, 2, 4, 5, 6, 8]
    assert left_out.accuracy == 1


def test_images_that_come_later_are_predicted_and_their_labels_count() -> None:
    later, truth = blobs(40, seed=3)
    learner = FewLabelLearner(NEIGHBOURHOOD, CLASSES)
    learner.append(later)
    labels = np.concatenate([labelled([0, 1, 2]), np.full(40, -1)])
    labels[243] = truth[3]
    learned = learner.update(labels)
    assert learned.has_label.all()
    assert learner.predict(learned)[243].argmax() == truth[3]


def test_a_label_outside_the_graph_spreads_from_its_nearest_image() -> None:
    later, truth = blobs(40, seed=3)
    learner = FewLabelLearner(NEIGHBOURHOOD, CLASSES)
    learner.append(later)
    labels = np.full(280, -1)
    labels[240:244] = truth[:4]
    learned = learner.update(labels)
    assert (learner.predict(learned)[:240].argmax(1) == TRUTH).mean() > 0.95
    assert len(learned.left_out.images) == 0, "each is the only one of its class"
    labels[:240] = TRUTH
    assert (learner.update(labels).left_out.labels == TRUTH).all(), "no label is replaced"


def test_wrong_labels_are_refused_in_one_sentence() -> None:
    learner = FewLabelLearner(NEIGHBOURHOOD, CLASSES)
    with pytest.raises(DfalError, match="3 labels for 240 images"):
        learner.update(np.array([0, 1, 2]))
    with pytest.raises(DfalError, match="class 4 is none of the 4 classes"):
        learner.update(np.full(240, 4))
    with pytest.raises(DfalError, match="classes = 0"):
        FewLabelLearner(NEIGHBOURHOOD, 0)
