"""A pytest plugin: in CI no test is skipped for what could be installed."""

import os

import pytest

MACHINE = "this machine "
"""How the reason of a skip begins that no installation can remove: the processor, the system, its
rights."""


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where DFAL_SKIP_NOTHING is set and a test was skipped for what could have been
    installed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if (
        reporter is None
        or hasattr(session.config, "workerinput")
        or not os.environ.get("DFAL_SKIP_NOTHING")
    ):
        return
    reasons = {str(report.longrepr[2]) for report in reporter.stats.get("skipped", [])}
    avoidable = sorted(
        reason for reason in reasons if not reason.removeprefix("Skipped: ").startswith(MACHINE)
    )
    for reason in avoidable:
        reporter.write_line(f"skipped for what can be installed: {reason}", red=True)
    if avoidable:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
