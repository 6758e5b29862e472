"""The page in a real browser: labelled by keyboard, undone, skipped, corrected, while a network learns beside it."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dfal.datasets import Dataset
from dfal.labelling.session import Session
from dfal.types import DECLINED
from labelled import DIGITS, Served, index_in, some_pngs

pytest.importorskip("fastapi", reason="the page is an extra: pip install 'dfal[label]'")
pytest.importorskip("playwright", reason="the browser is driven by playwright")
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed: apt install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Person:
    """Somebody who labels by keyboard and knows every answer."""

    def __init__(self, browser: Any, url: str, truth: dict[str, int]):
        self.page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
        self.url, self.truth = url, truth
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("console", lambda message: self.errors.extend([message.text] if message.type == "error" else []))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(re.sub(r"^(\w+://[^/]*).*", r"\1", request.url)))
        self.page.goto(url)
        self.page.wait_for_selector(".stage img")

    def sees(self) -> tuple[int, str]:
        """The image on the page, and its file."""
        return index_in(self.page.get_attribute(".stage img", "alt"))

    def press(self, key: str) -> None:
        """A key that brings another image."""
        before = self.page.get_attribute(".stage img", "alt")
        self.page.keyboard.press(key)
        self.page.wait_for_function("before => document.querySelector('.stage img')?.alt !== before", arg=before)

    def answer(self, wrong: bool = False) -> tuple[int, int]:
        """Label the image on the page; its index and the label."""
        image, path = self.sees()
        label = (self.truth[path] + wrong) % 10
        self.press(str(label))
        return image, label

    def has_no_serious_fault(self) -> None:
        """What axe-core finds; the animation of a new image must be over."""
        from axe_playwright_python.sync_playwright import Axe

        self.page.wait_for_timeout(250)
        found = Axe().run(self.page).response["violations"]
        serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in {"serious", "critical"}]
        assert serious == []


@pytest.mark.parametrize(("images", "labels"), [(80, 24), pytest.param(2000, 60, marks=pytest.mark.slow)])
def test_a_folder_is_labelled_by_keyboard(browser: Any, tmp_path: Path, digits: Dataset, images: int, labels: int) -> None:
    truth = some_pngs(tmp_path / "photos", digits, images)
    served = Served(tmp_path / "photos", "--classes", *DIGITS, "--epochs", "20", "--batch", "6")
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
        assert page.get_attribute(".chart", "aria-label").startswith("Accuracy from")
        assert float(page.text_content(".sum .big:nth-of-type(2)").split()[0]) > 0
        for _ in range(12):
            page.keyboard.press("w")
            page.wait_for_timeout(150)
            if page.locator(".trio img").count() == 3:
                break
            page.keyboard.press("w")
            given.update([person.answer()])
        assert re.search(r"The network sees \d here, but \d is near: the boundary is 0\.\d+ away", page.text_content("#why"))
        assert page.evaluate(
            "[...document.querySelectorAll('.trio img')].every((one) => one.complete && one.naturalWidth === 28)"
        )
        person.has_no_serious_fault()
        page.screenshot(path=tmp_path / "light.png")
        page.emulate_media(color_scheme="dark")
        person.has_no_serious_fault()
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
        person.has_no_serious_fault()

        # The whole query as a grid: arrows and keys.
        page.click("nav >> text=Grid")
        page.wait_for_selector(".tile img")
        page.keyboard.press("ArrowRight")
        for _ in range(2):
            image, path = index_in(page.get_attribute(".tile[aria-current]", "aria-label").replace(":", ""))
            page.keyboard.press(str(truth[path]))
            page.wait_for_function(
                "image => document.querySelector('.tile[aria-current]')?.ariaLabel.includes(`Image ${image},`) === false",
                arg=image,
            )
            given[image] = truth[path]
        person.has_no_serious_fault()

        # A phone: nothing is wider than it, the classes can be tapped.
        page.set_viewport_size({"width": 390, "height": 844})
        page.click("nav >> text=Label")
        page.wait_for_selector(".stage img")
        image, path = person.sees()
        page.click(f".classes button:has-text('{truth[path]}')")
        page.wait_for_function("image => !document.querySelector('.stage img')?.alt.includes(`Image ${image},`)", arg=image)
        given[image] = truth[path]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("document.querySelector('.acts').getBoundingClientRect().bottom <= innerHeight")
        person.has_no_serious_fault()
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
        person.has_no_serious_fault()
        page.keyboard.press("Escape")
        image, _ = person.sees()
        person.press("2")
        page.keyboard.press("f")
        page.fill("dialog textarea", "<b>odd</b>")
        page.click("dialog button[type=submit]")
        page.wait_for_selector('.tag.flagged:has-text("<b>odd</b>")')
    finally:
        served.stop(kill=True)
    page.keyboard.press("1")
    page.wait_for_selector("#trouble >> text=Not saved yet")
    with Session.open(tmp_path / "photos.labels.db") as session:
        assert {index: int(label) for index, label in enumerate(session.state.labels) if label >= 0} == {image: 1}
        assert list(session.state.flags.values()) == ["<b>odd</b>"]
