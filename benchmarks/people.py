"""Fifty people label at once on loopback: is an image asked twice, is an answer lost, how long do
ask and tell take?

    python benchmarks/people.py [--people 50] [--answers 5000]

`dfal label` runs in a process of its own on a folder of small images; with one class only there is
nothing to train. Each person is a thread that asks for one image and tells at once, without
looking. The store syncs every answer to the disk.
"""

import argparse
import contextlib
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import httpx2 as httpx
import numpy as np
from PIL import Image

from dfal.labelling.store.session import Session
from measure import label_command, taken_on, write


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--people", type=int, default=50)
    arguments.add_argument("--answers", type=int, default=5000)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        folder.mkdir()
        for place in range(options.answers):
            Image.new("L", (16, 16), place % 256).save(folder / f"{place:06}.png")
        results = measured(folder, options.people, options.answers)
    for name, value in results.items():
        print(f"{name:32} {value}")
    write(
        Path(__file__).parent / "results" / "people.json",
        taken_on(["fastapi", "uvicorn"]) | results,
    )


def measured(folder: Path, people: int, answers: int) -> dict[str, float]:
    """Everybody labels until nothing is left."""
    command, url = label_command(folder)
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    for _ in range(300):
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"{url}/api/progress")
            break
        time.sleep(0.1)
    asked: Counter[int] = Counter()
    times: dict[str, list[float]] = {"ask": [], "tell": []}
    lock = threading.Lock()

    def label(name: str) -> None:
        mine: list[int] = []
        spent: dict[str, list[float]] = {"ask": [], "tell": []}
        with httpx.Client(base_url=url, timeout=60) as web:

            def timed(what: str, body: dict[str, object]) -> httpx.Response:
                start = time.perf_counter()
                answer = web.post(f"/api/{what}", json=body)
                spent[what].append(time.perf_counter() - start)
                answer.raise_for_status()
                return answer

            while questions := timed("ask", {"person": name, "holder": name, "count": 1}).json()[
                "questions"
            ]:
                timed(
                    "tell",
                    {
                        "question": questions[0]["id"],
                        "image": questions[0]["image"],
                        "label": 0,
                        "person": name,
                    },
                )
                mine.append(questions[0]["image"])
        with lock:
            asked.update(mine)
            for what, values in spent.items():
                times[what] += values

    threads = [
        threading.Thread(target=label, args=(f"person-{number}",)) for number in range(people)
    ]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    server.terminate()
    server.wait()
    with Session.open(folder.parent / "photos.labels.db") as session:
        stored = int((session.state.labels == 0).sum())
    return {
        "people": people,
        "answers acknowledged": sum(asked.values()),
        "answers in the store": stored,
        "images asked twice": sum(count > 1 for count in asked.values()),
        "images never asked": answers - len(asked),
        "answers a second": round(sum(asked.values()) / seconds, 1),
        **{
            f"{what}, median ms": round(1000 * float(np.median(values)), 1)
            for what, values in times.items()
        },
        **{
            f"{what}, 95th percentile ms": round(1000 * float(np.quantile(values, 0.95)), 1)
            for what, values in times.items()
        },
    }


if __name__ == "__main__":
    main()
