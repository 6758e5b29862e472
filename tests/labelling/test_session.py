"""A session: who is asked what, what is stored, and what a kill, a second process or a wrong word
does to it."""

import contextlib
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfal.errors import DfalError
from dfal.labelling import export
from dfal.labelling.learning.progress import progress
from dfal.labelling.learning.review import review
from dfal.labelling.store.checks import ConflictError, NotFoundError
from dfal.labelling.store.records import Model, RankedImage
from dfal.labelling.store.schema import Settings
from dfal.labelling.store.session import Session
from dfal.query import DECLINED, UNKNOWN
from stored import rows_of

PATHS = [f"{i:03}.png" for i in range(200)]


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def begin(tmp_path: Path, clock: Clock) -> Callable[..., Session]:
    """Begins a store of 200 images and two classes."""

    def begin(
        paths: list[str] = PATHS, known: dict[str, str] | None = None, **settings: Any
    ) -> Session:
        return Session.start(
            tmp_path / "s.db",
            Settings(**settings),
            paths,
            ["cat", "dog"],
            known,
            person="ann",
            clock=clock,
        )

    return begin


def a_model(session: Session, ranked: list[int], number: int = 1, annotations: int = 10) -> None:
    watched = session.state.sample_order[:50]
    model = Model(
        number,
        0.0,
        session.state.last_answer_id,
        annotations,
        annotations,
        2,
        1.0,
        watched,
        watched % 2,
    )
    session.model_outputs.add_model(
        model, [RankedImage(image, float(at), 0, 1) for at, image in enumerate(ranked)]
    )


def labels(session: Session) -> dict[int, int]:
    found = session.refresh().labels
    return {int(image): int(found[image]) for image in np.flatnonzero(found != UNKNOWN)}


def test_an_answer_is_there_for_every_other_session_when_tell_returns(
    begin: Callable[..., Session], tmp_path: Path
) -> None:
    with begin() as session, Session.open(tmp_path / "s.db", person="bob") as other:
        (question,) = session.ask()
        session.tell(question, "dog", seconds=2.5)
        assert labels(other) == {question.image: 1}
        db = sqlite3.connect(tmp_path / "s.db")
        assert db.execute("SELECT image, label, person, seconds FROM answers").fetchall() == [
            (question.image, 1, "ann", 2.5)
        ]
        db.close()


def test_everybody_is_asked_about_other_images_until_none_is_left(
    begin: Callable[..., Session],
) -> None:
    with begin(holdout=0.2) as session:
        asked = Counter[int]()
        for turn in range(60):
            for question in session.ask(4, person=f"p{turn % 7}", client_id=f"h{turn % 7}"):
                asked[question.image] += 1
                session.tell(question, turn % 2, person=f"p{turn % 7}")
        assert sorted(asked) == list(range(200))
        assert set(asked.values()) == {1}
        assert session.ask(person="late") == []
        assert len(labels(session)) == 200


def test_an_open_question_is_nobody_elses_until_its_time_is_over(
    begin: Callable[..., Session], clock: Clock
) -> None:
    with begin(lease=60.0, holdout=0.0) as session:
        mine = {question.image for question in session.ask(5, client_id="a")}
        theirs = session.ask(5, person="bob", client_id="b")
        assert not mine & {question.image for question in theirs}
        clock.now += 59
        assert {
            question.image
            for question in session.ask(
                5, client_id="a", keep=[q.id for q in session.state.open.values()]
            )
        } == mine
        clock.now += 2
        again = {question.image for question in session.ask(10, person="bob", client_id="b")}
        assert mine <= again
        # An answer that comes late is taken as long as nobody else has given one.
        late = min(rows_of(session.path, "SELECT question FROM questions WHERE person = 'ann'"))[0]
        session.tell(late, "cat")
        image = rows_of(session.path, "SELECT image FROM questions WHERE question = ?", (late,))[0][
            0
        ]
        (other,) = [question for question in session.state.open.values() if question.image == image]
        assert labels(session) == {image: 0}
        with pytest.raises(ConflictError, match="answered meanwhile"):
            session.tell(other, "dog", person="bob")
        assert labels(session) == {image: 0}


