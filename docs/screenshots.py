"""Make the pictures of docs/labelling.md from a real session, with playwright and chromium.

Usage: `python docs/screenshots.py`.

500 digits are labelled by a machine that knows them, with two mistakes, until there are 120
answers; then the page is pictured.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from dfal.data.datasets import load

PORT = 8799
URL = f"http://127.0.0.1:{PORT}"
OUT = Path(__file__).parent / "pictures"
ANSWERS = 120


def post(path: str, body: dict[str, Any]) -> Any:
    """A request to the page's API."""
    request = urllib.request.Request(  # noqa: S310
        URL + path, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return json.load(answer)


def get(path: str) -> Any:
    """What the page shows."""
    with urllib.request.urlopen(URL + path) as answer:  # noqa: S310
        return json.load(answer)


def main() -> None:
    """Label, and take the pictures."""
    data = load("mnist-5k")
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "digits"
        folder.mkdir()
        truth = {}
        for place in range(500):
            truth[f"{place:04}.png"] = int(data.labels[8 * place])
            Image.fromarray(data.images.array[8 * place][0]).save(folder / f"{place:04}.png")
        command = [sys.executable, "-m", "dfal", "label", str(folder), "--classes", *data.classes]
        server = subprocess.Popen([*command, "--no-browser", "--port", str(PORT)])
        try:
            _label(truth)
            _picture()
        finally:
            server.terminate()
            server.wait()


def _label(truth: dict[str, int]) -> None:
    for _ in range(100):
        try:
            get("/api/progress")
            break
        except OSError:
            time.sleep(0.2)
    me = {"person": "Ada", "client_id": "screenshots"}
    for turn in range(ANSWERS):
        (question,) = post("/api/ask", me | {"count": 1})["questions"]
        label = (truth[question["path"]] + 3 * (turn in {40, 77})) % 10
        post(
            "/api/tell",
            {
                "question": question["id"],
                "label": label,
                "person": "Ada",
                "seconds": 1.2 + 0.1 * (turn % 7),
            },
        )
        if turn % 10 == 9:  # as if somebody were looking: the network keeps up
            before = get("/api/progress")["model"]
            until = time.monotonic() + 20
            while (
                turn >= 19 and get("/api/progress")["model"] == before and time.monotonic() < until
            ):
                time.sleep(0.1)
    until = time.monotonic() + 180
    while time.monotonic() < until and any(
        row["predicted"] is None for row in get("/api/review?most=200")["images"]
    ):
        time.sleep(1)  # the review's networks come when nobody answers


def _picture() -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
        page.add_init_script("localStorage.setItem('person', 'Ada')")

        def take(name: str) -> None:
            page.wait_for_timeout(700)
            _save(page.screenshot(), OUT / f"{name}.png")

        page.goto(URL)
        page.wait_for_selector(".stage img")
        page.keyboard.press("w")
        take("label-light")
        page.emulate_media(color_scheme="dark")
        take("label-dark")
        page.emulate_media(color_scheme="light")
        page.goto(f"{URL}#grid")
        page.wait_for_selector(".tile img")
        take("grid")
        page.goto(f"{URL}#review")
        page.wait_for_selector(".card img")
        take("review")
        page.set_viewport_size({"width": 390, "height": 844})
        page.goto(f"{URL}#label")
        page.wait_for_selector(".stage img")
        page.keyboard.press("w")
        take("phone")
        browser.close()


def _save(content: bytes, path: Path) -> None:
    """A PNG of few colours, which the page has anyway: a fifth of the size."""
    part = path.with_suffix(".part.png")
    part.write_bytes(content)
    with Image.open(part) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    part.unlink()


if __name__ == "__main__":
    main()
