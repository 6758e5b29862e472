"""The page in a real browser: labelled by keyboard, undone, skipped, corrected, while a network
learns beside it."""

import contextlib
import math
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dfal.data.datasets import Dataset
from dfal.labelling.photos import Photos
from dfal.labelling.store.session import Session
from dfal.query import DECLINED
from labelled import DIGITS, Served, a_session, index_in, some_pngs
from stubbed import NO_REASON

pytest.importorskip("fastapi", reason="the page is an extra: pip install 'dfal[label]'")


class Person:
    """Somebody who labels by keyboard and knows every answer."""

    def __init__(self, browser: Any, url: str, truth: dict[str, int]):
        self.page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
        self.url, self.truth = url, truth
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        self.page.on(
            "console",
            lambda message: self.errors.extend([message.text] if message.type == "error" else []),
        )
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "request",
            lambda request: self.hosts.add(re.sub(r"^(\w+://[^/]*).*", r"\1", request.url)),
        )
        self.page.goto(url)
        self.page.wait_for_selector(".stage img")

    def sees(self) -> tuple[int, str]:
        """The image on the page, and its file."""
        return index_in(self.page.get_attribute(".stage img", "alt"))

    def press(self, key: str) -> None:
        """A key that brings another image."""
        before = self.page.get_attribute(".stage img", "alt")
        self.page.keyboard.press(key)
        self.page.wait_for_function(
            "before => document.querySelector('.stage img')?.alt !== before", arg=before
        )

    def answer(self, wrong: bool = False) -> tuple[int, int]:
        """Label the image on the page; its index and the label."""
        image, path = self.sees()
        label = (self.truth[path] + wrong) % 10
        self.press(str(label))
        return image, label


def percent(fraction: float) -> int:
    """A fraction as JavaScript rounds its percentage: halves go up."""
    return math.floor(100 * fraction + 0.5)


