"""Ranks of strategies over seeds or settings."""

from dfal import reproduce
from dfal.experiments.store import Store
from dfal.reproduce.ranking import ranking
from paper_store import BUDGETS, WRITTEN, at, write


def test_a_ranking_is_over_seeds_of_one_setting_or_over_settings(paper_store: Store) -> None:
    alone = ranking(reproduce.read_results(paper_store))
    assert alone is not None
    assert alone.over == "the 3 seeds of one setting (mnist, lenet5)"
    assert dict(zip(alone.names, alone.ranks.mean, strict=True))["dfal"] == 1
    for name, seeds in WRITTEN.items():
        other = reproduce.preset("paper").changed({"annotations": 30, "seeds": 3, "model": "vgg8"})
        for trial, accuracies in zip(other.trials([name]), seeds, strict=True):
            write(
                paper_store,
                trial,
                [
                    at(place, b, a, 10 * (place < 2))
                    for place, (b, a) in enumerate(zip(BUDGETS, accuracies, strict=True))
                ],
            )
    both = ranking(reproduce.read_results(paper_store))
    assert both is not None
    assert both.over == "2 settings"
    assert dict(zip(both.names, both.ranks.mean, strict=True)) == dict(
        zip(alone.names, alone.ranks.mean, strict=True)
    )
