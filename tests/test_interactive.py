"""The figure to move: its numbers, its page, and the page in a real browser."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

pytest.importorskip("IPython")

from bn_from_scratch import spec
from bn_from_scratch.course import interactive

ARGS = (
    "--no-sandbox --disable-gpu --disable-background-networking "
    "--disable-component-update --disable-sync --no-first-run"
).split()
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def html():
    return interactive.moving_statistics().data


@pytest.fixture(scope="module")
def data(html):
    return json.loads(re.search(r"const data = (\{.*\});", html)[1])


# --- The numbers ---------------------------------------------------------------------


@pytest.mark.parametrize("size, shift, m", [(2, "2X + 3", 4), (8, "X + 1", 0)])
def test_the_grid_is_a_loop_over_the_spec(data, size, shift, m):
    rng, (add, times) = np.random.default_rng(0), interactive.SHIFTS[shift]
    mean, var, lines = 0.0, 1.0, []
    for step in range(-340, 80):
        X = rng.normal(size=(size, interactive.RUNS))[:, :1]
        X = add + times * X if step >= 0 else X
        batch = spec.batch_stats(X)
        mean, var = spec.update_moving(mean, var, *batch, interactive.MOMENTA[m])
        lines.append([batch[0][0], batch[1][0], mean[0], var[0]])
    shown = np.rint(1000 * np.array(lines[300:])).T.tolist()
    s = list(interactive.SHIFTS).index(shift)
    setting = data["settings"][interactive.BATCH_SIZES.index(size)][s]
    assert [setting["batch"]["mean"], setting["batch"]["var"]] == shown[:2]
    assert [setting["moving"][m]["mean"], setting["moving"][m]["var"]] == shown[2:]


def test_95_percent_of_the_jump():
    line = [0.0] * interactive.BEFORE + [1.0, 2.0, 2.84, 2.86, 2.8]
    assert interactive.covered(np.array(line), 3) == 4
    assert interactive.covered(np.array(line), 4) is None
    assert interactive.covered(np.array(line), 0) is None


def test_without_noise_the_theory_is_exact(data):
    for m, theory in zip(
        interactive.MOMENTA, interactive.grid()["covered"], strict=True
    ):
        moving_mean, steps = 0.0, 0
        while moving_mean < 0.95:
            moving_mean, _ = spec.update_moving(moving_mean, 1.0, 1.0, 1.0, m)
            steps += 1
        assert steps == np.ceil(theory)


def test_the_measured_spread_is_that_of_theory(data):
    """The slowest average has forgotten least of its past: 200 runs leave 7%."""
    measured = np.array([[row[0]["std"]] for row in data["settings"]])[:, 0]
    np.testing.assert_allclose(measured, data["std"], rtol=0.08)


# --- The page ------------------------------------------------------------------------


class Tags(HTMLParser):
    """Which tags are open, and which closed in the wrong order."""

    def __init__(self):
        super().__init__()
        self.open, self.wrong = [], []

    def handle_starttag(self, tag, attrs):
        if tag != "input":
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_asks_for_nothing_and_is_small(html):
    assert not re.search(r"https?:|src=|href=|url\(|@import|fetch\(|\bid=", html)
    assert len(html.encode()) <= 150_000


def test_the_page_parses(html):
    tags = Tags()
    tags.feed(html)
    tags.close()
    assert (tags.open, tags.wrong) == ([], [])


def test_the_page_holds_every_setting(data):
    assert data["sizes"] == list(interactive.BATCH_SIZES)
    assert data["momenta"] == list(interactive.MOMENTA)
    assert list(data["shifts"]) == list(interactive.SHIFTS)
    settings = [setting for row in data["settings"] for setting in row]
    assert len(settings) == 20
    for setting in settings:
        for line in [setting["batch"], *setting["moving"]]:
            assert len(line["mean"]) == len(line["var"]) == 120
        for name in ("moving", "covered", "std"):
            assert len(setting[name]) == len(interactive.MOMENTA)


def test_the_sliders_reach_every_setting(html):
    most = [int(m) for m in re.findall(r'type="range"[^>]*max="(\d+)"', html)]
    kinds = interactive.BATCH_SIZES, interactive.MOMENTA, interactive.SHIFTS
    assert most == [len(kind) - 1 for kind in kinds]


# --- In a browser --------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(html):
    """Two copies of the figure on one page, offline, at phone width."""
    playwright = pytest.importorskip("playwright.sync_api")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=browser, args=ARGS)
        page = chromium.new_page(viewport={"width": 360, "height": 700})
        page.troubles = []
        page.on("console", lambda message: page.troubles.append(message.text))
        page.on("pageerror", lambda error: page.troubles.append(str(error)))
        page.on("request", lambda request: page.troubles.append(request.url))
        page.set_content(f"<!doctype html><title>two</title>{html}{html}")
        yield page
        chromium.close()


def state(page, copy=0):
    """The moving mean's line and the readout."""
    root = page.locator(".moving-statistics").nth(copy)
    return root.locator(".moving").first.get_attribute("d"), root.locator(
        "p"
    ).inner_text()


def test_both_copies_are_drawn_and_nothing_goes_wrong(page):
    assert page.locator("path.moving").count() == 4
    assert page.locator("circle.batch").count() > 400
    assert page.troubles == []


@pytest.mark.parametrize("name", ["size", "momentum", "shift"])
def test_the_keyboard_moves_a_slider_the_line_and_the_readout(page, name):
    line, readout = state(page)
    other = state(page, copy=1)
    slider = page.locator(f"input[name={name}]").first
    slider.press("ArrowLeft")
    assert state(page)[0] != line
    assert state(page)[1] != readout
    shown = page.locator(f"label:has(input[name={name}]) b").first.inner_text()
    assert slider.get_attribute("aria-valuetext") == shown
    slider.press("ArrowRight")
    assert state(page) == (line, readout)
    assert state(page, copy=1) == other
    assert page.troubles == []


def test_the_readout_is_that_of_the_setting(page, data):
    momentum, shift = (
        page.locator(f"input[name={k}]").first for k in ("momentum", "shift")
    )
    momentum.press("ArrowRight")
    setting = data["settings"][2][2]
    assert " ".join(state(page)[1].split()) == (
        "Batches until the moving mean has covered 95% of the jump: "
        f"{setting['covered'][3]} (theory {data['covered'][3]}). "
        f"Its standard deviation in the steady state: {setting['std'][3]:.4f} "
        f"(theory {data['std'][2][3]:.4f})."
    )
    shift.press("Home")
    assert "95% of the jump: no jump (theory" in state(page)[1]
    shift.press("ArrowRight")
    momentum.press("Home")
    assert "95% of the jump: more than 80 (theory" in state(page)[1]


def test_a_phone_need_not_scroll_sideways(page):
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 360