def test_questions_that_are_not_kept_go_back(begin: Callable[..., Session]) -> None:
    with begin(holdout=0.0) as session:
        first = session.ask(5, client_id="a")
        a_model(session, [150, 151, 152, 153])
        second = session.ask(5, client_id="a", keep=[first[0].id])
        assert second[0] == first[0]
        assert [(q.image, q.kind) for q in second[1:]] == [
            (i, "strategy") for i in (150, 151, 152, 153)
        ]
        assert len(session.state.open) == 5


def test_a_question_told_again_changes_nothing_and_otherwise_is_refused(
    begin: Callable[..., Session],
) -> None:
    with begin() as session:
        (question,) = session.ask()
        for _ in range(3):
            session.tell(question, "dog")
        with pytest.raises(ConflictError, match="answered already"):
            session.tell(question, "cat")
        assert len(rows_of(session.path, "SELECT 1 FROM answers")) == 1
        assert labels(session) == {question.image: 1}


@pytest.mark.parametrize(
    ("told", "kind", "sentence"),
    [
        ((10**6, 0), NotFoundError, "no question 1000000"),
        ((2**70, 0), NotFoundError, "no question"),
        ((1, "bird"), NotFoundError, "no class 'bird'.*cat, dog"),
        ((1, 2), NotFoundError, "no class 2"),
        ((1, -1), NotFoundError, "no class -1"),
    ],
)
def test_a_wrong_answer_is_refused_and_nothing_is_stored(
    begin: Callable[..., Session], told: tuple[int, int | str], kind: type[DfalError], sentence: str
) -> None:
    with begin() as session:
        session.ask()
        with pytest.raises(kind, match=sentence):
            session.tell(*told)
        with pytest.raises(ConflictError, match="put to ann, not to bob"):
            session.tell(1, 0, person="bob")
        assert rows_of(session.path, "SELECT 1 FROM answers") == []


def test_a_declined_image_has_no_label_and_is_not_asked_again(
    begin: Callable[..., Session],
) -> None:
    with begin(paths=PATHS[:3], holdout=0.0) as session:
        (question,) = session.ask()
        session.decline(question)
        assert labels(session) == {question.image: DECLINED}
        assert question.image not in {one.image for one in session.ask(3)}
        assert not session.state.trained_on.any()


def test_undo_takes_back_one_answer_after_the_other_and_asks_again(
    begin: Callable[..., Session],
) -> None:
    with begin() as session:
        asked = session.ask(3)
        for question, label in zip(asked, (0, 1, DECLINED), strict=True):
            session.tell(question, label)
        for question in reversed(asked):
            again = session.undo()
            assert not isinstance(again, int)
            assert (again.image, again.kind) == (question.image, question.kind)
            assert question.image not in labels(session)
        with pytest.raises(ConflictError, match="no answer that could be taken back"):
            session.undo()
        with pytest.raises(ConflictError, match="was taken back"):
            session.tell(asked[0], "cat")
        assert labels(session) == {}
        assert len(rows_of(session.path, "SELECT 1 FROM answers")) == 6


def test_an_image_whose_answer_was_taken_back_is_asked_of_others(
    begin: Callable[..., Session],
) -> None:
    with begin(paths=PATHS[:3], holdout=0.0) as session:
        for question in session.ask(3):
            session.tell(question, 0)
        assert session.ask() == []
        session.undo()
        session.leave()
        assert len(session.ask(person="bob")) == 1


def test_undo_is_everybodys_own(begin: Callable[..., Session]) -> None:
    with begin() as session:
        (mine,), (theirs,) = session.ask(client_id="a"), session.ask(person="bob", client_id="b")
        session.tell(mine, "cat")
        session.tell(theirs, "dog", person="bob")
        session.undo(client_id="a")
        assert labels(session) == {theirs.image: 1}


def test_a_correction_settles_and_can_be_taken_back(begin: Callable[..., Session]) -> None:
    with begin() as session:
        (question,) = session.ask()
        session.tell(question, "cat")
        session.correct(question.image, "dog", person="bob")
        session.correct(question.image, DECLINED, person="bob")
        assert labels(session) == {question.image: DECLINED}
        assert session.undo(person="bob") == question.image
        assert labels(session) == {question.image: 1}
        session.undo(person="bob")
        assert labels(session) == {question.image: 0}
        with pytest.raises(NotFoundError, match="no image 200"):
            session.correct(200, "dog")