def has_no_serious_fault(page: Any) -> None:
    """What axe-core finds; the animation of a new image must be over."""
    from axe_playwright_python.sync_playwright import Axe

    page.wait_for_function(
        "() => document.getAnimations().every((one) => one.playState !== 'running')"
    )
    found = Axe().run(page).response["violations"]
    serious = [
        (one["id"], one["nodes"][0]["html"])
        for one in found
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == []


@pytest.mark.parametrize(
    ("images", "labels"), [(80, 24), pytest.param(2000, 60, marks=pytest.mark.slow)]
)
def test_a_folder_is_labelled_by_keyboard(
    browser: Any, tmp_path: Path, digits: Dataset, images: int, labels: int
) -> None:
    truth = some_pngs(tmp_path / "photos", digits, images)
    options = ("--backbone", "none", "--labels-only", "--epochs", "20", "--batch", "6")
    served = Served(tmp_path / "photos", "--classes", *DIGITS, *options)
    try:
        person = Person(browser, served.url, truth)
        page = person.page
        given = dict(person.answer() for _ in range(labels))
        assert len(given) == labels, "an image was asked twice"

        # Undo brings the last image back; it can be answered otherwise.
        last = list(given)[-1]
        person.press("z")
        assert person.sees()[0] == last
        given[last] = person.answer()[1]

        declined = person.sees()[0]
        person.press("s")
        mistaken, wrong = person.answer(wrong=True)

        # A network has learnt: it is on the curve, and chooses.
        served.wait_for_model(1)
        page.wait_for_function("() => document.querySelectorAll('.chart .dot').length === 1")
        point = served.http.get("/api/progress").json()["curve"][0]
        assert page.get_attribute(".chart", "aria-label").startswith(
            f"Accuracy from {percent(point['value'])} % with"
        )
        for _ in range(12):
            with page.expect_response(re.compile(r"/api/questions/[0-9]+\?")) as why:
                page.keyboard.press("w")
            if why.value.json().get("twin"):
                page.wait_for_function("() => document.querySelectorAll('.trio img').length === 3")
                break
            page.keyboard.press("w")
            given.update([person.answer()])
        assert re.search(
            r"Prediction: \d, runner-up \d\. Distance to the decision boundary [\d.e+-]+ "
            r"\(L2, pixels 0 to 1\)\.",
            page.text_content("#why"),
        )
        page.wait_for_function(
            "() => [...document.querySelectorAll('.trio img')].every((one) => one.complete &&"
            " one.naturalWidth === 28)"
        )
        has_no_serious_fault(page)
        page.screenshot(path=tmp_path / "light.png")
        page.emulate_media(color_scheme="dark")
        has_no_serious_fault(page)
        page.screenshot(path=tmp_path / "dark.png")
        page.emulate_media(color_scheme="light")

        # The mistake is found in the review and corrected.
        page.click("nav >> text=Review")
        page.fill("input[name=text]", f"{mistaken:05}")
        page.wait_for_function("() => document.querySelectorAll('.card').length === 1")
        assert page.input_value(".card select") == str(wrong)
        page.select_option(".card select", str((wrong - 1) % 10))
        page.wait_for_selector(".card >> text=corrected")
        given[mistaken] = (wrong - 1) % 10
        has_no_serious_fault(page)

        # The whole query as a grid: arrows and keys.
        page.click("nav >> text=Grid")
        page.wait_for_selector(".tile img")
        page.keyboard.press("ArrowRight")
        for _ in range(2):
            image, path = index_in(
                page.get_attribute(".tile[aria-current]", "aria-label").replace(":", "")
            )
            page.keyboard.press(str(truth[path]))
            page.wait_for_function(
                "image => document.querySelector('.tile[aria-current]')?.ariaLabel.includes(`Image"
                " ${image},`) === false",
                arg=image,
            )
            given[image] = truth[path]
        has_no_serious_fault(page)

        # A phone: nothing is wider than it, the classes can be tapped.
        page.set_viewport_size({"width": 390, "height": 844})
        page.click("nav >> text=Label")
        page.wait_for_selector(".stage img")
        image, path = person.sees()
        page.click(f".classes button:has-text('{truth[path]}')")
        page.wait_for_function(
            "image => !document.querySelector('.stage img')?.alt.includes(`Image ${image},`)",
            arg=image,
        )
        given[image] = truth[path]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate(
            "document.querySelector('.acts').getBoundingClientRect().bottom <= innerHeight"
        )
        has_no_serious_fault(page)
        page.screenshot(path=tmp_path / "phone.png", full_page=True)

        assert person.errors == []
        assert person.hosts == {served.url}
        with Session.open(tmp_path / "photos.labels.db") as session:
            found = session.state.labels
            assert {image: int(found[image]) for image in given} == given
            assert found[declined] == DECLINED
            assert int((found >= 0).sum()) == len(given)
    finally:
        out = served.stop()
    assert "Traceback" not in out


def test_a_page_without_classes_asks_for_them_and_says_when_the_server_is_gone(
    browser: Any, tmp_path: Path, digits: Dataset
) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 12)
    served = Served(tmp_path / "photos")
    try:
        person = Person(browser, served.url, truth)
        page = person.page
        for name in ("even", "odd"):
            page.wait_for_selector("dialog input")
            page.fill("dialog input", name)
            page.keyboard.press("Enter")
            page.wait_for_selector(f".classes >> text={name}")
        page.wait_for_selector("dialog", state="detached")
        page.keyboard.press("n")
        page.fill("dialog input", "Odd")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog >> text=alike but for case")
        has_no_serious_fault(page)
        page.keyboard.press("Escape")
        image, _ = person.sees()
        person.press("2")
        page.keyboard.press("f")
        page.fill("dialog textarea", "<b>odd</b>")
        page.click("dialog button[type=submit]")
        page.wait_for_selector('.tag.flagged:has-text("<b>odd</b>")')
        page.keyboard.press("n")
        page.get_by_role("button", name="Rename odd").click()
        page.fill("dialog input", "uneven")
        page.keyboard.press("Enter")
        page.wait_for_selector(".classes >> text=uneven")

        # A page that is left gives back what it was asked.
        other = Person(browser, served.url, truth)
        with Session.open(tmp_path / "photos.labels.db") as session:
            assert len(session.state.open) == 10
            other.page.goto("about:blank")
            for _ in range(100):
                page.wait_for_timeout(100)
                session.refresh()
                if len(session.state.open) == 5:
                    break
        other.page.close()
        rest = served.http.post(
            "/api/ask", json={"person": "Eve", "holder": "h", "count": 12}
        ).json()["questions"]
        assert len(rest) == 12 - 1 - 5, "all but the labelled image and those of the first page"
    finally:
        served.stop(kill=True)
    page.keyboard.press("1")
    page.wait_for_selector("#trouble >> text=Not saved yet")
    with Session.open(tmp_path / "photos.labels.db") as session:
        assert {
            index: int(label) for index, label in enumerate(session.state.labels) if label >= 0
        } == {image: 1}
        assert list(session.state.flags.values()) == ["<b>odd</b>"]


