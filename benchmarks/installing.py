"""From nothing to the first label and the first study: seconds, gigabytes and keystrokes.

    python benchmarks/installing.py PHOTOS [--by pip uv] [--torch REQUIREMENT] [--out FILE]

PHOTOS is a folder of photographs. The lines of docs/installing.md and README.md are typed in a
fresh copy of this checkout, with an empty home and empty caches: for pip in a new virtual
environment, for uv after `pip install uv` in one. Then `dfal label` is started and asked for its
first question, which gets an answer, and `dfal run` is run without options.

It needs the standard library alone, so that a bare Python runs it: `python3` is the one that is
measured. Where PyTorch's index cannot be reached, `--torch torch==2.13.0+cpu` takes a wheel that
PIP_FIND_LINKS and UV_FIND_LINKS lead to: the figures then lack the seconds of its download.
"""

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PREPARATION = {
    "pip": ["python3 -m venv .venv", ". .venv/bin/activate"],
    "uv": ["python3 -m venv .venv", ". .venv/bin/activate", "pip install uv"],
}
LABEL, RUN = "dfal label photos --classes cat dog", "dfal run"
ANSWER_KEY = 1
"""Keystrokes of an answer on the page."""
FOREIGN = ("PYTHONPATH", "VIRTUAL_ENV", "DFAL_DATA", "OMP_NUM_THREADS")
"""What a shell may have that a bare one lacks."""


def installing(by: str, torch: str | None) -> list[str]:
    """Return the lines that docs/installing.md has for pip or for uv.

    Args:
        by: `pip` or `uv`.
        torch: a requirement that takes the place of PyTorch's index.
    """
    page = (ROOT / "docs" / "installing.md").read_text(encoding="utf-8")
    section = page.split(f"\n## With {by}\n")[1].split("\n## ")[0]
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S)
        for line in block.splitlines()
        if "install" in line.split("#")[0].split()[:3]
    ]
    if torch is not None and by == "pip":
        lines = [re.sub(r"torch --index-url \S+", shlex.quote(torch), line) for line in lines]
    if torch is not None and by == "uv":
        with_torch = f"--with {shlex.quote(torch)}"
        lines = [re.sub(r"--torch-backend \w+", with_torch, line) for line in lines]
    return lines


def measured(by: str, photos: Path, torch: str | None) -> dict[str, Any]:
    """Install in a new folder, give the first label and run the first study."""
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary) / "home"
        folder = home / "dfal"
        copy_checkout(folder)
        shutil.copytree(photos, folder / "photos")
        environment = bare(home, folder)
        before = size(home)
        steps = [typed(line, folder, environment) for line in PREPARATION[by]]
        steps += [
            typed(line, folder, environment, written)
            for line, written in zip(installing(by, torch), installing(by, None), strict=True)
        ]
        with_caches = size(home) - before
        shutil.rmtree(home / ".cache", ignore_errors=True)
        disk = size(home) - before
        first = first_label(folder, environment)
        study = typed(RUN, folder, environment)
        seconds = sum(step["seconds"] for step in steps)
        keys = sum(step["keystrokes"] for step in steps)
        return {
            "steps": steps,
            "seconds_to_install": round(seconds, 1),
            "gigabytes": round(disk / 1e9, 2),
            "gigabytes_with_caches": round(with_caches / 1e9, 2),
            "first_label": first | {"seconds_from_nothing": round(seconds + first["seconds"], 1)},
            "keystrokes_to_first_label": keys + first["keystrokes"] + ANSWER_KEY,
            "first_study": study | {"seconds_from_nothing": round(seconds + study["seconds"], 1)},
            "keystrokes_to_first_study": keys + study["keystrokes"],
        }


def copy_checkout(folder: Path) -> None:
    """Copy what this checkout's last commit has, or all of it where there is no git."""
    folder.mkdir(parents=True)
    if (ROOT / ".git").exists():
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", "HEAD"], capture_output=True, check=True
        )
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    else:
        shutil.copytree(ROOT, folder, dirs_exist_ok=True)


def bare(home: Path, folder: Path) -> dict[str, str]:
    """Return the environment of somebody who has just begun."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    paths = [folder / ".venv" / "bin", home / ".local" / "bin"]  # what activation and uv add
    return kept | {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "PIP_CACHE_DIR": str(home / ".cache" / "pip"),
        "UV_CACHE_DIR": str(home / ".cache" / "uv"),
        "PATH": os.pathsep.join([*map(str, paths), os.environ["PATH"]]),
    }


def typed(
    line: str, folder: Path, environment: dict[str, str], written: str = ""
) -> dict[str, Any]:
    """Run a line as a shell does, and return its keystrokes, with Enter, and its seconds.

    Args:
        line: what is run.
        folder: where.
        environment: of the shell.
        written: the line in the docs, of which the keystrokes are; by default, `line`.
    """
    start = time.perf_counter()
    process = subprocess.run(
        ["/bin/bash", "-c", line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"{line}\n{process.stdout[-2000:]}{process.stderr[-2000:]}")
    print(f"{seconds:7.1f} s  {line}", flush=True)
    return {"line": line, "keystrokes": len(written or line) + 1, "seconds": round(seconds, 1)}


def first_label(folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Start the page, and give its first question an answer."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [*shlex.split(LABEL), "--no-browser", "--quiet"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        ada = {"person": "Ada", "client_id": "installing"}
        (question,) = post(f"{url}api/ask", ada | {"count": 1})["questions"]
        shown = time.perf_counter() - start
        answer = {"question": question["id"], "label": 0, "person": "Ada", "seconds": 1.0}
        post(f"{url}api/tell", answer)
        seconds = time.perf_counter() - start
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
    print(f"{seconds:7.1f} s  {LABEL}", flush=True)
    return {
        "line": LABEL,
        "keystrokes": len(LABEL) + 1,
        "seconds_to_first_question": round(shown, 1),
        "seconds": round(seconds, 1),
    }


def post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


def size(folder: Path) -> int:
    """Return the bytes on the disk below a folder; a file with several names counts once."""
    status = {path.lstat() for path in folder.rglob("*")} if folder.exists() else set()
    return sum({(file.st_dev, file.st_ino): file.st_blocks * 512 for file in status}.values())


def machine() -> str:
    """Return the processor and the number of cores, as the other benchmarks say them."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    return f"{found[1] if found else platform.machine()}, {os.cpu_count()} cores"


def system() -> str:
    return platform.freedesktop_os_release()["PRETTY_NAME"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--by", nargs="+", choices=PREPARATION, default=list(PREPARATION))
    parser.add_argument("--torch")
    default = Path(__file__).with_name("results") / "installing.json"
    parser.add_argument("--out", type=Path, default=default)
    arguments = parser.parse_args()
    number = sum(path.is_file() for path in arguments.photos.rglob("*"))
    figures = {
        "machine": machine(),
        "system": system(),
        "versions": {"python": platform.python_version()},
        "command": shlex.join(["python", "benchmarks/installing.py", "PHOTOS", *sys.argv[2:]]),
        "photographs": number,
        "torch": arguments.torch or "from PyTorch's index",
        "by": {by: measured(by, arguments.photos, arguments.torch) for by in arguments.by},
    }
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