def test_the_hold_out_is_random_independent_of_the_strategy_and_never_trained_on(
    begin: Callable[..., Session],
) -> None:
    paths = [f"{i}.png" for i in range(3000)]
    with begin(paths=paths, holdout=0.2) as session:
        held = session.state.hold_out
        assert abs(held.mean() - 0.2) < 0.03
        kinds = Counter[str]()
        for turn in range(300):
            if turn == 50:
                a_model(
                    session,
                    np.flatnonzero(held)[:20].tolist() + np.flatnonzero(~held)[:400].tolist(),
                )
            (question,) = session.ask()
            assert (question.kind == "hold-out") == bool(held[question.image])
            kinds[question.kind] += 1
            session.tell(question, 0)
            assert kinds["hold-out"] <= 0.2 * (turn + 1) + 1e-9
        assert kinds["hold-out"] == 60
        assert kinds["strategy"] > 150
        assert not (session.state.trained_on & held).any()
        # What is asked first is as random as the whole: its mean index is that of a random sample,
        # by four standard errors.
        answered = np.flatnonzero(held & (session.state.labels >= 0))
        assert abs(answered.mean() - 1499.5) < 4 * 3000 / 12**0.5 / 60**0.5
        assert set(answered) == set(session.state.sample_order[:60])


def test_the_hold_out_stays_when_images_come_later(begin: Callable[..., Session]) -> None:
    with begin(paths=PATHS[:100]) as session:
        before = session.state.hold_out.copy()
    with begin() as session:
        assert (session.state.hold_out[:100] == before).all()
        assert session.state.hold_out[100:].any()
        assert session.state.paths == PATHS


def test_known_labels_teach_and_are_neither_asked_nor_held_out(
    begin: Callable[..., Session],
) -> None:
    with begin(known=dict.fromkeys(PATHS[:150], "dog")) as session:
        assert not session.state.hold_out[:150].any()
        assert session.state.trained_on[:150].all()
        asked = {question.image for question in session.ask(60)}
        assert asked == set(range(150, 200))
        assert session.state.annotated.sum() == 0


def test_what_a_network_ranks_comes_first_and_chance_where_it_ends(
    begin: Callable[..., Session],
) -> None:
    with begin(holdout=0.0) as session:
        assert {question.kind for question in session.ask(5)} == {"random"}
        a_model(session, [7, 3, 5])
        asked = session.ask(5)
        assert [question.image for question in asked[:3]] == [7, 3, 5]
        assert [question.kind for question in asked] == ["strategy"] * 3 + ["random"] * 2
        found = session.model_outputs.ranked_image(asked[1].id)
        assert found is not None
        assert (found.image, found.score) == (3, 1.0)
        assert session.model_outputs.ranked_image(asked[4].id) is None


def test_votes_of_different_people_until_there_are_enough(begin: Callable[..., Session]) -> None:
    with begin(paths=PATHS[:2], holdout=0.0, votes=3) as session:
        answers: dict[int, list[int | str]] = {
            0: ["cat", "cat", "dog"],
            1: ["cat", "dog", DECLINED],
        }
        for place, person in enumerate(["ann", "bob", "cem"]):
            asked = session.ask(5, person=person, client_id=person)
            assert sorted(question.image for question in asked) == [0, 1]
            assert session.state.labels.tolist() == [UNKNOWN, UNKNOWN]
            for question in asked:
                session.tell(question, answers[question.image][place], person=person)
        assert session.state.labels.tolist() == [0, UNKNOWN]
        assert session.state.disputed == [1]
        for person in ("ann", "bob", "cem"):
            assert session.ask(person=person, client_id=person) == [], "nobody is asked twice"
        (question,) = session.ask(5, person="dan", client_id="dan")
        assert (question.image, question.kind) == (1, "vote")
        assert session.ask(person="eve", client_id="eve") == [], "one more at a time"
        session.tell(question, "dog", person="dan")
        assert session.state.labels.tolist() == [0, 1]
        assert session.state.disputed == []
        assert session.ask(person="eve") == []


