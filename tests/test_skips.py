"""A test that is skipped for what could be installed fails in CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("reason", "told", "code"),
    [
        ("there is no chromium: make debian", "1", 1),
        ("there is no chromium: make debian", "", 0),
        ("this machine has no CUDA device", "1", 0),
    ],
)
def test_a_skip_that_an_installation_removes_is_a_failure_where_nothing_may_be_skipped(
    tmp_path: Path, reason: str, told: str, code: int
) -> None:
    text = f"import pytest\ndef test_one(): pass\ndef test_two(): pytest.skip({reason!r})\n"
    (tmp_path / "test_some.py").write_text(text, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "skips",
        "-p",
        "no:randomly",
        "-q",
        "-rs",
        "test_some.py",
    ]
    environment = os.environ | {
        "DFAL_SKIP_NOTHING": told,
        "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}",
    }
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert reason in done.stdout
