"""From the key of an answer to the next photograph on the screen, while models learn.

    python benchmarks/painted.py FOLDER [--answers 60] [--backbone auto]

FOLDER has a subfolder of photographs for each class. `dfal label` runs on a copy without them, and
Chromium shows its page; every class has a key, which is pressed once a second. A photograph counts
as painted when it is decoded, in the document, and two frames have been drawn. Each answer trains a
model on features, and ranks the images anew, in the process beside the page.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from measure import taken_on, write

PAUSE_MS = 1000
"""Milliseconds between two answers."""
PORT = 8797
WATCH = """() => {
    window.painted = [];
    let pressed = 0;
    addEventListener("keydown", () => { pressed = performance.now(); }, true);
    new MutationObserver(() => {
        const image = document.querySelector(".stage img");
        if (!image || !pressed) return;
        const since = pressed;
        pressed = 0;
        image.decode().catch(() => {}).then(() => requestAnimationFrame(() =>
            requestAnimationFrame(() => painted.push(performance.now() - since))));
    }).observe(document.querySelector(".stage"), { childList: true, subtree: true });
}"""

PROGRESS = "fetch('api/progress').then((reply) => reply.json())"
WARM_UP = 10
"""Answers that are not timed, after which the first model is waited for."""


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--answers", type=int, default=60)
    arguments.add_argument("--backbone", default="auto")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = measured(
            options.folder, Path(temporary) / "photos", options.answers, options.backbone
        )
    print(figures)
    write(
        Path(__file__).parent / "results" / "painted.json",
        {**taken_on(["dfal", "torch", "playwright"]), **figures},
    )


def measured(source: Path, folder: Path, answers: int, backbone: str) -> dict[str, Any]:
    """Label through the page, and return the milliseconds until photographs were painted."""
    from playwright.sync_api import sync_playwright

    folder.mkdir()
    classes, truth = [], {}
    for number, file in enumerate(sorted(path for path in source.glob("*/*") if path.is_file())):
        name = f"{number:06}{file.suffix}"
        shutil.copy(file, folder / name)
        truth[name] = file.parent.name
        if file.parent.name not in classes:
            classes.append(file.parent.name)
    command = [sys.executable, "-m", "dfal", "label", str(folder), "--classes", *classes]
    command += ["--backbone", backbone, "--no-browser", "--quiet", "--port", str(PORT)]
    server = subprocess.Popen(command)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.add_init_script("localStorage.setItem('person', 'Ada')")
            _open(page)
            page.evaluate(WATCH)
            for answer in range(WARM_UP + answers):
                if answer == WARM_UP:
                    _wait_for_models(page)
                name = str(page.get_attribute(".stage img", "alt")).rpartition(", ")[2]
                page.keyboard.press(re.sub("10", "0", str(classes.index(truth[name]) + 1)))
                page.wait_for_function(f"() => painted.length > {answer}", timeout=30_000)
                page.wait_for_timeout(PAUSE_MS)
            painted = page.evaluate("painted")[WARM_UP:]
            progress = page.evaluate(PROGRESS)
            browser.close()
    finally:
        server.terminate()
        server.wait()
    return {
        "photographs": len(truth),
        "answers": answers,
        "models": progress["model"],
        "learner": progress["learner"],
        "load": round(os.getloadavg()[0], 1),
        "milliseconds": {
            name: round(float(np.quantile(painted, q)), 1)
            for name, q in (("median", 0.5), ("95 %", 0.95), ("max", 1.0))
        },
    }


def _wait_for_models(page: Any) -> None:
    """Wait until all photographs have features and there is a model."""
    until = time.monotonic() + 600
    while not (now := page.evaluate(PROGRESS))["model"] or now["features"]:
        if time.monotonic() > until:
            raise SystemExit("no model was trained within ten minutes")
        time.sleep(1)


def _open(page: Any) -> None:
    """Open the page as soon as it is there."""
    until = time.monotonic() + 60
    while True:
        try:
            page.goto(f"http://127.0.0.1:{PORT}/")
            page.wait_for_selector(".stage img.here")
        except Exception:  # playwright's, while the server starts
            if time.monotonic() > until:
                raise
            time.sleep(0.3)
        else:
            return


if __name__ == "__main__":
    main()