def test_more_votes_are_asked_for_first_where_the_first_vote_is_oldest(
    begin: Callable[..., Session],
) -> None:
    with begin(paths=PATHS[:3], holdout=0.0, votes=2) as session:
        first, second, third = session.ask(3)
        for question in (first, second, third):
            session.tell(question, "dog")
        for question in session.ask(3, person="bob", client_id="bob"):
            session.tell(question, "dog", person="bob")
        for _ in range(3):  # the latest first: third, second, first
            session.undo(person="bob", client_id="bob")
        session.leave(client_id="bob")
        asked = session.ask(3, person="cem", client_id="cem")
        assert [q.image for q in asked] == [third.image, second.image, first.image]
        session.leave(client_id="cem")
    with begin(paths=PATHS[:3], holdout=0.0, votes=3) as session:
        asked = session.ask(3, person="cem", client_id="cem")
        assert [q.image for q in asked] == [first.image, second.image, third.image]


def test_with_votes_no_more_people_are_asked_than_votes_are_missing(
    begin: Callable[..., Session],
) -> None:
    with begin(paths=PATHS[:1], holdout=0.0, votes=2) as session:
        assert [
            len(session.ask(person=person, client_id=person)) for person in ("ann", "bob", "cem")
        ] == [1, 1, 0]
        (question,) = session.ask(
            person="ann", client_id="another page"
        )  # ann's own: her first page may be closed
        assert len(session.state.open_by_image[0]) == 2
        session.tell(question, "cat", person="ann")
        assert session.ask(person="ann") == []


def test_questions_of_a_page_that_is_closed_come_back_at_once(
    begin: Callable[..., Session],
) -> None:
    with begin(paths=PATHS[:3], holdout=0.0) as session:
        before = {question.image for question in session.ask(3, client_id="page")}
        assert session.ask(person="bob", client_id="his") == []
        session.leave(client_id="page")
        assert not session.state.open
        assert {
            question.image for question in session.ask(3, person="bob", client_id="his")
        } == before
        session.leave(client_id="nobody's")
        assert len(session.state.open) == 3


def test_a_page_that_was_killed_leaves_its_questions_to_the_next_of_the_same_person(
    begin: Callable[..., Session],
) -> None:
    with begin(paths=PATHS[:5], holdout=0.0) as session:
        lost = session.ask(3, client_id="killed")
        found = session.ask(5, client_id="new")
        assert {question.image for question in found} == set(range(5))
        assert session.ask(1, person="bob", client_id="his") == []
        session.tell(found[-1], "cat")
        with pytest.raises(ConflictError, match="answered meanwhile"):
            session.tell(next(one for one in lost if one.image == found[-1].image), "dog")


def test_a_class_is_called_otherwise_and_keeps_its_answers(begin: Callable[..., Session]) -> None:
    with begin(holdout=0.0) as session:
        (question,) = session.ask()
        session.tell(question, "dog")
        session.rename_class("dog", "wolf", person="bob")
        assert (session.classes, labels(session)) == (["cat", "wolf"], {question.image: 1})
        with pytest.raises(DfalError, match="alike but for case"):
            session.rename_class(1, "Cat")
        with pytest.raises(NotFoundError, match="no class 'dog'"):
            session.rename_class("dog", "fox")
        with pytest.raises(ConflictError, match="'dog' was renamed to 'wolf'"):
            session.add_class("dog")
        session.rename_class("wolf", "Wolf")
        with Session.open(session.path) as other:
            assert other.classes == ["cat", "Wolf"]
    with begin(holdout=0.0, known={PATHS[9]: "dog"}) as session:  # the same call goes on
        assert session.classes == ["cat", "Wolf"]
        assert labels(session) == {question.image: 1, 9: 1}
        session.rename_class("Wolf", "dog")
        assert session.classes == ["cat", "dog"]


def test_labels_that_become_known_later_are_taken_where_nobody_has_answered(
    begin: Callable[..., Session],
) -> None:
    with begin(paths=PATHS[:20], holdout=0.5) as session:
        asked = session.ask(4)
        held = [image for image in range(20) if session.state.hold_out[image]]
        session.tell(asked[0], "dog")
        session.decline(asked[1])
        free = next(image for image in held if image not in {one.image for one in asked})
    assert any(one.kind == "hold-out" for one in asked[2:]), (
        "an open question about an image that measured until now"
    )
    late = {PATHS[image]: "cat" for image in (*(one.image for one in asked), free)}
    with begin(paths=PATHS[:20], known=late, holdout=0.5) as session:
        found = labels(session)
        assert found == {
            asked[0].image: 1,
            asked[1].image: DECLINED,
            asked[2].image: 0,
            asked[3].image: 0,
            free: 0,
        }
        assert not session.state.hold_out[free]
        assert session.state.trained_on[free]
        assert not session.state.annotated[free]
        state = session.state
        assert state.queried == {*state.votes, *state.open_by_image}
        assert state.queried_hold_out == {i for i in state.queried if state.hold_out[i]}
    with begin(paths=PATHS[:20], known=late, holdout=0.5) as session:
        assert labels(session) == found
        assert rows_of(session.path, "SELECT count(*) FROM known") == [(3,)], "once"


