"""Seconds of one selection."""

import dataclasses

import pytest
import torch

import dfal
from dfal.data.datasets import Dataset
from dfal.experiments.serialization import from_json
from dfal.reproduce.selection_timing import SelectionTiming
from paper_store import TINY


def test_a_question_is_timed_and_goes_on(digits: Dataset) -> None:
    question = SelectionTiming(
        "mnist-5k",
        TINY,
        dfal.Entropy(),
        labelled=20,
        unlabelled=30,
        picks=3,
        repeats=3,
        training=dfal.Training(epochs=2),
    )
    records = list(question.run(digits, [], []))
    assert [one.round for one in records] == [0, 1, 2]
    assert all(one.costs["select"] > 0 for one in records)
    assert records[0].measurements == {"labelled": 20, "unlabelled": 30, "picks": 3}
    assert [one.round for one in question.run(digits, records[:1], [])] == [1, 2]
    assert list(question.run(digits, records, [])) == []
    asked: list[int] = []

    def counting(
        model: torch.nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator
    ) -> dfal.Query:
        asked.append(k)
        return dfal.Random()(model, pool, k, rng)

    assert len(list(dataclasses.replace(question, strategy=counting).run(digits, [], []))) == 3
    assert asked == [3] * 4, "the first warms caches up and is not timed"
    assert from_json(SelectionTiming, question.to_json()) == question
    with pytest.raises(dfal.DfalError, match="are more than the 4000 images of mnist-5k"):
        dataclasses.replace(question, unlabelled=5000).check(digits)