def test_every_class_keeps_its_key(stub: Any) -> None:
    cases = {
        "12": [["cat", "dog"]],
        "0123456789": [[*DIGITS]],
        "0123456789q": [[*DIGITS], [*DIGITS, "none"]],
        "q0123456789": [["none", *DIGITS]],
        "01q2": [["0", "1"], ["0", "1", "none"], ["0", "1", "none", "2"]],
        "12qr": [["cat", "dog"], ["cat", "dog", "1"], ["cat", "dog", "1", "bird"]],
        "123": [["cat", "dog", "hen"], ["cat", "wolf", "hen"]],
        "1234567890qrtyuiopadghjklxcvbm": [[f"class {number}" for number in range(40)]],
    }
    script = """async (steps) => {
        const { keysOf } = await import("/keys.js");
        let held = new Map();
        for (const classes of steps) held = keysOf(classes, held);
        return steps.at(-1).map((name) => held.get(name) ?? "").join("");
    }"""
    page = stub("cat").open()
    assert [page.evaluate(script, steps) for steps in cases.values()] == [*cases]


def test_the_reason_is_that_of_the_image_on_the_page_whatever_else_the_server_says(
    stub: Any,
) -> None:
    stubbed = stub("cat", "dog")
    reason = NO_REASON | {"predicted": 0, "runner_up": 1, "score": 0.25, "strategy": "dfal"}
    stubbed.replies["/api/questions/0"] = 200, reason
    page = stubbed.open()
    page.wait_for_selector(".stage img[alt^='Image 0,']")
    page.keyboard.press("w")
    page.wait_for_selector("#why >> text=0.25")
    # Another image comes: nothing is said of it before its own reason is there.
    stubbed.held["/api/questions/1"] = []
    stubbed.held["/api/ask"] = []
    page.keyboard.press("1")
    page.wait_for_selector(".stage img[alt^='Image 1,']")
    assert page.text_content("#why") == ""
    # The server names the same question again while its reason is on the way: it is shown all the
    # same.
    stubbed.release("/api/ask")
    del stubbed.held["/api/ask"]
    stubbed.wait_until(lambda: stubbed.held["/api/questions/1"])
    page.wait_for_timeout(100)
    stubbed.release("/api/questions/1", reason | {"score": 0.5})
    page.wait_for_selector("#why >> text=0.50")


