"""Make the pictures of docs/labelling.md from a real session, with playwright and chromium.

Usage: `python docs/screenshots.py FOLDER`.

FOLDER has a subfolder of photographs for each class, as `python docs/free_photographs.py` makes
them. A machine that knows the classes labels them, with one mistake, until there are 60 answers;
then the page is pictured, and the terminal that it was started from. The first answers are given
with keys, and make the moving picture of README.md.
"""

import contextlib
import html
import io
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

PORT = 8799
URL = f"http://127.0.0.1:{PORT}"
OUT = Path(__file__).parent / "pictures"
ANSWERS = 60
MISTAKE = 32
"""The answer that is wrong."""
FRAMES = 14
"""Answers in the moving picture."""
FRAME_MS, LAST_FRAME_MS = 850, 3000
PATIENCE = 240
"""Seconds for features and networks."""
TERMINAL = """<!doctype html><meta charset="utf-8"><style>
body { margin: 0; background: #faf9f7; padding: 24px; }
pre { margin: 0; background: #1c1d20; color: #edece9; border-radius: 12px; padding: 20px 24px;
  font: 15px/1.6 "DejaVu Sans Mono", monospace; white-space: pre-wrap; }
b { color: #7fcfc4; font-weight: 400; }
</style><pre>"""


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


def main(folder: Path) -> None:
    """Label, and take the pictures."""
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
        truth = _copy(folder, Path(temporary) / "photos")
        words = ["label", "photos", "--classes", *classes]
        server = subprocess.Popen(
            [sys.executable, "-m", "dfal", *words, "--no-browser", "--port", str(PORT)],
            cwd=temporary,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            _wait(lambda: _is_idle() and not get("/api/progress")["features"])
            _film(truth, classes)
            _label(truth, classes)
            _picture()
        finally:
            server.terminate()
            output, _ = server.communicate()
        _picture_terminal(f"dfal {' '.join(words)}", output)


def _copy(folder: Path, to: Path) -> dict[str, str]:
    """Copy photographs under names as cameras give them, and return the class of each."""
    to.mkdir()
    files = sorted(path for path in folder.glob("*/*") if path.is_file())
    random.Random(0).shuffle(files)  # noqa: S311
    truth = {}
    for number, file in enumerate(files, 2001):
        name = f"IMG_{number}{file.suffix}"
        shutil.copy(file, to / name)
        truth[name] = file.parent.name
    return truth


def _label(truth: dict[str, str], classes: list[str]) -> None:
    me = {"person": "Ada", "client_id": "screenshots"}
    for turn in range(FRAMES, ANSWERS):
        (question,) = post("/api/ask", me | {"count": 1})["questions"]
        label = (classes.index(truth[question["path"]]) + (turn == MISTAKE)) % len(classes)
        answer = {"question": question["id"], "label": label, "person": "Ada"}
        post("/api/tell", answer | {"seconds": 1.2 + 0.1 * (turn % 7)})
        time.sleep(0.8)  # as a person would: the networks keep up
    _wait(lambda: _reviewed() and not get("/api/progress")["newer"])


def _film(truth: dict[str, str], classes: list[str]) -> None:
    """Give the first answers with the keys of the page, and picture each question."""
    frames = []
    with _browser({"width": 1000, "height": 640}) as page:
        page.goto(URL)
        for _ in range(FRAMES):
            path = page.wait_for_selector("span.path").get_attribute("title")
            _settle(page)
            frames.append(_image(page.screenshot()))
            page.keyboard.press(str(classes.index(truth[path]) + 1))
            page.wait_for_function(
                "(path) => document.querySelector('span.path')?.title !== path", arg=path
            )
            _wait(_is_idle)
        _settle(page)
        frames.append(_image(page.screenshot()))
    times = [FRAME_MS] * FRAMES + [LAST_FRAME_MS]
    frames[0].save(
        OUT / "label.webp",
        save_all=True,
        append_images=frames[1:],
        duration=times,
        loop=0,
        quality=75,
        method=6,
    )


def _is_idle() -> bool:
    """Return whether the trainer has nothing to do just now."""
    return bool(get("/api/progress")["training"] == "waiting")


def _reviewed() -> bool:
    """Return whether networks have judged all labels; they do so when nobody answers."""
    return all(row["predicted"] is not None for row in get("/api/review?most=200")["images"])


def _wait(so: Any) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            if so():
                return
        except OSError:  # the server is starting
            pass
        time.sleep(0.3)


@contextlib.contextmanager
def _browser(viewport: dict[str, int]) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport=viewport, color_scheme="light")
        page.add_init_script("localStorage.setItem('person', 'Ada')")
        yield page
        browser.close()


def _picture() -> None:
    with _browser({"width": 1280, "height": 800}) as page:
        page.goto(URL)
        page.wait_for_selector(".stage img")
        page.keyboard.press("w")
        page.wait_for_selector("#why p")
        _take(page, "label-light")
        page.emulate_media(color_scheme="dark")
        _take(page, "label-dark")
        page.emulate_media(color_scheme="light")
        page.goto(f"{URL}#grid")
        page.wait_for_selector(".tile img.here")
        _take(page, "grid")
        page.goto(f"{URL}#review")
        page.wait_for_selector(".card img.here")
        _take(page, "review")
        page.set_viewport_size({"width": 390, "height": 844})
        page.goto(f"{URL}#label")
        page.wait_for_selector("#why p")
        _take(page, "phone")


def _picture_terminal(command: str, output: str) -> None:
    """Picture the command and what it says, but for the folder that was made for it."""
    text = html.escape(re.sub(r"\S*/(photos\S*)", r"\1", output).strip(), quote=False)
    text = text.replace(URL, f"<b>{URL}</b>").replace(str(PORT), "8765")
    with _browser({"width": 980, "height": 100}) as page:
        page.set_content(f"{TERMINAL}<b>$</b> {html.escape(command)}\n{text}")
        _save(page.screenshot(full_page=True), "terminal")


def _take(page: Page, name: str) -> None:
    _settle(page)
    _save(page.screenshot(), name)


def _settle(page: Page) -> None:
    """Wait until all pictures on the screen are there, and nothing moves."""
    page.wait_for_function(
        "() => [...document.images].every((image) => image.complete ||"
        " image.getBoundingClientRect().top > innerHeight)"
    )
    page.wait_for_timeout(700)


def _save(screenshot: bytes, name: str) -> None:
    """Save a screenshot as WebP: photographs and text in a tenth of the size of a PNG."""
    _image(screenshot).save(OUT / f"{name}.webp", quality=88, method=6)


def _image(screenshot: bytes) -> Image.Image:
    with Image.open(io.BytesIO(screenshot)) as image:
        return image.convert("RGB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
