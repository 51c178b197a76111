"""Milliseconds of a frame of the map in headless Chromium, while it is panned and zoomed. No GPU is used.

python benchmarks/page.py --points 100000 500000
python benchmarks/page.py --address http://127.0.0.1:8000/      # the page of a server that runs

Needs Chromium (apt-get install chromium) and playwright. A frame is the time from one animation frame to the next, with
all that the browser does to show it; `draw` is the time in raster.js alone.
"""

import argparse
import shutil
import statistics
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

STATIC = Path(__file__).parents[1] / "src" / "likewise" / "viewer" / "static"
MEASURE = """
async ([count, frames]) => {
  document.body.innerHTML = '<canvas id="map"></canvas>';
  const canvas = document.getElementById("map");
  canvas.style.width = "100vw"; canvas.style.height = "100vh"; canvas.style.display = "block";
  document.body.style.margin = 0;
  const { Raster, packed } = await import("/raster.js");
  let state = 1;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  const normal = () => Math.sqrt(-2 * Math.log(random() + 1e-9)) * Math.cos(6.2832 * random());
  const x = new Float32Array(count), y = new Float32Array(count), places = new Uint8Array(count);
  for (let row = 0; row < count; row++) {
    const label = row % 10;
    x[row] = 30 * Math.cos(label) + 8 * normal(); y[row] = 30 * Math.sin(label) + 8 * normal(); places[row] = label;
  }
  const started = performance.now();
  const raster = new Raster(canvas, x, y);
  const built = performance.now() - started;
  const colours = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#4d1a80", "#800000", "#804d66"];
  raster.colour(places, new Uint32Array([...colours, "#001acc"].map(packed)));
  const times = {};
  for (const way of ["pan", "zoom"]) {
    raster.fit();
    const spent = [], between = [];
    let before = await new Promise(requestAnimationFrame);
    for (let frame = 0; frame < frames; frame++) {
      if (way === "pan") raster.pan(frame % 20 < 10 ? 6 : -6, 3);
      else raster.zoom(frame % 40 < 20 ? 1.1 : 1 / 1.1, 400, 300);
      const at = performance.now();
      raster.draw();
      spent.push(performance.now() - at);
      const now = await new Promise(requestAnimationFrame);
      between.push(now - before); before = now;
    }
    times[way] = { spent, between };
  }
  return { built, times };
}
"""


RECORD = """
() => {
  window.between = [];
  let before = 0;
  const tick = (now) => { if (before) window.between.push(now - before); before = now; requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
}
"""


def of_server(page: Page, address: str, frames: int) -> None:
    """Drags and wheels the map of a server's page with a mouse, as people do; prints what passes between frames."""
    began = time.perf_counter()
    page.goto(address)
    page.locator("#map-note").wait_for(state="hidden", timeout=600_000)
    name = page.locator("#map").get_attribute("aria-label")
    print(f"{name}: shown after {time.perf_counter() - began:.1f} s", flush=True)
    page.locator("#map").hover()
    page.evaluate(RECORD)
    for way in ("drag", "wheel"):
        page.evaluate("() => { window.between.length = 0; }")
        if way == "drag":
            page.mouse.down()
        for frame in range(frames):
            if way == "drag":
                page.mouse.move(400 + 5 * (frame % 30), 400 + 3 * (frame % 20))
            else:
                page.mouse.wheel(0, -60 if frame % 40 < 20 else 60)
        page.mouse.up()
        report(f"{name}, {way}", page.evaluate("() => window.between"), "")


def report(what: str, frame: list[float], more: str) -> None:
    """Prints a line."""
    print(
        f"{what}: {statistics.mean(frame):.1f} ms a frame (median {statistics.median(frame):.1f}, 95 % "
        f"{sorted(frame)[int(0.95 * len(frame))]:.1f}){more}",
        flush=True,
    )


def main() -> None:
    """Prints a line for each number of points and way to move."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="+", default=[100_000, 500_000])
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--address", help="of a server's page, which is measured in place of made-up points")
    arguments = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(STATIC)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        if arguments.address:
            of_server(page, arguments.address, arguments.frames)
            arguments.points = []
        page.goto(f"http://127.0.0.1:{server.server_port}/columns.js")
        for count in arguments.points:
            found = page.evaluate(MEASURE, [count, arguments.frames])
            for way, times in found["times"].items():
                more = f"; draw {statistics.mean(times['spent']):.1f} ms; prepared once in {found['built']:.0f} ms"
                report(f"{count:,} points, {way}", times["between"], more)
        browser.close()
    server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that says nothing."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


if __name__ == "__main__":
    main()