def test_an_answer_is_never_another_one_and_never_dropped(stub: Any) -> None:
    stubbed = stub(*DIGITS)
    page = stubbed.open()

    def sees(image: int) -> None:
        page.wait_for_selector(f".stage img[alt^='Image {image},']")

    sees(0)
    stubbed.classes.append("none")  # by somebody else
    page.wait_for_selector(".classes >> text=none")
    page.keyboard.press("5")
    sees(1)
    assert stubbed.answered == {0: 5}
    page.keyboard.press("q")
    sees(2)
    assert stubbed.answered == {0: 5, 1: 10}

    # Not saved yet, whatever else the page hears meanwhile.
    for status, sentence in ((401, "this page needs its link"), (500, "Something broke.")):
        stubbed.replies["/api/tell"] = status, {"detail": sentence}
        page.keyboard.press("3")
        page.wait_for_selector(
            f"#trouble >> text=Not saved yet. {sentence[0].upper()}{sentence[1:].rstrip('.')}."
            " Trying again"
        )
        page.wait_for_timeout(2000)
        assert "Not saved yet" in page.text_content("#trouble")
        sees(2)
    page.click("nav >> text=Grid")
    page.wait_for_selector(".tile")
    del stubbed.replies["/api/tell"]
    page.wait_for_selector("#trouble", state="hidden")
    assert stubbed.answered == {0: 5, 1: 10, 2: 3}
    assert page.locator(".tile").count() == 3, "the answer brings the other view back"
    page.click("nav >> text=Label")
    sees(3)
    stubbed.replies["/api/tell"] = 409, {"detail": "image 3 was answered meanwhile"}
    stubbed.answered[3] = 1
    page.keyboard.press("3")
    sees(4)
    page.wait_for_selector("#toast >> text=answered meanwhile")


def test_what_is_on_the_screen_stays_until_it_is_answered(stub: Any) -> None:
    stubbed = stub(*DIGITS, images=40)
    page = stubbed.open()
    page.wait_for_selector(".stage img[alt^='Image 0,']")
    page.evaluate("""() => {
        window.seen = [];
        const look = () => {
            const alt = document.querySelector(".stage img")?.alt;
            if (alt && alt !== seen.at(-1)) seen.push(alt);
        };
        new MutationObserver(look).observe(
            document.querySelector(".stage"), { childList: true, subtree: true });
    }""")

    def asked(*images: int) -> dict[str, Any]:
        reply: dict[str, Any] = stubbed.asked(*images, last_answer_id=1, model=1, left=30)
        return reply

    # A new network ranks anew while somebody goes on: what was given back for it is not shown
    # meanwhile.
    stubbed.held = {"/api/ask": [], "/api/progress": []}
    stubbed.replies["/api/tell"] = 200, stubbed.status(last_answer_id=1, model=1)
    page.keyboard.press("5")
    page.wait_for_selector(".stage img[alt^='Image 1,']")
    page.wait_for_timeout(100)
    page.keyboard.press("6")
    page.wait_for_timeout(300)
    assert stubbed.release("/api/ask", asked(1, 20, 21))["keep"] == [1]
    page.wait_for_selector(".stage img[alt^='Image 20,']")
    assert stubbed.release("/api/ask", asked(20, 21, 22))["keep"] == [
        20,
        21,
    ], "what came with the first reply is kept"

    # Its time was over, and the server has put it to somebody else, or to this page again.
    page.keyboard.press("7")
    page.wait_for_selector(".stage img[alt^='Image 21,']")
    stubbed.release("/api/ask", asked(30, 31))
    stubbed.wait_until(lambda: 30 in stubbed.shown)
    again = asked(32, 21)
    again["questions"][1]["id"] = 99
    page.wait_for_timeout(200)
    page.keyboard.press("s")
    page.wait_for_selector(".stage img[alt^='Image 30,']")
    stubbed.release("/api/ask", again)
    stubbed.wait_until(lambda: 32 in stubbed.shown)

    seen = [int(re.sub(r"\D", "", alt)) for alt in page.evaluate("seen")]
    assert seen == [1, 20, 21, 30], "nothing but a key brings another image"
    assert [(one["question"], one["label"]) for one in stubbed.told("/api/tell")] == [
        (0, 5),
        (1, 6),
        (20, 7),
    ]
    assert [one["question"] for one in stubbed.told("/api/decline")] == [21]
    page.keyboard.press("8")
    page.wait_for_selector(".stage img[alt^='Image 32,']")
    page.keyboard.press("9")
    page.wait_for_timeout(300)
    assert page.evaluate("seen.at(-1)").startswith("Image 32,"), (
        "an image that is answered comes in no late reply"
    )


