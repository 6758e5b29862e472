"""Rounds that trials of different length share."""

import dataclasses
from pathlib import Path

from dfal.experiments import runner
from dfal.experiments.store import Store
from paper_store import small


def test_a_longer_trial_goes_on_from_a_shorter_one_to_the_bit(tmp_path: Path) -> None:
    short, long = (
        small().trials(["dfal"], annotations=n)[0] for n in (50, 90)
    )  # 20, 40, and a last batch of 10
    with Store(tmp_path / "alone.db", write=True) as alone:
        list(runner.run([long], alone, 1))
        whole = [row for rows in alone.contents().values() for row in rows]
    with Store(tmp_path / "both.db", write=True) as both:
        list(runner.run([short], both, 1))
        records = list(runner.run([long], both, 1))
        assert [record.round for _, record in records] == [0, 1, 2, 3, 4]
        costs = [both.records(one.id)[0].costs for one in (short, long)]
        assert costs[0] == costs[1], "the first round was not run again"
        fresh = [both.records(one.id)[1].costs for one in (short, long)]
        assert fresh[0] != fresh[1], "the second asked about 10 only"
        assert [
            row for rows in both.contents().values() for row in rows if row[0] == long.id
        ] == whole


def test_a_shorter_trial_takes_what_it_can_from_a_longer_one(tmp_path: Path) -> None:
    short, long = (small().trials(["margin"], annotations=n)[0] for n in (40, 60))
    with Store(tmp_path / "alone.db", write=True) as alone:
        list(runner.run([short], alone, 1))
        whole = [row for rows in alone.contents().values() for row in rows]
    with Store(tmp_path / "both.db", write=True) as both:
        list(runner.run([long], both, 1))
        list(runner.run([short], both, 1))
        assert [
            row for rows in both.contents().values() for row in rows if row[0] == short.id
        ] == whole


def test_a_trial_does_not_take_rounds_from_another(tmp_path: Path) -> None:
    one = small().trials(["margin"], annotations=40)[0]
    others = [
        dataclasses.replace(one, seed=1, annotations=60),
        dataclasses.replace(one, batch=10, annotations=60),
    ]
    with Store(tmp_path / "alone.db", write=True) as alone:
        list(runner.run([one], alone, 1))
        whole = alone.contents()["questions"]
    with Store(tmp_path / "s.db", write=True) as store:
        list(runner.run(others, store, 1))
        list(runner.run([one], store, 1))
        assert [row for row in store.contents()["questions"] if row[0] == one.id] == whole
