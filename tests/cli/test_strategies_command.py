"""dfal strategies: the query strategies by name."""

from dfal.strategies import STRATEGIES
from shell import Shell


def test_strategies_are_listed_with_a_line_each(dfal: Shell) -> None:
    lines = dfal("strategies").out.splitlines()
    assert [line.split("\t")[0] for line in lines] == list(STRATEGIES)
    assert all(line.split("\t")[1] for line in lines)
    assert "+twins" in dfal("strategies", "--help").out
