"""A report in a real headless Chromium: its map can be used, and nothing else is loaded or run."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from fingers import dragged, lonely, pinched, pixel_of
from playwright.sync_api import Browser, Page, expect, sync_playwright
from test_map import made, read

from likewise.pages.drawings import Line, chart
from likewise.pages.page import whole
from likewise.pages.pieces import folded, grid
from likewise.reports.map import map_section, script
from likewise.reports.mistakes import by_class, classes_of, looked_up, wrong_pairs
from likewise.reports.neighbours import neighbours

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), "")
ITEMS, ROWS = made(90, 12)
DARK = """() => {
  const canvas = document.getElementById("map-canvas");
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return pixels.filter((value, at) => at % 4 < 3 && value !== 255).length;
}"""

pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="there is no Chromium (apt-get install chromium): the report is not tested in a browser"
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page of all that a report has."""
    found = looked_up(ITEMS, ROWS)
    assert not isinstance(found, str)
    curve = chart("loss", [Line("loss", [1, 2, 3], [3.0, 2.0, 1.0])], about="loss falls", x_name="epoch")
    body = "<h2>Figures</h2>" + grid(["measure", "raw"], [["MAP@R", "1"]]) + by_class(classes_of(ITEMS, found), "So.")
    body += curve + "<h2>Map</h2>" + map_section(ITEMS, ROWS) + "<h2>Neighbours</h2>" + neighbours(ITEMS, ROWS)
    body += "<h2>Pairs</h2>" + wrong_pairs(ITEMS, found) + folded("Settings", "seed: 0")
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_bytes(whole("<a report>", {}, body, script=script()))
    return path.as_uri()


@pytest.fixture(scope="module")
def page(report: str) -> Iterator[Page]:
    """The opened page; at the end nothing was logged, and nothing was asked for."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page, bad = browser.new_page(viewport={"width": 1280, "height": 900}), list[str]()
        page.on("console", lambda message: bad.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: bad.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith((report, "data:")) else bad.append(asked.url))
        page.goto(report)
        page.wait_for_function(f"({DARK})() > 0")
        yield page
        assert bad == []
        page.evaluate("fetch('https://example.org').catch(() => 0)")
        assert any("Content Security Policy" in text for text in bad)
        browser.close()


def dark(page: Page) -> int:
    """How much of the map is not white, once it is drawn: in the next frame."""
    page.evaluate("new Promise(requestAnimationFrame)")
    found: int = page.evaluate(DARK)
    return found


def browser_of(page: Page) -> Browser:
    browser = page.context.browser
    assert browser is not None
    return browser


def test_it_is_accessible_narrow_and_wide_light_and_dark(report: str, page: Page) -> None:
    browser = browser_of(page)
    for width, scheme in ((390, "light"), (1280, "dark")):
        size = {"width": width, "height": 900}
        with browser.new_context(viewport=size, color_scheme=scheme, bypass_csp=True) as context:  # axe is a script
            other = context.new_page()
            other.goto(report)
            assert other.evaluate("document.documentElement.scrollWidth") == width
            found = Axe().run(other).response["violations"]
            assert [(each["id"], each["impact"]) for each in found] == []


def test_fingers_move_and_zoom_the_map(report: str, page: Page) -> None:
    header, columns = read(Path(unquote(urlparse(report).path)).read_text())
    about = {each["name"]: each for each in header["columns"]}
    xy = np.stack([about[name]["least"] + about[name]["scale"] * columns[name].astype(np.float32) for name in "xy"], 1)
    row = lonely(xy)
    with browser_of(page).new_context(viewport={"width": 390, "height": 844}, has_touch=True) as context:
        touched = context.new_page()
        touched.goto(report)
        touched.wait_for_function(f"({DARK})() > 0")
        canvas = touched.locator("#map-canvas")
        canvas.scroll_into_view_if_needed()
        for moved in (dragged, pinched):
            scrolled = touched.evaluate("scrollY")
            touched.touchscreen.tap(*moved(touched, canvas, pixel_of(canvas, xy, row)))
            expect(touched.locator("#map-said")).to_contain_text(ITEMS.ids[row])
            assert touched.evaluate("scrollY") == scrolled, "the page scrolled with the map"
            canvas.press("0")
        box = canvas.bounding_box()
        assert box is not None
        assert box["height"] < 0.7 * 844, "there is no room to scroll past the map"


def test_keys_go_from_point_to_point_and_say_what_it_is(page: Page) -> None:
    page.locator("#map-canvas").focus()
    seen = set()
    for key in ("ArrowRight", "ArrowUp", "ArrowLeft", "ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
        label, name, wrong = page.inner_text("#map-said").split(" · ")
        row = ITEMS.ids.index(name)
        assert label == f"label {ITEMS.label_names[int(np.asarray(ITEMS.labels)[row])]}"
        assert wrong.endswith("of its 10 nearest have another label")
        expect(page.locator("#map-picture")).to_be_visible()
        seen.add(name)
    assert len(seen) > 2
    page.keyboard.press("Escape")
    expect(page.locator("#map-tip")).to_be_hidden()


def test_the_legend_filters_and_the_field_finds(page: Page) -> None:
    everything = dark(page)
    legend = page.locator("#map-legend-label")
    expect(legend.locator("li")).to_have_count(11)  # ten labels with colours, and two others
    legend.locator("[data-check=none]").click()
    assert dark(page) == 0
    legend.locator("input").last.check()
    assert 0 < dark(page) < everything
    legend.locator("[data-check=all]").click()
    page.fill("#map-find", "label 1")
    wanted = sum("label 1" in ITEMS.label_names[label] for label in np.asarray(ITEMS.labels))
    expect(page.locator("#map-count")).to_have_text(f"{wanted} found")
    page.fill("#map-find", "")
    page.select_option("#map-colour", "error")
    expect(legend).to_be_hidden()
    expect(page.locator("#map-legend-error li")).to_have_count(4)
    page.select_option("#map-colour", "label")
    assert dark(page) == pytest.approx(everything, rel=0.02)
