"""The page at ``/`` in a real headless Chromium: what people see and do, against what the server knows."""

import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from fingers import dragged, fingers, lonely, pinched, pixel_of, swipe
from playwright.sync_api import Browser, Page, expect, sync_playwright
from serving.small_server import SIDE, loaded_of, make_run, png, serving

from likewise.look import Look
from likewise.model import load
from likewise.serving.app import make_app
from likewise.serving.loaded import Loaded
from likewise.viewer.columns import pack_columns

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), "")
STATIC = Path(__file__).parents[2] / "src" / "likewise" / "viewer" / "static"
PER_LABEL = 30
WIDE, NARROW = {"width": 1280, "height": 860}, {"width": 390, "height": 844}

pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="there is no Chromium (apt-get install chromium): the page is not tested in a browser"
)


class Served:
    """A run of pictures of three colours behind a server in a thread; one picture is there twice."""

    def __init__(self, place: Path) -> None:
        random = np.random.default_rng(0)
        self.pictures = dict[str, bytes]()
        for number in range(3 * PER_LABEL):
            pixels = random.integers(0, 90, (SIDE, SIDE, 3), dtype=np.uint8)
            pixels[:, :, number % 3] += random.integers(20, 160, dtype=np.uint8)
            self.pictures[f"{'abc'[number % 3]}/{number:02}.png"] = png(pixels)
        self.pictures["b/copy.png"] = self.pictures["b/01.png"]
        for name, content in self.pictures.items():
            (place / "data" / name).parent.mkdir(parents=True, exist_ok=True)
            (place / "data" / name).write_bytes(content)
        make_run(place / "run", place / "data")
        self.run = place / "run"
        self.loaded: Loaded = loaded_of(self.run)
        assert self.loaded.local is not None
        self.index = self.loaded.local
        self.labels = np.array([name[0] for name in self.index.ids])
        self.look = Look(self.run, self.index, self.loaded.shown.labels_of(self.index.ids), ("a", "b", "c"))
        self.xy = self.look.map().xy
        self.gate = make_app(serving(self.run), self.loaded)
        config = uvicorn.Config(self.gate, port=0, log_level="error")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)
        self.address = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}/"

    def pixel(self, page: Page, row: int) -> tuple[float, float]:
        """Where a point is on the page."""
        return pixel_of(page.locator("#dots"), self.xy, row)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("page"))
    yield served
    served.server.should_exit = True
    served.thread.join(timeout=10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """The opened page; at the end nothing was logged, and nothing came from elsewhere."""
    with browser.new_context(viewport=WIDE, accept_downloads=True) as context:
        page, bad = context.new_page(), list[str]()
        page.on("console", lambda message: bad.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: bad.append(str(error)))
        page.on("request", lambda asked: None if own(asked.url, served) else bad.append(asked.url))
        opened(page, served)
        yield page
        refusals = "Failed to load resource"  # what the server refuses, which the page says in words
        assert [text for text in bad if not text.startswith(refusals)] == []


def opened(page: Page, served: Served) -> None:
    """Opens the page, and waits for the map and for the verdict, which may move what is below it."""
    page.goto(served.address)
    page.locator("#map-note").wait_for(state="hidden")
    expect(page.locator("#verdict")).not_to_contain_text("Looking at")


def own(url: str, served: Served) -> bool:
    """Whether an address is of the server, or of the page itself."""
    return url.startswith((served.address, "blob:", "data:"))


def texts(page: Page, selector: str) -> list[str]:
    return [text.strip() for text in page.locator(selector).all_inner_texts()]


def test_it_opens_and_is_accessible_wide_and_narrow_light_and_dark(
    browser: Browser, page: Page, served: Served
) -> None:
    expect(page.locator("#counts")).to_contain_text("91 items")
    expect(page.locator("#verdict")).to_contain_text("The embedding")
    expect(page.locator("#faithful")).to_contain_text(f"keeps {served.look.map().kept:.0%} of an item's 15 nearest")
    expect(page.locator("#command")).to_contain_text("likewise serve")
    page.locator("[data-kind=weakest]").click()
    expect(page.locator(".row")).to_have_count(3)
    page.fill("#search", "a/00.png")
    page.press("#search", "Enter")
    expect(page.locator("#hits button")).to_have_count(12)
    for viewport in (WIDE, NARROW):
        for scheme in ("light", "dark"):
            page.set_viewport_size(viewport)
            page.emulate_media(color_scheme=scheme)
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= viewport["width"], f"scrolls sideways: {width} of {viewport['width']} px"
            found = Axe().run(page).response["violations"]
            serious = [each["id"] for each in found if each["impact"] in ("serious", "critical")]
            assert serious == [], f"{viewport['width']} px, {scheme}: {serious}"


def test_a_search_shows_the_labels_of_all_hits_and_frames_wrong_ones(page: Page, served: Served) -> None:
    page.keyboard.press("/")
    page.keyboard.type("a/00.png")
    page.keyboard.press("Enter")
    expect(page.locator("#hits button")).to_have_count(12)
    wanted = served.index.search("a/00.png", 12)
    marks = ["" if hit.id[0] == "a" else "✗ " for hit in wanted]
    shown = [f"{mark}{hit.id[0]}\n{hit.score:.3f}" for mark, hit in zip(marks, wanted, strict=True)]
    assert texts(page, "#hits button") == shown
    assert page.locator("#hits .wrong").count() == sum(map(bool, marks)) > 0
    expect(page.locator("#said")).to_contain_text(
        f"12 hits for a/00.png, label a: {sum(map(bool, marks))} with another"
    )
    page.locator("#hits button").nth(2).click()
    expect(page.locator("#card h3")).to_have_text(wanted[2].id)
    page.get_by_role("button", name="Search from here").click()
    expect(page.locator("#found-title")).to_have_text(f"Nearest to {wanted[2].id}")
    page.fill("#search", "nothing")
    page.press("#search", "Enter")
    expect(page.locator("#said")).to_have_text("No item of the index has the id 'nothing'.")


def test_a_dropped_picture_finds_its_neighbours(page: Page, served: Served) -> None:
    drop = """(bytes) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(bytes)], "new.png", { type: "image/png" }));
      document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(drop, list(served.pictures["c/05.png"]))
    expect(page.locator("#found-title")).to_have_text("Nearest to new.png")
    model = load(served.run)
    wanted = served.index.search(model.embed_file(served.run.parent / "data" / "c/05.png"), 12)
    names = page.locator("#hits button").evaluate_all("all => all.map((each) => each.title)")
    assert names == [hit.id for hit in wanted]
    expect(page.locator("#range output")).to_contain_text("91 items")
    scores = served.index.rows @ model.embed_file(served.run.parent / "data" / "c/05.png")
    page.locator("#least").fill("120")
    least = float(scores.min()) + 0.6 * float(scores.max() - scores.min())
    expect(page.locator("#range output")).to_have_text(f"{least:.3f}: {int((scores >= least).sum())} items")
    page.locator("#file").set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"no picture"})
    expect(page.locator("#said")).to_contain_text("That is no picture")


def test_from_a_point_to_its_picture_by_pointer_and_by_keyboard(page: Page, served: Served) -> None:
    row = lonely(served.xy)
    page.mouse.move(*served.pixel(page, row))
    expect(page.locator("#tip")).to_contain_text(served.index.ids[row])
    page.mouse.click(*served.pixel(page, row))
    expect(page.locator("#card h3")).to_have_text(served.index.ids[row])
    assert page.locator("#card img").evaluate("image => image.decode().then(() => image.naturalWidth)") == SIDE
    page.locator("#map").focus()
    page.keyboard.press("ArrowLeft")
    apart = served.xy - served.xy[row]
    ahead, aside = -apart[:, 0], np.abs(apart[:, 1])
    far = np.where((ahead > 0) & (aside <= ahead), ahead + 2 * aside, np.inf)
    left = served.index.ids[int(far.argmin())] if np.isfinite(far).any() else served.index.ids[row]
    expect(page.locator("#said")).to_contain_text(left)
    page.keyboard.press("Enter")
    expect(page.locator("#card h3")).to_have_text(left)
    page.keyboard.press("s")
    expect(page.locator("#found-title")).to_have_text(f"Nearest to {left}")


def test_the_lasso_lists_and_exports_what_is_inside(page: Page, served: Served) -> None:
    page.get_by_role("button", name="Lasso").click()
    box = page.locator("#dots").bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2
    corners = [(middle, box["y"] + 3), (box["x"] + 3, box["y"] + 3), (box["x"] + 3, box["y"] + box["height"] - 3)]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in [*corners[1:], (middle, box["y"] + box["height"] - 3)]:
        page.mouse.move(*corner)
    page.mouse.up()
    low, high = served.xy.min(0), served.xy.max(0)
    wanted = [
        item for item, x in zip(served.index.ids, served.xy[:, 0].tolist(), strict=True) if x < (low + high)[0] / 2
    ]
    expect(page.locator("#said")).to_contain_text(f"Selected {len(wanted)} items")
    assert page.locator("#list button").evaluate_all("all => all.map((each) => each.title)") == wanted[:60]
    with page.expect_download() as download:
        page.get_by_role("button", name="Save all as CSV").click()
    saved = Path(download.value.path()).read_text().split()
    assert saved == ["id,label", *(f"{item},{item[0]}" for item in wanted)]


def test_the_legend_hides_labels_and_what_is_selected(page: Page, served: Served) -> None:
    drawn = """() => {
      const canvas = document.getElementById("dots"), counts = {};
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      for (let at = 0; at < pixels.length; at += 4) {
        const colour = pixels.slice(at, at + 3).join(); counts[colour] = (counts[colour] || 0) + 1;
      }
      return counts;
    }"""
    blue = "0,114,178"  # of the most frequent label
    assert {blue, "230,159,0", "0,158,115"} < set(page.evaluate(drawn))
    page.get_by_label("b 31").uncheck()
    page.evaluate("new Promise(requestAnimationFrame)")
    assert blue not in page.evaluate(drawn)
    page.get_by_role("button", name="List what is in view").click()
    expect(page.locator("#chosen-note")).to_contain_text("60 items (a: 30, c: 30)")
    page.fill("#search", "b/01.png")
    page.press("#search", "Enter")
    expect(page.locator("#colour option")).to_have_count(5)  # with the similarity to the query
    assert blue not in page.evaluate(drawn), "a search undoes the choice of labels"
    page.select_option("#colour", "distance")
    page.locator("#least").fill("100")
    left = page.locator("#least-said").inner_text().partition(": ")[2]
    assert 0 < int(left.partition(" ")[0]) < 91
    page.get_by_role("button", name="List what is in view").click()
    expect(page.locator("#chosen-note")).to_contain_text(left)


def test_groups_are_rows_of_pictures(page: Page, served: Served) -> None:
    page.get_by_role("button", name="Near-copies").click()
    expect(page.locator(".row h3")).to_have_text("2 near-copies")
    shown = page.locator(".row button").evaluate_all("all => all.map((each) => each.title)")
    assert sorted(shown) == ["b/01.png", "b/copy.png"]
    page.get_by_role("button", name="Outliers").click()
    expect(page.locator(".row")).to_have_count(4)
    page.locator(".row button").first.click()
    expect(page.locator("#card h3")).to_be_visible()
    page.get_by_role("button", name="Suspect labels").click()
    expect(page.locator("#group-note")).to_contain_text("labels are contradicted by the neighbours")
    for name in ("error", "distance", "cluster"):
        page.select_option("#colour", name)
        expect(page.locator("#legend")).to_be_visible()


def test_without_a_map_it_still_searches(browser: Browser, served: Served) -> None:
    with browser.new_context(viewport=NARROW) as context:
        page = context.new_page()
        refusal = {"detail": "the index is on servers, so there is no map; search by id or picture."}
        page.route("**/api/points.bin", lambda route: route.fulfill(status=409, json=refusal))
        page.goto(served.address)
        expect(page.locator("#map-note")).to_have_text(f"There is no map: {refusal['detail']}")
        expect(page.get_by_role("button", name="Lasso")).to_be_disabled()
        page.fill("#search", "b/01.png")
        page.press("#search", "Enter")
        expect(page.locator("#hits button").first).to_have_attribute("title", "b/copy.png")


def test_what_goes_wrong_is_said(page: Page, served: Served) -> None:
    said = page.locator("#said")
    page.locator("#file").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n"})
    expect(said).to_contain_text("picture")
    page.fill("#where", "colour = red")
    page.press("#search", "Enter")
    page.fill("#search", "a/00.png")
    page.press("#search", "Enter")
    expect(said).to_contain_text("colour")
    page.fill("#where", "year > 3000")
    page.press("#search", "Enter")
    expect(said).to_have_text("No item fits the condition.")
    page.fill("#where", "")
    served.gate.live.take(replace(served.loaded, mark="another run"))
    page.press("#search", "Enter")
    expect(said).to_have_text("The run or its index was made anew since this page was opened; reload the page.")
    page.reload()
    page.locator("#map-note").wait_for(state="hidden")
    page.fill("#search", "a/00.png")
    page.press("#search", "Enter")
    expect(page.locator("#hits button")).to_have_count(12)
    page.route("**/api/**", lambda route: route.abort())
    page.fill("#search", "a/03.png")
    page.press("#search", "Enter")
    expect(said).to_have_text("The server does not answer; is it still running?")
    page.locator("[data-kind=outliers]").click()
    expect(page.locator("#group-note")).to_contain_text("the server does not answer")


def test_fingers_move_and_zoom_the_map_and_scroll_the_page_beside_it(browser: Browser, served: Served) -> None:
    row = lonely(served.xy)
    with browser.new_context(viewport=NARROW, has_touch=True) as context:
        page = context.new_page()
        opened(page, served)
        for moved in (dragged, pinched):
            page.locator("#map").scroll_into_view_if_needed()
            scrolled = page.evaluate("scrollY")
            place = moved(page, page.locator("#dots"), served.pixel(page, row))
            assert page.evaluate("scrollY") == scrolled, "the page scrolled with the map"
            page.touchscreen.tap(*place)
            expect(page.locator("#tip")).to_contain_text(served.index.ids[row])
            expect(page.locator("#card h3")).to_have_text(served.index.ids[row])
            assert page.evaluate("scrollY") == scrolled, "a tap leads away from the map"
            page.locator("#map").press("0")
        page.get_by_role("button", name="Lasso").tap()
        box = page.locator("#dots").bounding_box()
        assert box is not None
        left, top, right, bottom = box["x"] + 2, box["y"] + 2, box["x"] + box["width"] - 2, box["y"] + box["height"] - 2
        fingers(page, [[corner] for corner in ((left, top), (right, top), (right, bottom), (left, bottom))])
        expect(page.locator("#chosen-note")).to_contain_text("91 items")
        assert box["height"] < 0.7 * NARROW["height"], "there is no room to scroll past the map"
        scrolled = page.evaluate("scrollTo(0, 0), scrollY")
        title = page.locator("#verdict").bounding_box()
        assert title is not None
        swipe(page, (title["x"] + 50, title["y"] + title["height"] + 5), (0, -150))
        page.wait_for_function("scrollY > 50")


def test_the_parser_and_the_raster_work_within_one_file(browser: Browser) -> None:
    xy = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    packed = pack_columns({"x": xy[:, 0].copy(), "y": xy[:, 1].copy()}, {}, small=("x", "y"))
    scripts = "".join((STATIC / name).read_text() for name in ("columns.js", "raster.js"))
    with browser.new_context(viewport=NARROW) as context:
        page = context.new_page()
        page.set_content(
            f"""<canvas id="c" style="width:300px;height:200px"></canvas><script type="module">{scripts}
            window.made = (bytes) => {{
              const table = parseColumns(new Uint8Array(bytes).buffer);
              const raster = new Raster(document.getElementById("c"), table.columns.x, table.columns.y);
              raster.draw();
              const found = [];
              for (let row = 0; row < table.rows; row++) found.push(raster.pick(...raster.toPixel(row)));
              return found;
            }};</script>"""
        )
        page.wait_for_function("() => Boolean(window.made)")
        found: list[int] = page.evaluate("(bytes) => window.made(bytes)", list(packed))
    apart = np.hypot(*(xy[np.array(found)] - xy).T)
    assert float(apart.max()) < 1e-3  # the row itself, or one in the same place after rounding
