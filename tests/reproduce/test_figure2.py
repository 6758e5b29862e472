"""Figure 2, by hand."""

from dfal.reproduce import figure2
from dfal.reproduce.stored_results import StoredResults


def test_verdicts_of_figure_2_are_by_hand(paper_results: StoredResults) -> None:
    above, lead, twins = figure2.verdicts(paper_results)
    assert above.answer == "reproduced"
    assert lead.answer == "undecided", "CORE-SET is level with it"
    assert "core-set −0.33 [−1.77, +1.10]" in lead.numbers
    assert "dfal-no-twins" not in lead.numbers, "which the paper's table does not have"
    assert twins.answer == "reproduced"