def test_a_label_that_becomes_known_later_does_not_overrule_a_vote(
    begin: Callable[..., Session],
) -> None:
    with begin(paths=PATHS[:1], holdout=0.0, votes=2) as session:
        session.tell(session.ask()[0], "dog")
    with begin(paths=PATHS[:1], known={PATHS[0]: "cat"}, holdout=0.0, votes=2) as session:
        assert labels(session) == {}
        session.tell(session.ask(person="bob")[0], "dog", person="bob")
        assert labels(session) == {0: 1}


@pytest.mark.parametrize("wrong", [True, -3, 2**70])
def test_what_is_no_index_is_a_sentence(begin: Callable[..., Session], wrong: int) -> None:
    with begin() as session:
        (question,) = session.ask()
        for call in (
            lambda: session.ask(wrong),
            lambda: session.tell(wrong, "cat"),
            lambda: session.correct(wrong, "cat"),
            lambda: session.tell(question, wrong),
            lambda: session.rename_class(wrong, "new"),
        ):
            with pytest.raises(DfalError, match=r"questions cannot be open|there is no"):
                call()
        assert labels(session) == {}


def test_a_tie_is_settled_by_a_third_person_whatever_is_undone_or_corrected(
    begin: Callable[..., Session],
) -> None:
    def vote(person: str, label: int | str) -> None:
        (question,) = session.ask(person=person, client_id=person)
        session.tell(question, label, person=person)

    with begin(paths=PATHS[:1], holdout=0.0, votes=2) as session:
        vote("ann", "cat")
        assert session.ask(person="ann", client_id="ann") == [], "one person alone is never blocked"
        assert session.state.disputed == []
        vote("bob", "dog")
        assert (session.state.disputed, session.state.left, labels(session)) == ([0], 1, {})
        vote("cem", "dog")
        assert (session.state.disputed, session.state.left, labels(session)) == ([], 0, {0: 1})
        again = session.undo(person="cem", client_id="cem")
        assert not isinstance(again, int)
        assert (session.state.disputed, labels(session)) == ([0], {})
        session.decline(again, person="cem")
        assert session.state.disputed == [0], "who skips settles nothing"
        session.correct(0, DECLINED, person="dan")
        assert (session.state.disputed, labels(session)) == ([], {0: DECLINED})
        session.undo(person="dan")
        assert session.state.disputed == [0]
        session.undo(person="ann", client_id="ann")
        assert labels(session) == {0: 1}, "bob's vote and an abstention"


def test_a_tie_that_nobody_settles_is_asked_about_no_more(begin: Callable[..., Session]) -> None:
    with begin(paths=PATHS[:2], holdout=0.0, votes=2) as session:
        for place, person in enumerate(["ann", "bob", "cem", "dan", "eve"]):
            for question in session.ask(2, person=person, client_id=person):
                label = place if question.image == 0 and place < 2 else DECLINED
                session.tell(question, label, person=person)
        assert labels(session) == {0: DECLINED, 1: DECLINED}
        assert session.state.disputed == [0]
        assert session.state.left == 0
        assert session.ask(person="fay", client_id="fay") == []
        now = progress(session.state)
        assert (now.declined, now.disputed) == (1, 1)
        for show, images in (("declined", [1]), ("disputed", [0]), ("disagreed", [0])):
            assert [one.image for one in review(session, show=show).images] == images
        both = review(session, show="all", order="path").images
        assert [(one.declined, one.disputed) for one in both] == [(False, True), (True, False)]
        assert [row.how for row in export.labels(session)] == ["disputed", "declined"]


def test_a_tie_in_an_older_store_is_open_again(
    begin: Callable[..., Session], tmp_path: Path
) -> None:
    with begin(paths=PATHS[:3], holdout=0.0, votes=2) as session:
        for person, label in (("ann", 0), ("bob", 1)):
            for question in session.ask(3, person=person, client_id=person):
                session.tell(question, DECLINED if question.image == 2 else label, person=person)
    with Session.open(tmp_path / "s.db", person="cem") as session:
        now = progress(session.state)
        assert (now.declined, now.disputed, now.left) == (1, 2, 2)
        assert [row.how for row in export.labels(session)] == ["disputed", "disputed", "declined"]
        assert sorted(question.image for question in session.ask(5)) == [0, 1]


