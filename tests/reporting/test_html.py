"""The page: everything in it, nothing outside it, and numbers that are the store's."""

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import dfal
from dfal.analysis.studies import studies
from dfal.data.datasets import Dataset
from dfal.experiments import runner
from dfal.experiments.store import Record, Store
from dfal.experiments.trial import Trial
from dfal.reporting import html
from dfal.reproduce import read_results
from dfal.stats.significance import half_width
from dfal.strategies import named

TRIALS = [
    Trial(annotations=40, strategy=strategy, seed=seed, training=dfal.Training(epochs=8))
    for strategy in (dfal.DFAL(candidates=30), dfal.Random())
    for seed in range(2)
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two strategies, two seeds, run to their end."""
    path = tmp_path_factory.mktemp("report") / "s.db"
    with Store(path, write=True) as opened:
        list(runner.run(TRIALS, opened, 1))
    return path


@pytest.fixture(scope="module")
def page(store: Path) -> str:
    """The page as text."""
    with Store(store) as opened:
        return html.write(opened, read_results(opened), store.parent / "report.html").read_text(
            encoding="utf-8"
        )


class Tags(HTMLParser):
    """Counts what opens and closes, and collects every address."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.pictures: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img", "br", "path", "use", "rect", "link", "input"}:
            self.open.append(tag)
        found = dict(attrs)
        self.addresses += [
            value or ""
            for name, value in attrs
            if name in {"src", "href", "srcset", "action", "data"}
        ]
        if tag == "img":
            self.pictures.append(found["src"] or "")
            assert found["alt"]

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag


def test_it_opens_offline_and_runs_no_script(page: str) -> None:
    tags = Tags(page)
    assert tags.open == []
    assert all(address.startswith("data:image/png;base64,") for address in tags.pictures)
    assert "<script" not in page
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)


def test_every_asked_image_is_there_in_order_with_its_label(
    page: str, digits: Dataset, store: Path
) -> None:
    with Store(store) as opened:
        records = opened.records(TRIALS[0].id)
    asked = torch.cat([record.query.indices for record in records]).tolist()
    section = page[page.index("Queried images") :]
    shown = [int(index) for index in re.findall(r'title="image (\d+), round', section)]
    assert shown[:30] == asked
    assert len(shown) == 60
    first = section[section.index(f'title="image {asked[0]}, ') :]
    address = re.search(r'src="data:image/png;base64,([^"]+)"', first)
    assert address is not None
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(address[1]))))
    np.testing.assert_array_equal(picture, digits.images.array[asked[0], 0])
    label = re.search(r">(?:\d→)?(\d)<", first)
    assert label is not None
    assert int(label[1]) == int(digits.labels[asked[0]])


def test_twins_are_shown_with_what_the_network_saw(page: str) -> None:
    section = page[page.index("Adversarial twins") :]
    trios = re.findall(
        r"prediction <b>(\d)</b>.*?magnified ([\d,]+)×.*?prediction <b>(\d)</b>",
        section,
        re.DOTALL,
    )
    assert len(trios) == 3
    assert all(seen != twin_seen for seen, _, twin_seen in trios)


def test_the_table_is_the_studys(page: str, store: Path) -> None:
    with Store(store) as opened:
        (study,) = studies(opened)
    for curve in study.curves:
        for mean, spread in zip(curve.mean, curve.spread, strict=True):
            assert f"{100 * mean:.1f} <small>± {100 * spread:.1f}</small>" in page
        assert (
            f"<td>{100 * curve.aulc.mean():.2f} <small>±"
            f" {100 * half_width(curve.aulc):.2f}</small></td>" in page
        )
    gain = study.curves[0].aulc - study.curves[1].aulc
    assert f"{abs(100 * gain.mean()):.2f} points {'above' if gain.mean() >= 0 else 'below'}" in page
    assert "<td>70</td>" in page, "labelled data at the end, twins too"


