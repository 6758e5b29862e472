"""CPU time of commands that need no network, beside that of importing their libraries:

    python benchmarks/startup.py

Each command runs in a process of its own, in turn with `python -c "import click, rich"`. CPU time
is user and system time of the process and its children; medians are compared.
"""

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median

from measure import taken_on, write

BASELINE = [sys.executable, "-c", "import click, rich"]
COMMANDS = {
    "dfal --version": ["--version"],
    "dfal --help": ["--help"],
    "dfal run --help": ["run", "--help"],
    "dfal label --help": ["label", "--help"],
    "dfal strategies": ["strategies"],
    "dfal rnu (no such command)": ["rnu"],
    "dfal run --sed 3 (no such option)": ["run", "--sed", "3"],
    "completion of dfal run --strategy": [],
}
COMPLETION = {
    "_DFAL_COMPLETE": "bash_complete",
    "COMP_WORDS": "dfal run --strategy ",
    "COMP_CWORD": "3",
}
LIMIT = 3.0
"""The largest ratio to the baseline."""


def cpu_seconds(command: list[str], environment: dict[str, str] | None = None) -> float:
    """Return the CPU time of a process, its children with it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=False, env=os.environ | (environment or {}))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    baseline: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(repeats + 1):
        rows = {"": cpu_seconds(BASELINE)} | {
            name: cpu_seconds(
                [sys.executable, "-m", "dfal", *arguments], None if arguments else COMPLETION
            )
            for name, arguments in COMMANDS.items()
        }
        if turn:  # the first reads from the disk and compiles
            baseline.append(rows.pop(""))
            for name, value in rows.items():
                seconds[name].append(value)
    whole = median(baseline)
    found = {
        name: {"cpu_seconds": round(median(values), 4), "ratio": round(median(values) / whole, 2)}
        for name, values in seconds.items()
    }
    for name, row in found.items():
        print(f"{name:40} {row['cpu_seconds']:.3f} s  {row['ratio']:.2f}")
    write(
        Path(__file__).with_name("results") / "startup.json",
        {
            **taken_on(["dfal", "click", "rich"]),
            "repeats": repeats,
            "baseline_cpu_seconds": round(whole, 4),
            "limit": LIMIT,
            "commands": found,
        },
    )
    if slow := [name for name, row in found.items() if row["ratio"] > LIMIT]:
        sys.exit(f"above {LIMIT} times the baseline: {', '.join(slow)}")


if __name__ == "__main__":
    main()
