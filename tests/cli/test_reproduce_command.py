"""dfal reproduce: tables and figures of the paper from the command line."""

from pathlib import Path

from dfal import reproduce
from dfal.experiments.store import Store
from shell import Shell

REPRODUCE = [
    "reproduce",
    "table1",
    "--preset",
    "quick",
    "--annotations",
    "40",
    "--epochs",
    "1",
    "--full-epochs",
    "1",
    "--seeds",
    "2",
]
REPRODUCE += ["--processes", "1", "--candidates", "20"]


def test_reproduce_runs_goes_on_and_reports(dfal: Shell) -> None:
    first = dfal(*REPRODUCE, "--strategy", "dfal,random")
    assert first.code == 0, first.err
    for word in (
        "Table 1: mnist-5k, lenet5",
        "Statistics beyond the paper",
        "Seconds of each trial",
        "The paper's claims",
        "99.04",
    ):
        assert word in first.out, word
    store = Path("reproduced/quick/study.db")
    assert {file.name for file in store.parent.iterdir()} == {
        ".study.db.lock",
        "report.html",
        "study.db",
    }
    with Store(store) as opened:
        assert len(opened.trials()) == 6, "two strategies and the full set, two seeds"
        rounds = len(opened.contents()["measurements"])
    again = dfal(*REPRODUCE, "--strategy", "dfal,random,margin", "--tables", "tables")
    assert again.code == 0, again.err
    with Store(store) as opened:
        assert len(opened.contents()["measurements"]) == rounds + 2 * 2 * 3, (
            "margin's two rounds, two seeds, three measurements"
        )
    page = (store.parent / "report.html").read_text(encoding="utf-8")
    for word in (
        "The paper’s claims",
        "Figure 2: mnist-5k, lenet5",
        "Ranks",
        "mnist-5k is not the paper’s data in full",
    ):
        assert word in page, word
    assert {"table1-mnist-5k-lenet5.tex", "verdicts.csv"} <= {
        file.name for file in Path("tables").iterdir()
    }


def test_reproduce_times_questions_one_at_a_time(dfal: Shell) -> None:
    ran = dfal(
        "reproduce",
        "table3",
        "--preset",
        "quick",
        "--model",
        "small_networks:tiny",
        "--store",
        "t3.db",
    )
    assert ran.code == 0, ran.err
    assert "891.78" in ran.out
    assert "holds tables of `dfal reproduce`" in dfal.refused("run", "--resume", "--store", "t3.db")
    ran = dfal("report", "t3.db", "--tables", "tables", "--csv", "all.csv")
    assert ran.code == 0, ran.err
    assert "table3-mnist-5k-small-networks-tiny.csv" in {
        file.name for file in Path("tables").iterdir()
    }
    assert len(Path("all.csv").read_text(encoding="utf-8").splitlines()) == 1, "no trial was run"


def test_what_reproduce_cannot_run_is_refused_before_anything_is_written(dfal: Shell) -> None:
    assert "did you mean 'quick'" in dfal.refused("reproduce", "table1", "--preset", "quik")
    assert "did you mean 'dfal'" in dfal.refused(*REPRODUCE, "--strategy", "dfall")
    for what in ("table3", "table4", "figure3"):
        assert "leave out --strategy" in dfal.refused(
            "reproduce", what, "--preset", "quick", "--strategy", "random"
        )
    assert "neither a number of images nor 'all'" in dfal.refused(
        *REPRODUCE, "--candidates", "some"
    )
    assert "annotations = 5000 is more" in dfal.refused(*REPRODUCE, "--annotations", "5000")
    assert dfal("reproduce", "table9").code == 2
    assert reproduce.usual_data("figure3") == {"dataset": "shoe-bag"}
    assert reproduce.usual_data("table4") == {}
    assert list(Path().iterdir()) == []


def test_two_reproductions_into_one_store_are_refused(dfal: Shell) -> None:
    with Store("s.db", write=True):
        assert "another process writes to" in dfal.refused(*REPRODUCE, "--store", "s.db")
