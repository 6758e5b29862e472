"""Queries of some of the images."""

import torch

import dfal


def test_a_part_of_a_question_keeps_the_twins_of_its_images() -> None:
    twins = torch.arange(3.0).unsqueeze(1)
    query = dfal.Query(
        torch.tensor([7, 5, 3, 1]), torch.arange(4.0), twinned=torch.tensor([7, 3, 1]), twins=twins
    )
    part = query.only(torch.tensor([3, 1, 0]))
    assert part.indices.tolist() == [1, 5, 7]
    assert part.scores.tolist() == [3, 1, 0]
    assert part.twinned is not None
    assert part.twins is not None
    assert part.twinned.tolist() == [1, 7]
    assert part.twins.tolist() == [[2], [0]]
