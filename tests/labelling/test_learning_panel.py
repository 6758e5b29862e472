"""What the page says of what is learnt, and from what; and how it shows small images."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stubbed import NO_FINAL, NO_REASON

pytest.importorskip("fastapi", reason="the page is an extra: pip install 'dfal[label]'")

POINT = {
    "model": 12,
    "annotations": 38,
    "right": 14,
    "of": 24,
    "value": 14 / 24,
    "low": 0.39,
    "high": 0.76,
}


def test_the_page_says_that_nothing_is_learnt_and_what_can_help(stub: Any) -> None:
    stubbed = stub("cat", "dog", "hare")
    stubbed.progress = {
        "curve": [POINT],
        "model": 12,
        "baseline": {"name": "cat", "share": 0.5, "beaten": False},
        "class_counts": {"cat": 30, "dog": 7, "hare": 1},
        "rare": ["hare", "dog"],
        "learner": {"backbone": "none", "why": "pixels: 40 % right"},
        "photos_extra": False,
    }
    page = stubbed.open()
    page.wait_for_selector(".hint >> text=Nothing is learnt yet")
    assert page.text_content(".hint p") == (
        "Nothing is learnt yet. Always predicting cat would be right for 50 % of the hold-out; the"
        " accuracy of the model may be as low as 39 %. This can help:"
    )
    assert page.locator(".hint li").all_text_contents() == [
        "more labels of the rare classes: hare (1), dog (7)",
        "for photographs, a pretrained network: pip install 'dfal[photos]'",
        "fewer classes, where two look alike",
    ]

    stubbed.classes = ["cat", "dog"]
    stubbed.progress |= {"photos_extra": True, "rare": []}
    page.wait_for_selector(".hint >> text=another network: --backbone NAME")
    assert page.locator(".hint li").all_text_contents() == [
        "more labels",
        "another network: --backbone NAME",
    ]
    stubbed.progress["baseline"] = {"name": "cat", "share": 0.5, "beaten": True}
    page.wait_for_selector(".hint", state="detached")


def test_the_page_says_what_images_without_a_label_give(stub: Any) -> None:
    stubbed = stub("cat", "dog")
    why = "the network learns from 4,900 images without a label, too: 96 of 100 labels"
    stubbed.progress = {
        "training": "comparing",
        "steps": {"done": 300, "total": 1000},
        "learner": {"backbone": "pixels", "why": ""},
        "model": 12,
    }
    page = stubbed.open()
    page.wait_for_selector("aside >> text=Comparing what models can learn from: 30 % …")
    page.wait_for_selector("aside >> text=Labels spread to similar images, by their pixels")
    stubbed.progress |= {"training": "training", "steps": {"done": 900, "total": 1000}}
    page.wait_for_selector("aside >> text=Learning from images without a label: 90 % …")
    stubbed.progress |= {"steps": None}
    page.wait_for_selector("aside >> text=Training a model …")
    stubbed.progress |= {"learner": {"backbone": "none+unlabelled", "why": why}}
    page.wait_for_selector(f"aside >> text={why.capitalize()}.")


def test_the_page_says_what_the_models_learn_from_and_which_labels_they_know(stub: Any) -> None:
    stubbed = stub("cat", "dog")
    stubbed.progress = {"training": "waiting"}
    page = stubbed.open()
    page.wait_for_selector("aside >> text=The first model is trained once two classes have labels.")
    why = "lite2: 97 % of 40 labels right in leave-one-out, pixels 71 %"
    stubbed.progress |= {
        "annotations": 40,
        "newer": 2,
        "model": 12,
        "learner": {"backbone": "lite2", "why": why},
        "features": {"backbone": "lite2", "done": 1240, "total": 10000},
    }
    page.wait_for_selector("aside >> text=Model 12, trained with 38 labels; 2 are newer.")
    page.wait_for_selector("aside >> text=Computing features (lite2): 1,240 of 10,000 images")
    page.wait_for_selector("summary >> text=Features: lite2, a pretrained network")
    assert not page.is_visible(f"text={why}")
    page.click("summary")
    page.wait_for_selector(f"details >> text={why}")
    page.wait_for_selector("details >> text=trained on other photographs before")

    stubbed.progress |= {"newer": 1, "features": None}  # the panel is drawn anew
    page.wait_for_selector("aside >> text=Model 12, trained with 39 labels; 1 is newer.")
    assert page.is_visible(f"text={why}"), "what somebody has opened stays open"
    assert page.locator("text=Computing features").count() == 0

    stubbed.progress |= {"newer": 0, "learner": {"backbone": "none", "why": "Training says so"}}
    page.wait_for_selector("aside >> text=Model 12, trained with 40 labels.")
    page.wait_for_selector("summary >> text=Network trained from scratch")
    assert page.locator("text=trained on other photographs before").count() == 0
    stubbed.progress |= {"learner": {"backbone": "none", "why": ""}, "model": 0}
    page.wait_for_selector("aside >> text=The first model is trained after 10 more labels.")


@pytest.mark.parametrize(
    ("kind", "reason", "words"),
    [
        ("coverage", {}, "typical image of a group of similar images that has no label yet."),
        ("random", {}, "Selected at random, because no model has ranked this image."),
        (
            "strategy",
            {"strategy": "dfal-no-twins", "score": 0.123, "backbone": "lite2"},
            "runner-up dog. Distance to the decision boundary 0.12 (L2, in the features of lite2).",
        ),
        (
            "strategy",
            {"strategy": "dfal", "score": 0.123, "backbone": "none"},
            "runner-up dog. Distance to the decision boundary 0.12 (L2, pixels 0 to 1).",
        ),
        (
            "strategy",
            {"strategy": "typi-clust", "score": 0.0113, "backbone": "lite2"},
            "typical image of a group of similar images that has no label yet.",
        ),
        (
            "strategy",
            {"strategy": "few-labels", "score": 12.5, "backbone": "lite2"},
            "it stands for many images like it of which the model is not certain.",
        ),
        (
            "strategy",
            {"strategy": "margin", "score": 0.25, "about": "smallest gap", "backbone": "lite2"},
            "runner-up dog. Selected by margin: smallest gap (score 0.250).",
        ),
        (
            "strategy",
            {"strategy": "mine:Own", "score": 0.25, "backbone": "none"},
            "runner-up dog. Selected by mine:Own (score 0.250).",
        ),
    ],
)
def test_why_this_image_in_words_that_fit_the_strategy_and_the_features(
    stub: Any, kind: str, reason: dict[str, Any], words: str
) -> None:
    stubbed = stub("cat", "dog", images=1)
    if reason:
        reason = {"predicted": 0, "runner_up": 1, **reason}
    stubbed.replies["/api/questions/0"] = 200, NO_REASON | reason
    stubbed.replies["/api/ask"] = 200, stubbed.asked(0)
    stubbed.replies["/api/ask"][1]["questions"][0]["kind"] = kind
    page = stubbed.open()
    page.wait_for_selector(".stage img")
    page.keyboard.press("w")
    page.wait_for_selector("#why p")
    assert page.text_content("#why p").endswith(words)
    assert page.locator("#why img").count() == 0


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("side", "kind", "rendering", "width"),
    [
        (32, "digit", "pixelated", 400),
        (32, "photograph", "auto", 256),
        (32, "catalogue", "auto", 256),
        (96, "photograph", "auto", 400),
        (320, "photograph", "auto", 400),
        (200, "digit", "auto", 400),
    ],
)
def test_small_drawings_have_sharp_pixels_and_small_photographs_are_enlarged_smoothly(
    stub: Any, side: int, kind: str, rendering: str, width: int
) -> None:
    stubbed = stub("cat", "dog")
    rng = np.random.default_rng(0)
    pixels = np.full((side, side, 3), 255)
    middle = slice(side // 4, -(side // 4))
    if kind == "photograph":
        pixels = rng.integers(0, 256, (side, side, 3))
    elif kind == "catalogue":  # on white, which is half of it
        pixels[middle, 2:-2] = rng.integers(0, 256, (side // 2, side - 4, 3))
    else:
        pixels[middle, middle] = 40
    stubbed.pictures[0] = png(pixels)
    page = stubbed.open()
    page.wait_for_selector(".stage img.here")
    shown = page.evaluate(
        """() => {
            const image = document.querySelector(".stage img");
            return [getComputedStyle(image).imageRendering, image.clientWidth];
        }"""
    )
    assert shown[0] == rendering
    assert shown[1] == pytest.approx(width, abs=90 if width == 400 else 1)


def test_the_final_model_is_trained_cancelled_and_reported(stub: Any) -> None:
    stubbed = stub("cat", "dog")
    page = stubbed.open()
    page.wait_for_selector("aside >> text=Download the labels as CSV")
    assert page.locator("text=Final model").count() == 0, "there is no model yet"
    stubbed.progress = {"model": 3, "annotations": 40}
    page.wait_for_selector("button >> text=Train the final model")
    running = {"state": "running", "activity": "computing features", "done": 64, "total": 1160}
    stubbed.replies["/api/final"] = 200, NO_FINAL | running
    stubbed.replies["/api/final/cancel"] = 200, NO_FINAL

    stubbed.progress["final"] = NO_FINAL | running
    page.click("text=Train the final model")
    page.wait_for_selector("aside >> text=Computing features, 64 of 1,160 …")
    assert page.get_attribute("aside section > progress", "value") == "64"
    page.wait_for_selector(".stage img[alt^='Image 0,']")
    page.keyboard.press("1")
    page.wait_for_selector(".stage img[alt^='Image 1,']")  # labelling goes on
    stubbed.progress["final"] = NO_FINAL
    page.click("text=Cancel")
    page.wait_for_selector("button >> text=Train the final model")
    assert [path for path, _ in stubbed.sent if "final" in path] == [
        "/api/final",
        "/api/final/cancel",
    ]

    accuracy = {"right": 110, "of": 112, "value": 110 / 112, "low": 0.937, "high": 0.995}
    done = {
        "state": "done",
        "labels": 448,
        "file": "photos.final.safetensors",
        "network": "lite2, fine-tuned",
        "accuracy": accuracy,
        "notes": ["mirrored images are recognised as well as the others"],
    }
    stubbed.progress["final"] = NO_FINAL | done
    page.wait_for_selector(
        "aside >> text=98.2 % accuracy: 110 of 112 hold-out images right (95 % CI 93.7 % to"
        " 99.5 %)."
    )
    page.wait_for_selector("aside >> text=Saved as photos.final.safetensors, next to the store.")
    page.wait_for_selector("aside >> text=lite2, fine-tuned, trained on 448 labels.")
    page.wait_for_selector("aside >> text=Mirrored images are recognised as well as the others.")
    stubbed.progress["target"] = 0.9
    page.wait_for_selector("aside >> text=(95 % CI 93.7 % to 99.5 %, above the target of 90 %)")
    stubbed.progress["final"] = NO_FINAL | done | {"accuracy": None}
    page.wait_for_selector("text=% accuracy", state="detached")
    page.wait_for_selector("aside >> text=Saved as photos.final.safetensors")
    stubbed.progress["final"] = NO_FINAL | {"state": "failed", "error": "labels of one class only"}
    page.wait_for_selector("aside >> text=Labels of one class only.")
    stubbed.replies["/api/final"] = 409, {"detail": "the final model is being trained already"}
    page.click("text=Train it again")
    page.wait_for_selector("#toast >> text=the final model is being trained already")