def test_the_page_says_why_nothing_is_asked_and_gives_its_questions_back(stub: Any) -> None:
    stubbed = stub("cat", "dog", images=3)
    page = stubbed.open()
    for image in range(3):
        page.wait_for_selector(f".stage img[alt^='Image {image},']")
        page.keyboard.press("s")
    page.wait_for_selector("h1 >> text=Every image was skipped")
    has_no_serious_fault(page)
    page.click("nav >> text=Grid")
    page.wait_for_selector("h1 >> text=Every image was skipped")
    stubbed.answered = dict.fromkeys(range(3), 0)
    page.wait_for_selector("h1 >> text=Every image has a label")
    stubbed.progress["declined"] = 1
    page.wait_for_selector("p >> text=1 skipped, every other image has a label")
    stubbed.progress["disputed"] = 2
    page.wait_for_selector("p >> text=2 disputed: their votes are tied. Settle them in the review")
    page.wait_for_selector("dt >> text=disputed, no majority")
    stubbed.replies["/api/ask"] = 200, stubbed.asked(left=2)
    stubbed.progress["left"] = 2
    page.wait_for_selector("p >> text=or let another person label under their own name")
    stubbed.progress["disputed"] = 0
    page.wait_for_selector("p >> text=Other people are labelling the last 2 images")
    page.evaluate(
        "dispatchEvent(new Event('pagehide'))"
    )  # what is sent while a page closes, no test sees
    stubbed.wait_until(lambda: stubbed.told("/api/leave"))
    (left,) = stubbed.told("/api/leave")
    assert left["person"] == "Ada" and len(left["client_id"]) == 32


def test_images_are_enlarged_on_white_and_classes_renamed(stub: Any) -> None:
    stubbed = stub("cat", "dog", color_scheme="dark")
    stubbed.pictures = {0: (4000, 300), 1: (300, 300)}
    page = stubbed.open()
    page.click(".stage img.here")
    page.wait_for_selector("dialog .sheet.natural img.here")
    assert page.evaluate("document.querySelector('.sheet img').clientHeight") == 300
    assert page.evaluate("document.querySelector('.sheet').scrollWidth") == 4000
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('.sheet').scrollLeft > 0")
    has_no_serious_fault(page)
    page.click("dialog >> text=Natural size")
    assert page.evaluate("document.querySelector('.sheet').scrollWidth < 1280")
    ground = "(of) => getComputedStyle(document.querySelector(of)).backgroundColor"
    assert (
        page.evaluate(ground, ".sheet img")
        == page.evaluate(ground, ".stage img")
        == "rgb(255, 255, 255)"
    )
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    page.wait_for_selector(".stage img[alt^='Image 1,']")
    page.keyboard.press("e")
    page.wait_for_selector("dialog img.here")
    page.keyboard.press("e")
    page.wait_for_selector("dialog", state="detached")

    page.keyboard.press("n")
    has_no_serious_fault(page)
    page.get_by_role("button", name="Rename dog").press("Enter")
    page.wait_for_function(
        "() => document.querySelector('dialog input')?.value === 'dog'"
    )  # the other dialog is gone
    page.fill("dialog input", "wolf")
    page.keyboard.press("Enter")
    page.wait_for_selector(".classes >> text=wolf")
    assert stubbed.told("/api/rename") == [{"class": 1, "name": "wolf", "person": "Ada"}]
    page.keyboard.press("2")
    page.wait_for_selector(".stage img[alt^='Image 2,']")
    assert stubbed.answered == {0: 0, 1: 1}


