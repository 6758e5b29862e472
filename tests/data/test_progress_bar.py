"""Progress is drawn where it disturbs nothing."""

import pytest

from dfal.data.progress_bar import progress_bar


@pytest.mark.filterwarnings("error")
def test_nothing_is_printed_in_a_notebook(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    with progress_bar() as progress:
        progress.advance(progress.add_task("decoding", total=1))
    assert capfd.readouterr().out == ""
    assert not progress.console.is_jupyter
    assert progress.console.stderr