def test_unreadable_images_are_not_asked_about(begin: Callable[..., Session]) -> None:
    with begin(paths=PATHS[:4], holdout=0.0) as session:
        session.model_outputs.set_aside({2: "cut off", 1: "no image"})
        session.model_outputs.set_aside({2: "cut off again", 0: "gone"})
        assert [question.image for question in session.ask(4)] == [3]
        assert session.state.unreadable == {1: "no image", 2: "cut off", 0: "gone"}
        assert session.state.left == 1


def test_a_store_that_is_opened_again_comes_to_the_same(
    begin: Callable[..., Session], tmp_path: Path, clock: Clock
) -> None:
    rng = np.random.default_rng(0)
    with begin(votes=2, lease=50.0) as session:
        for turn in range(300):
            person = f"p{rng.integers(4)}"
            clock.now += float(rng.integers(20))
            asked = session.ask(3, person=person, client_id=person)
            for question in asked[: rng.integers(4)]:
                session.tell(question, int(rng.integers(2)), person=person)
            if rng.random() < 0.2:
                with contextlib.suppress(ConflictError):
                    session.undo(person=person, client_id=person)
            if rng.random() < 0.1:
                session.correct(int(rng.integers(200)), int(rng.integers(2)), person=person)
            if turn == 100:
                a_model(session, list(range(60)))
        one = session.refresh()
        with Session.open(tmp_path / "s.db", clock=clock) as again:
            again.state.expire(clock.now)
            one.expire(clock.now)
            other = again.state
            assert (one.labels == other.labels).all()
            assert one.votes == other.votes
            assert one.corrected == other.corrected
            assert one.open == other.open
            assert {
                image: sorted(asked) for image, asked in one.open_by_image.items()
            } == other.open_by_image
            assert one.undo_history == other.undo_history
            assert one.queried == other.queried == {*one.votes, *one.open_by_image}
            assert one.queried_hold_out == other.queried_hold_out
            assert one.queried_hold_out == {i for i in one.queried if one.hold_out[i]}
            assert [other.next_for(person) for person in "xyz"] == [
                one.next_for(person) for person in "xyz"
            ]


def test_what_cannot_be_stored_changes_nothing(begin: Callable[..., Session]) -> None:
    with begin() as session:
        asked = session.ask(3)
        session.tell(asked[0], "cat")
        (pages,) = session._log._db.execute("PRAGMA page_count").fetchone()
        session._log._db.execute(f"PRAGMA max_page_count = {pages}")  # what SQLite calls full
        with pytest.raises(DfalError, match=r"full disk.*every answer that was accepted is safe"):
            for _ in range(2000):
                session.flag(0, "x" * 900)
        before = labels(session)
        with pytest.raises(DfalError, match="full disk"):
            for _ in range(2000):
                session.correct(5, "dog")
        stored = rows_of(session.path, "SELECT image, label FROM answers ORDER BY answer")
        assert labels(session) == before | ({5: 1} if (5, 1) in stored else {})
        session._log._db.execute("PRAGMA max_page_count = 1000000")
        session.tell(asked[1], "dog")
        assert labels(session)[asked[1].image] == 1


def test_other_settings_hold_from_the_next_start_but_not_what_was_drawn(
    begin: Callable[..., Session],
) -> None:
    with begin(batch=10) as session:
        session.tell(session.ask()[0], 0)
    with begin(batch=20) as session:
        assert session.settings.batch == 20
        assert len(labels(session)) == 1
    for name, value in (("seed", 1), ("holdout", 0.5)):
        with pytest.raises(DfalError, match=rf"begun with {name}.*cannot be changed"):
            begin(**{name: value})


def test_classes_are_added_while_others_label(
    begin: Callable[..., Session], tmp_path: Path
) -> None:
    with begin() as session, Session.open(tmp_path / "s.db", person="bob") as other:
        assert other.add_class("bird") == 2
        (question,) = session.ask()
        session.tell(question, "bird")
        assert labels(other) == {question.image: 2}
        with pytest.raises(DfalError, match="'cat' and 'Cat' are alike but for case"):
            session.add_class("Cat")
        with pytest.raises(DfalError, match="there is a class 'cat' already"):
            session.add_class(" cat ")


