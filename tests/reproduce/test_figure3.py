"""Figure 3 and the budgets it needs."""

import pytest

import dfal
from dfal import reproduce
from dfal.reproduce import figure3


def test_figure_3_needs_budgets_on_the_way() -> None:
    preset = reproduce.preset("paper").changed(
        {"dataset": "mnist-5k", "annotations": 20, "first": 10, "batch": 10}
    )
    with pytest.raises(
        dfal.DfalError,
        match=r"figure 3 needs 3 budgets or more, .* there are 2: give more annotations",
    ):
        figure3.stages(preset)
