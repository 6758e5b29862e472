from itertools import pairwise

import pytest

from dfal.stats.sampling import evenly_spaced


@pytest.mark.parametrize(
    ("length", "most", "places"),
    [
        (0, 5, []),
        (1, 5, [0]),
        (3, 5, [0, 1, 2]),
        (5, 5, [0, 1, 2, 3, 4]),
        (9, 3, [0, 4, 8]),
        (10, 4, [0, 3, 6, 9]),
        (12, 3, [0, 6, 11]),  # halves are rounded to even numbers
        (500, 2, [0, 499]),
    ],
)
def test_places_go_evenly_from_the_first_to_the_last(
    length: int, most: int, places: list[int]
) -> None:
    assert evenly_spaced(length, most) == places
    assert evenly_spaced(length, most, descending=True) == places[::-1]


def test_a_single_place_is_the_one_to_begin_with() -> None:
    assert evenly_spaced(7, 1) == [0]
    assert evenly_spaced(7, 1, descending=True) == [6]


@pytest.mark.parametrize("most", [2, 3, 7, 64, 120])
def test_places_are_distinct_and_their_distances_differ_by_one_at_most(most: int) -> None:
    for length in range(2, 400):
        places = evenly_spaced(length, most)
        steps = {after - before for before, after in pairwise(places)}
        assert len(places) == min(length, most)
        assert min(steps) > 0
        assert max(steps) - min(steps) <= 1