def test_flags_are_raised_and_taken_off(begin: Callable[..., Session], tmp_path: Path) -> None:
    with begin() as session:
        session.flag(3, "two cats")
        session.flag(4)
        session.flag(3, raised=False)
        assert session.refresh().flags == {4: ""}
        with Session.open(tmp_path / "s.db") as other:
            assert other.state.flags == {4: ""}


def test_images_that_cover_the_folder_come_before_random_ones(
    begin: Callable[..., Session], tmp_path: Path
) -> None:
    with begin(holdout=0.0) as session:
        random = session.ask()[0].image
        session.leave()
        ranking = [image for image in (2, 0, 3) if image != random][:2]
        session.model_outputs.add_coverage(ranking)
        session.model_outputs.add_coverage(ranking)
        first, second, third = session.ask(3)
        assert [first.image, second.image] == ranking
        assert (first.kind, second.kind, third.kind) == ("coverage", "coverage", "random")
        session.tell(first, 0)
        session.model_outputs.add_coverage([ranking[0], 1])
        session.leave()
        assert session.ask()[0].image == 1, "the latest ranking holds, without what is answered"
    with Session.open(tmp_path / "s.db") as again:
        assert again.state.coverage == [ranking[0], 1]
        assert again.state.coverage_ranking == 2


def test_what_networks_learn_from_is_stored_when_it_changes(
    begin: Callable[..., Session],
) -> None:
    with begin() as session:
        assert (session.state.learner, session.state.backbone) == (None, "auto")
        for why in ("why", "why", "better"):
            session.model_outputs.add_learner("pixels", why)
        learner = session.state.learner
        assert learner is not None
        assert (learner.backbone, learner.why, learner.model) == ("pixels", "better", 1)
        assert session.state.backbone == "pixels"
        rows = sqlite3.connect(session.path).execute("SELECT why FROM learners").fetchall()
        assert rows == [("why",), ("better",)]


def test_no_row_can_be_changed(begin: Callable[..., Session], tmp_path: Path) -> None:
    with begin() as session:
        session.tell(session.ask()[0], 0)
    db = sqlite3.connect(tmp_path / "s.db")
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert len(tables) == 17
    for change in ("UPDATE answers SET label = 1", "DELETE FROM answers", "DELETE FROM questions"):
        with pytest.raises(sqlite3.IntegrityError, match="rows are added, never changed"):
            db.execute(change)
    db.close()


def test_a_store_of_another_command_is_refused(tmp_path: Path) -> None:
    from dfal.experiments.store import Store

    Store(tmp_path / "s.db", write=True).close()
    with pytest.raises(DfalError, match="no store of dfal label"):
        Session.open(tmp_path / "s.db")
    with pytest.raises(DfalError, match=r"there is no store .*: start it with `dfal label FOLDER`"):
        Session.open(tmp_path / "t.db")


LABELS_UNTIL_KILLED = """
import sys
from dfal.labelling.store.session import Session
with Session.open(sys.argv[1], person=sys.argv[2]) as session:
    while asked := session.ask():
        session.tell(asked[0], 1)
        print(asked[0].image, flush=True)
"""


def test_processes_that_are_killed_lose_no_answer_and_ask_nothing_twice(
    begin: Callable[..., Session], tmp_path: Path
) -> None:
    begin(holdout=0.1).close()
    told: list[int] = []
    for kill in range(1):
        command = [sys.executable, "-c", LABELS_UNTIL_KILLED, str(tmp_path / "s.db")]
        people = [
            subprocess.Popen([*command, f"p{kill}-{i}"], stdout=subprocess.PIPE, text=True)
            for i in range(2)
        ]
        lines = []
        for person in people:
            assert person.stdout is not None
            lines += [person.stdout.readline() for _ in range(10)]
        for person in people:
            person.kill()
        for person in people:
            assert person.stdout is not None
            lines += person.stdout.readlines()
            person.wait()
            person.stdout.close()
        told += [int(line) for line in lines if line.endswith("\n")]
        with Session.open(tmp_path / "s.db") as session:
            assert set(told) <= set(labels(session))
    assert len(told) == len(set(told)) >= 20
