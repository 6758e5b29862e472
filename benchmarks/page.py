"""Does the page lose anything of the method? An answering machine labels MNIST through the HTTP
API; `dfal run` does the same.

    python benchmarks/page.py [--annotations 300] [--seeds 3] [--epochs 30]

The pool of mnist-5k lies in a folder as 4,000 PNG files. The machine asks for a batch, answers it,
and waits for the network that has learnt it, as `dfal run` does; without a hold-out, so that each
answer teaches. Both networks are measured on the 1,000 test images. Strategy, training, batch and
candidates are the same; the first labels and everything random are not.
"""

import argparse
import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2 as httpx
import numpy as np
import torch
from PIL import Image

import dfal
from dfal import models
from dfal.data.datasets import Dataset, load
from dfal.experiments.trial import Trial
from dfal.nn.training import Training
from measure import taken_on, write


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--annotations", type=int, default=300)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--epochs", type=int, default=30)
    options = arguments.parse_args()
    data = load("mnist-5k")
    page, run = [], []
    for seed in range(options.seeds):
        trial = Trial(
            annotations=options.annotations, seed=seed, training=Training(epochs=options.epochs)
        )
        run.append([record.measurements["accuracy"] for record in trial.run(data)][-1])
        page.append(through_the_page(data, options.annotations, seed, options.epochs))
        print(f"seed {seed}: dfal run {run[-1]:.1%}, the page {page[-1]:.1%}", flush=True)
    for name, values in (("dfal run", run), ("the page", page)):
        print(
            f"{name}: {100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f} % at"
            f" {options.annotations} annotations"
        )
    figures = {
        "annotations": options.annotations,
        "epochs": options.epochs,
        "dfal run": run,
        "the page": page,
    }
    write(Path(__file__).parent / "results" / "page.json", taken_on(["torch"]) | figures)


def through_the_page(data: Dataset, annotations: int, seed: int, epochs: int) -> float:
    """The accuracy of the network that an answering machine takes home."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "digits"
        folder.mkdir()
        for index, image in enumerate(data.images.array):
            Image.fromarray(image[0]).save(folder / f"{index:05}.png")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = [
            "--classes",
            *data.classes,
            "--holdout",
            "0",
            "--seed",
            str(seed),
            "--epochs",
            str(epochs),
            "--port",
            str(port),
        ]
        server = subprocess.Popen(
            [sys.executable, "-m", "dfal", "label", str(folder), *options, "--no-browser"],
            stdout=subprocess.DEVNULL,
        )
        try:
            _answer(f"http://127.0.0.1:{port}", data, annotations)
        finally:
            server.terminate()
            server.wait()
        saved = models.load(Path(temporary) / "digits.model.safetensors")
        seen = dfal.predict(
            saved.network, data.test_images.take(torch.arange(len(data.test_images)))
        ).argmax(1)
        return float((seen == data.test_labels).float().mean())


def _answer(url: str, data: Dataset, annotations: int) -> None:
    me = {"person": "machine", "holder": "machine"}
    given = model = 0
    with httpx.Client(base_url=url, timeout=60) as web:
        for _ in range(300):
            with contextlib.suppress(httpx.TransportError):
                if web.get("/api/progress").json()["decoded"] == len(data.images):
                    break
            time.sleep(0.2)
        while given < annotations:
            for question in web.post("/api/ask", json=me | {"count": 10}).json()["questions"]:
                label = int(data.labels[int(question["path"][:5])])
                told = {"question": question["id"], "image": question["image"]}
                web.post(
                    "/api/tell", json=told | {"label": label, "person": "machine"}
                ).raise_for_status()
                given += 1
            while (now := web.get("/api/progress").json())["model"] == model:
                time.sleep(0.05)
            model = now["model"]


if __name__ == "__main__":
    main()