def test_the_grid_fits_and_stays_where_somebody_is(stub: Any) -> None:
    stubbed = stub("cat", "dog", images=4, viewport={"width": 1920, "height": 1080})
    stubbed.pictures = {1: None, 3: b"no picture"}
    page = stubbed.open("grid")
    page.wait_for_selector(".tile >> text=cannot be shown")
    assert page.evaluate("document.querySelector('.tile img').clientWidth") > 350
    chosen = "document.querySelector('.tile[aria-current]').ariaLabel"
    stubbed.images, stubbed.pictures = 44, {5: None}
    stubbed.progress["batch"] = 40
    page.set_viewport_size({"width": 1280, "height": 800})
    page.wait_for_function("async () => (await import('/api.js')).state.progress.batch === 40")
    page.click("text=Other images")
    page.wait_for_selector(".tile >> text=cannot be read")
    assert page.evaluate(chosen).startswith("Image 0,")
    assert page.evaluate("document.elementFromPoint(100, 795).closest('.tile')") is None
    page.keyboard.press("f")
    page.fill("dialog textarea", "odd")
    page.click("dialog button[type=submit]")
    page.wait_for_selector(".tile[aria-current] .flagged")
    page.keyboard.press("w")
    page.wait_for_selector("dialog >> text=Selected at random")
    has_no_serious_fault(page)
    page.keyboard.press("Escape")
    has_no_serious_fault(page)
    for action in ("press", "click"):
        (
            page.press(".tile[aria-current]", "Enter")
            if action == "press"
            else page.click(".tile[aria-current]")
        )
        page.wait_for_selector("dialog.large")
        page.keyboard.press("Escape")
    page.click(".tile:nth-of-type(3)")
    assert page.evaluate(chosen).startswith("Image 3,")  # image 1 is set aside


def test_a_correction_by_key_wherever_in_the_card_somebody_is(stub: Any) -> None:
    stubbed = stub("cat", "dog")
    stubbed.answered = {0: 0}
    page = stubbed.open("review")
    page.focus(".card select")
    page.keyboard.press("d")  # looks for a name in the list, as ever
    page.wait_for_selector(".card >> text=corrected")
    assert page.evaluate("document.activeElement.className") == "picture frame"
    page.keyboard.press("1")
    page.wait_for_function("() => document.querySelector('.card select').value === '0'")
    page.click(".card .path")
    page.keyboard.press("2")
    page.wait_for_function("() => document.querySelector('.card select').value === '1'")
    page.focus(".card select")
    page.keyboard.press("1")
    page.wait_for_function("() => document.querySelector('.card select').value === '0'")
    assert [one["label"] for one in stubbed.told("/api/correct")] == [1, 0, 1, 0]


