"""A notebook in a loop beside one person: how much of their rate does the person keep?

    python benchmarks/turns.py [--seconds 20]

The person labels through the page: `dfal label` runs in a process of its own, and each answer is an
`ask` and a `tell` over HTTP, without looking. The notebook is a third process that does the same
through `dfal.labelling.Session`, as fast as it can. With one class only there is nothing to train.
The store syncs every answer to the disk.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2 as httpx
from PIL import Image

from dfal.labelling.store.session import Session
from measure import label_command, taken_on, write

LOOP = """
import sys
from dfal.labelling.store.session import Session
with Session.open(sys.argv[1], person="notebook") as session:
    print(flush=True)
    while asked := session.ask():
        session.tell(asked[0], 0)
"""

IMAGES_A_SECOND = 2_500
"""More than the two answer together, so that some are left at the end."""


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--seconds", type=float, default=20)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        folder.mkdir()
        for place in range(int(IMAGES_A_SECOND * options.seconds)):
            Image.new("L", (16, 16), place % 256).save(folder / f"{place:06}.png")
        results = measured(folder, options.seconds)
    for name, value in results.items():
        print(f"{name:32} {value}")
    write(
        Path(__file__).parent / "results" / "turns.json", taken_on(["fastapi", "uvicorn"]) | results
    )


def measured(folder: Path, seconds: float) -> dict[str, float]:
    """Alone first, then beside the loop."""
    command, url = label_command(folder)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            wait_for_images(url)
            return both(url, folder.parent / "photos.labels.db", seconds)
        finally:
            server.terminate()


def wait_for_images(url: str) -> None:
    """Wait until the server answers and all images are decoded."""
    while True:
        time.sleep(0.5)
        with contextlib.suppress(httpx.TransportError):
            progress = httpx.get(f"{url}/api/progress").json()
            if progress["decoded"] == progress["images"]:
                return


def both(url: str, store: Path, seconds: float) -> dict[str, float]:
    alone, slowest_alone = labelled(url, seconds)
    with subprocess.Popen(
        [sys.executable, "-c", LOOP, str(store)], stdout=subprocess.PIPE, text=True
    ) as loop:
        try:
            assert loop.stdout is not None
            loop.stdout.readline()
            before = answers(store)
            beside, slowest_beside = labelled(url, seconds)
            others = answers(store) - before - beside
        finally:
            loop.kill()
    return {
        "seconds": seconds,
        "answers alone": alone,
        "answers beside the loop": beside,
        "answers of the loop": others,
        "rate kept": round(beside / alone, 2),
        "slowest answer alone, s": round(slowest_alone, 3),
        "slowest answer beside, s": round(slowest_beside, 3),
    }


def labelled(url: str, seconds: float) -> tuple[int, float]:
    """How many answers a person gives in so many seconds, and how long the slowest took."""
    count, slowest, until = 0, 0.0, time.perf_counter() + seconds
    with httpx.Client(base_url=url, timeout=60) as web:
        while (start := time.perf_counter()) < until:
            questions = web.post(
                "/api/ask", json={"person": "ada", "holder": "ada", "count": 1}
            ).json()["questions"]
            web.post(
                "/api/tell", json={"question": questions[0]["id"], "label": 0, "person": "ada"}
            ).raise_for_status()
            slowest = max(slowest, time.perf_counter() - start)
            count += 1
    return count, slowest


def answers(store: Path) -> int:
    with Session.open(store) as session:
        return session.state.last_answer_id


if __name__ == "__main__":
    main()