def test_it_is_written_whole_or_not_at_all(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "report.html"
    target.write_text("older")
    monkeypatch.setattr(
        Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with Store(store) as opened, pytest.raises(dfal.DfalError, match="No space left"):
        html.write(opened, read_results(opened), target)
    assert target.read_text() == "older"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_without_the_data_the_numbers_are_still_shown(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(name: str) -> Dataset:
        raise dfal.DfalError(f"{name} is gone")

    monkeypatch.setattr("dfal.data.datasets.load", gone)
    with Store(store) as opened:
        text = html.write(opened, read_results(opened), tmp_path / "r.html").read_text(
            encoding="utf-8"
        )
    assert "The pictures are missing: mnist-5k is gone" in text
    assert "<svg" in text


@pytest.mark.parametrize("size", [4000, 50])
def test_pictures_of_other_data_are_not_shown(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Dataset, size: int
) -> None:
    """Its images stand at other places, or are fewer: they are not what was asked about."""
    images = dfal.Images(255 - digits.images.array[:size])
    other = dataclasses.replace(digits, images=images, labels=digits.labels[:size])
    monkeypatch.setattr("dfal.data.datasets.load", lambda _: other)
    with Store(store) as opened:
        text = html.write(opened, read_results(opened), tmp_path / "r.html").read_text(
            encoding="utf-8"
        )
    assert (
        "The pictures are missing: the data set mnist-5k is not the one that this store was made"
        " with." in text
    )
    assert "<img" not in text
    assert "<svg" in text


def test_a_page_says_what_is_left_out(store: Path, tmp_path: Path) -> None:
    with Store(store) as opened:
        found = read_results(opened)
        (study,) = found.studies
        whole, other = study.curves
        other = dataclasses.replace(
            other, trials=other.trials[:1], records=other.records[:1], accuracy=other.accuracy[:1]
        )
        fewer = dataclasses.replace(study, curves=(whole, other))
        page = html.write(opened, dataclasses.replace(found, studies=(fewer,)), tmp_path / "r.html")
    text = page.read_text(encoding="utf-8")
    assert (
        "The strategies have different seeds: dfal 0, 1, random 0. A difference is over those that"
        " both have." in text
    )
    assert "1 to 2 seeds" in text
    assert "over 2 seeds" not in text


def test_names_are_escaped(store: Path, tmp_path: Path) -> None:
    with Store(store) as opened:
        (study,) = studies(opened)
        bad = dataclasses.replace(study.settings, dataset="<script>alert(1)</script>.npz")
        found = dataclasses.replace(
            read_results(opened), studies=(dataclasses.replace(study, settings=bad),)
        )
        text = html.write(opened, found, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<script>" not in text


@pytest.mark.parametrize(("shape", "mode"), [((1, 5, 6), "L"), ((3, 5, 6), "RGB")])
def test_pictures_are_exact(shape: tuple[int, int, int], mode: str) -> None:
    image = torch.arange(shape[0] * 30).reshape(shape).float() / 255
    picture = Image.open(io.BytesIO(base64.b64decode(html._png(image).split(",")[1])))
    assert picture.mode == mode
    back = np.asarray(picture).reshape(5, 6, -1).transpose(2, 0, 1)
    np.testing.assert_array_equal(back, (image * 255).round().numpy())


@pytest.mark.parametrize(
    "others", [(), ("margin", "bald", "ceal", "core-set", "egl", "uncertainty", "least-confidence")]
)
def test_dfal_against_random_comes_first_and_the_twins_after_it(
    tmp_path: Path, others: tuple[str, ...]
) -> None:
    """With few strategies and with more than have bands, where DFAL's sentences alone are said."""
    path = tmp_path / "s.db"
    with Store(path, write=True) as opened:
        for place, name in enumerate(("random", "dfal-no-twins", "dfal", *others)):
            for seed in range(2):
                trial = Trial(annotations=30, strategy=named(name), seed=seed)
                opened.add_run({trial.id: trial.to_json()}, {"data": {}, "versions": {}})
                for round in range(3):
                    accuracy = 0.5 + 0.1 * round + 0.1 * min(place, 2) + 0.01 * seed
                    opened.add(trial.id, made(round, accuracy))
    with Store(path) as opened:
        page = html.write(opened, read_results(opened), tmp_path / "r.html").read_text(
            encoding="utf-8"
        )
    told = [
        re.sub(r"\s+", " ", re.sub("<[^>]+>", "", one))
        for one in re.findall(r'<p class="(?:lede|summary)">(.*?)</p>', page, re.DOTALL)
    ]
    assert told[0].startswith(
        "With 30 labels, dfal reaches 90.5 % (2 seeds), 20.0 points more than"
    )
    assert told[1].startswith(
        "dfal reached random sampling’s final accuracy (70.5 % with 30 labels) with 10 labels."
    )
    assert "(AULC) is 20.00 points above that of random sampling (±" in told[1]
    assert told[-1].startswith(
        "dfal: its mean accuracy over the curve (AULC) is 10.00 points above that of dfal-no-twins"
    )
    assert told[-1].endswith("the same strategy without adversarial twins.")
    assert len(told) == 4
    table = page[page.index(">Significance<") :]
    assert re.findall(r'<tr><th scope="row">([^<]*)</th><td>([^<]*)</td>', table)[:1] == [
        ("dfal", "random")
    ]
    assert "Every strategy is compared with random sampling" in table


def test_a_difference_that_is_not_significant_says_how_many_seeds_would_detect_it(
    tmp_path: Path,
) -> None:
    """Differences 4, −2, 4, 2, as in tests/analysis/test_outcome.py."""
    with Store(tmp_path / "s.db", write=True) as opened:
        for name, gains in (("random", (0, 0, 0, 0)), ("dfal", (4, -2, 4, 2))):
            for seed, gain in enumerate(gains):
                trial = Trial(annotations=20, strategy=named(name), seed=seed)
                opened.add_run({trial.id: trial.to_json()}, {"data": {}, "versions": {}})
                for round in range(2):
                    opened.add(trial.id, made(round, 0.7 + gain / 100))
        page = html.write(opened, read_results(opened), tmp_path / "r.html").read_text(
            encoding="utf-8"
        )
    assert "not significant; about 18 seeds would detect a difference of this size)" in page


def test_pictures_are_folded_under_a_line_that_says_how_many(page: str) -> None:
    assert len(re.findall(r"<details>\s*<summary>", page)) == 4, "two strategies, twins, trials"
    assert "<details open" not in page
    folded = "".join(re.findall(r"<details>.*?</details>", page, re.DOTALL))
    assert folded.count("<img") == page.count("<img") > 60
    assert "<b>dfal</b>: 30 images</summary>" in page


def test_everything_that_is_left_out_is_one_notice(store: Path, tmp_path: Path) -> None:
    with Store(store) as opened:
        found = read_results(opened)
        (study,) = found.studies
        curves = tuple(dataclasses.replace(curve, waiting=(2, 3)) for curve in study.curves)
        waiting = dataclasses.replace(study, curves=curves)
        text = html.write(
            opened, dataclasses.replace(found, studies=(waiting,)), tmp_path / "r.html"
        ).read_text(encoding="utf-8")
    assert text.count('class="notice"') == 1
    notice = text[text.index('class="notice"') :].split("</div>")[0]
    assert re.findall("<p>(.*?)</p>", notice) == [
        "Left out, as they are not finished yet: dfal, seeds 2, 3; random, seeds 2, 3."
    ]


def test_strategies_are_switched_and_values_shown_without_a_script(
    page: str, store: Path, browser: Any
) -> None:
    assert "<script" not in page
    shown = browser.new_page(java_script_enabled=False, color_scheme="dark")
    shown.goto((store.parent / "report.html").as_uri())
    curve = shown.locator("#study-0 svg g.curve-1").first
    assert curve.is_visible()
    shown.get_by_label("random", exact=True).uncheck()
    assert not curve.is_visible()
    assert shown.locator("#study-0 svg g.curve-0").first.is_visible()
    tip = shown.locator("#study-0 .tip").nth(1)
    assert not tip.is_visible()
    shown.locator("#study-0 .hit").nth(1).hover()
    assert tip.is_visible()
    assert "annotations" in (tip.text_content() or "")
    shown.emulate_media(media="print")
    assert not shown.locator(".switches").is_visible()
    kept = "element => getComputedStyle(element).breakAfter"
    assert {shown.locator("h2").nth(at).evaluate(kept) for at in range(3)} == {"avoid"}
    shown.close()


def made(round: int, accuracy: float) -> Record:
    """A round of 10 more annotations."""
    asked = torch.arange(0 if round == 2 else 10)
    query = dfal.Query(asked, torch.zeros(len(asked)))
    measured = {
        "annotations": 10 + 10 * round,
        "labelled_data": 10 + 10 * round,
        "accuracy": accuracy,
    }
    return Record(round, query, asked % 10, asked % 10, torch.empty(0, dtype=torch.int64), measured)