def test_a_phone_and_a_small_window_show_what_matters(stub: Any) -> None:
    names = ["unknown", "umbrella stand", *(f"kind {number}" for number in range(8))]
    stubbed = stub(*names, viewport={"width": 390, "height": 844})
    point = {
        "model": 3,
        "annotations": 80,
        "right": 99,
        "of": 100,
        "value": 0.99,
        "low": 0.951,
        "high": 0.998,
    }
    stubbed.progress = {"curve": [point], "model": 3, "stop": True, "reached": True}
    page = stubbed.open()
    page.wait_for_selector(".summary >> text=95 % reached")
    assert page.locator(".hint").all_text_contents() == [
        (
            "The target of 95 % is reached. The latest model is right on 99 of 100 hold-out"
            " answers: 95 % CI 95 % to 100 %."
        ),
        (
            "It looks time to stop. The latest models agree on nearly every image: more labels"
            " change little."
        ),
    ]
    whole = (
        "(one) => one.scrollWidth <= one.clientWidth && one.scrollHeight <= one.clientHeight + 1"
    )
    for few in (names, names[:3]):
        stubbed.classes = few
        page.wait_for_function(
            f"() => document.querySelectorAll('.classes span').length === {len(few)}"
        )
        assert page.evaluate(f"[...document.querySelectorAll('.classes span')].every({whole})")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate(
            "document.querySelector('.acts').getBoundingClientRect().right <= innerWidth"
        )
    stubbed.classes = names
    has_no_serious_fault(page)
    stubbed.progress["curve"] = [point | {"right": 4, "of": 4, "value": 1, "low": 0.51, "high": 1}]
    stubbed.progress |= {"reached": False, "answers_to_confirm": 69}
    page.wait_for_selector(".summary >> text=69 to confirm 95 %")
    page.wait_for_selector("text=4 of 4 hold-out answers right")
    assert (
        page.locator(".hint").first.text_content()
        == "95 % is not confirmed yet. The latest model is right on 4 of 4 hold-out answers, but"
        " its accuracy may be as low as 51 %. If it stays as it is, 69 more hold-out answers"
        " confirm the target."
    )
    assert page.locator("text=0 left").count() == 0
    assert page.locator("text=reached").count() == 0
    stubbed.progress["answers_to_confirm"] = None
    page.wait_for_selector(".summary >> text=time to stop")
    stubbed.progress["labels_left"] = {"labels": None, "low": 900, "high": None}
    page.wait_for_selector("dt >> text=More labels than you have images: try another model")
    stubbed.progress["labels_left"] = {"labels": 3, "low": 2, "high": 4}
    page.wait_for_selector("dd >> text=≈ 3")
    page.wait_for_selector("dd >> text=Likely 2 to 4.")
    page.set_viewport_size({"width": 800, "height": 600})
    page.keyboard.press("w")
    page.wait_for_selector("#why >> text=Selected at random")
    bars = [page.locator(of).bounding_box() for of in (".classes", ".acts")]
    assert all(bar["y"] >= 0 and bar["y"] + bar["height"] <= 600 for bar in bars)


def test_without_a_name_and_without_classes(stub: Any) -> None:
    names = set()
    for _ in range(2):
        stubbed = stub(person=None)
        page = stubbed.open()
        page.wait_for_selector("dialog >> text=Who are you?")
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog >> text=Name your first class")
        names.add(page.text_content("#person"))
        page.keyboard.press("Escape")
        page.wait_for_selector(".classes >> text=There are no classes yet")
        has_no_serious_fault(page)
        page.click(".classes >> text=Add a class")
        page.wait_for_selector("dialog input")
    assert len(names) == 2


def test_a_picture_is_addressed_by_its_version_and_an_answer_names_its_image(stub: Any) -> None:
    stubbed = stub("cat", "dog", images=9)
    stubbed.versions = {image: f"old-{image}" for image in range(9)}
    page = stubbed.open()
    source = "document.querySelector('.stage img').getAttribute('src')"
    page.wait_for_selector(".stage img[alt^='Image 0,']")
    assert page.evaluate(source) == "api/images/0?version=old-0"
    page.keyboard.press("e")
    page.wait_for_selector("dialog img[src='api/images/0?version=old-0']")
    page.keyboard.press("Escape")
    stubbed.versions[1] = "new"  # its file is replaced while it waits for its turn
    page.keyboard.press("1")
    page.wait_for_selector(".stage img[src='api/images/1?version=new']")
    page.keyboard.press("s")
    page.wait_for_selector(".stage img[alt^='Image 2,']")
    page.click("nav >> text=Grid")
    page.wait_for_selector(".tile img[src='api/images/2?small=true&version=old-2']")
    page.keyboard.press("2")
    page.wait_for_selector(".tile.done")
    told = [*stubbed.told("/api/tell"), *stubbed.told("/api/decline")]
    assert [(one["question"], one["image"]) for one in told] == [(0, 0), (2, 2), (1, 1)]
    for path in ("/api/ask", "/api/tell", "/api/decline", "/api/progress"):
        assert stubbed.queries[path] == "store=s1", path
    assert page.get_attribute("text=Download the labels as CSV", "href") == "api/export?store=s1"
    reason = NO_REASON | {
        "predicted": 0,
        "runner_up": 1,
        "score": 0.5,
        "twin": True,
        "twin_predicted": 1,
        "strategy": "dfal",
        "version": "t",
    }
    stubbed.replies |= {f"/api/questions/{image}": (200, reason) for image in range(9)}
    page.keyboard.press("w")
    page.wait_for_selector(
        "dialog img[src^='api/questions/'][src$='/twin?version=t']", state="attached"
    )
    page.keyboard.press("Escape")


