"""Table 4, by hand."""

import dataclasses

import dfal
from dfal import reproduce
from dfal.experiments.store import Store
from dfal.reproduce import table4
from dfal.reproduce.stored_results import name_in
from dfal.reproduce.transfer import Transfer
from paper_store import at, cells, write


def test_table_4_is_by_hand(paper_store: Store) -> None:
    preset = reproduce.preset("paper").changed({"annotations": 30, "seeds": 2})
    _, transfers = table4.stages(preset)
    gains = {"dfal": 0.03, "core-set": 0.02, "random": 0.0}
    for transfer in transfers:
        assert isinstance(transfer, Transfer)
        name = name_in(transfer.source, transfer.source.strategy)
        fooled = {"fooled": 0.4, "noise": 0.05, "twins": 10.0} if name == "dfal" else {}
        value = 0.9 + gains[name] + 0.001 * transfer.source.seed * (name == "dfal")
        write(
            paper_store,
            transfer,
            [at(place, budget, value, 0, **fooled) for place, budget in enumerate(transfer.at)],
        )
    found = reproduce.read_results(paper_store)
    accuracies, twins = table4.tables(found)
    inside = cells(accuracies)
    assert set(accuracies.head) == {"lenet5 → vgg8", "vgg8 → lenet5"}
    assert inside["dfal", "lenet5 → vgg8"].ours == "93.05"
    assert inside["dfal", "lenet5 → vgg8"].paper == "97.80"
    assert inside["random", "vgg8 → lenet5"].ours == "90.00", (
        "run once, it counts for every network"
    )
    assert ("dfal: lenet5 → lenet5 (another initialisation)", "twins that fool") in cells(twins)
    assert cells(twins)["dfal: lenet5 → vgg8", "noise that fools"].ours == "5.0"
    assert [one.answer for one in table4.verdicts(found)] == ["reproduced", "reproduced"]
    stray = transfers[0]
    assert isinstance(stray, Transfer)
    stray = dataclasses.replace(
        stray, source=dataclasses.replace(stray.source, strategy=dfal.DFAL(candidates=20))
    )
    write(paper_store, stray, [at(0, 30, 0.1, 0)])
    again = table4.tables(reproduce.read_results(paper_store))[0]
    assert again.rows == accuracies.rows, "with another K they are not mixed in"
    assert "left out for their other settings: 1." in again.caption


def test_half_of_table_4_asks_nothing_of_the_other_network(paper_store: Store) -> None:
    preset = reproduce.preset("paper").changed({"annotations": 30, "seeds": 2, "one_way": True})
    choosing, transfers = table4.stages(preset)
    assert {trial.model for trial in choosing} == {"lenet5"}
    ways = {
        (name_in(one.source, one.source.strategy), one.source.model, one.model)
        for one in transfers
        if isinstance(one, Transfer)
    }
    trained = {(name, "lenet5", "vgg8") for name in ("dfal", "core-set", "random")}
    assert ways == trained | {("dfal", "lenet5", "lenet5")}
    assert {one.id for one in transfers} < {
        one.id for one in table4.stages(preset.changed({"one_way": False}))[1]
    }
    for transfer in transfers:
        assert isinstance(transfer, Transfer)
        write(
            paper_store,
            transfer,
            [at(place, budget, 0.9, 0) for place, budget in enumerate(transfer.at)],
        )
    accuracies, *_ = table4.tables(reproduce.read_results(paper_store))
    assert accuracies.head == ("lenet5 → vgg8",)
    assert len(accuracies.rows) == 3