def test_a_page_over_another_store_keeps_what_is_not_saved_and_else_is_loaded_anew(
    stub: Any,
) -> None:
    stubbed = stub("cat", "dog")
    page = stubbed.open()
    page.wait_for_selector(".stage img[alt^='Image 0,']")
    stubbed.replies["/api/tell"] = 500, {"detail": "Something broke."}
    page.keyboard.press("1")
    page.wait_for_selector("#trouble >> text=Not saved yet. Something broke")
    stubbed.store = "s2"
    del stubbed.replies["/api/tell"]
    page.wait_for_selector(
        "#trouble >> text=Not saved yet. This page was opened over another store: reload it to"
        " label green."
    )
    asked = len(stubbed.told("/api/tell"))
    stubbed.wait_until(lambda: len(stubbed.told("/api/tell")) >= asked + 2)
    assert stubbed.answered == {}
    assert "Image 0," in page.get_attribute(".stage img", "alt"), "what is not saved stays"
    stubbed.store = "s1"  # the first store is there again
    page.wait_for_selector(".stage img[alt^='Image 1,']")
    assert stubbed.answered == {0: 0}
    # Nothing is unsaved: the page is loaded anew by itself, and belongs to the other store.
    page.evaluate("window.old = true")
    stubbed.store = "s2"
    page.wait_for_function("() => !window.old")
    page.wait_for_selector("#toast >> text=another store")
    stubbed.wait_until(lambda: stubbed.queries["/api/ask"] == "store=s2")


@contextlib.contextmanager
def served_at(port: int, folder: Path) -> Iterator[Photos]:
    """A page over a folder in a thread of this process: without training, and at once."""
    import uvicorn

    from dfal.labelling.web import page_server
    from dfal.labelling.web.api import application
    from dfal.labelling.web.security import Guard

    with a_session(folder) as (session, photos), page_server.bound("127.0.0.1", port) as listening:
        config = uvicorn.Config(
            Guard(application(session, photos)), lifespan="off", log_level="error", ws="none"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield photos
        finally:
            server.should_exit = True
            thread.join()


COLOUR = """() => {
    const image = document.querySelector(".stage img.here");
    if (!image) return "";
    const one = new OffscreenCanvas(1, 1).getContext("2d");
    one.drawImage(image, 0, 0, 1, 1);
    return String(one.getImageData(0, 0, 1, 1).data);
}"""


def test_another_folder_at_the_same_address_and_a_file_that_is_replaced_are_seen(
    browser: Any, tmp_path: Path
) -> None:
    for name, colour in (("red", (255, 0, 0)), ("green", (0, 160, 0))):
        (tmp_path / name / "photos").mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (300, 200), colour).save(tmp_path / name / "photos" / f"{number}.png")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = browser.new_page()
    sees = f"(colour) => ({COLOUR})() === colour"
    with served_at(port, tmp_path / "red" / "photos"):
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_function(sees, arg="255,0,0,255")
    with served_at(port, tmp_path / "green" / "photos") as photos:
        page.wait_for_function(
            sees, arg="0,160,0,255"
        )  # the page that was open is loaded anew by itself
        for file in (tmp_path / "green" / "photos").iterdir():
            Image.new("RGB", (300, 200), (0, 0, 255)).save(file)
        page.reload()
        page.wait_for_function(sees, arg="0,0,255,255")
        image, _ = index_in(page.get_attribute(".stage img", "alt"))
        assert (
            page.get_attribute(".stage img", "src")
            == f"api/images/{image}?version={photos.version(image)}"
        )
        page.close()
