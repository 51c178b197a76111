// The map: what is drawn of it, and what was done on it, which is told through the functions in `told`.

import { Gestures, onceAFrame } from "./gestures.js";
import { Raster } from "./raster.js";

const SIDES = [[-1, 0], [1, 0], [0, 1], [0, -1]];

export class MapView {
  // place: the element with the two canvases; told: {hover(row, px, py), open(row, finger), search(row), lasso(polygon),
  // at(row), leave()}.
  constructor(place, told) {
    this.place = place;
    this.told = told;
    this.dots = place.querySelector("canvas");
    this.over = place.querySelectorAll("canvas")[1];
    this.pen = this.over.getContext("2d");
    this.raster = null;
    this.gestures = null;
    this.polygon = null; // of the last lasso, in units of the map
    this.cursor = -1; // the point that is opened, or that the keyboard is at
    this.pointed = -1; // the point whose picture the mouse or the focus is at
    this.query = -1;
    this.hits = []; // {row, wrong}
    this.draw = onceAFrame(() => {
      if (!this.raster) return;
      this.raster.draw();
      this.mark();
    });
  }

  show(x, y) {
    this.raster = new Raster(this.dots, x, y);
    this.gestures = new Gestures(
      this.place,
      this.raster,
      {
        changed: this.draw,
        hover: this.told.hover,
        tap: (row, px, py, finger) => this.tap(row, px, py, finger),
        step: (dx, dy) => this.step(dx, dy),
        leave: this.told.leave,
        path: (corners) => this.traced(corners),
      },
      true,
    );
    this.place.addEventListener("dblclick", (event) => {
      const row = this.raster.pick(...this.gestures.placeOf(event));
      if (row >= 0) this.told.search(row);
    });
    this.place.addEventListener("keydown", (event) => {
      if (this.cursor < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Enter") this.told.open(this.cursor);
      if (event.key === "s") this.told.search(this.cursor);
    });
    new ResizeObserver(() => {
      this.raster.resize();
      this.draw();
    }).observe(this.place);
    this.draw();
  }

  // Rings around the query, the hits and the keyboard's point; the lasso.
  mark() {
    const { pen, raster } = this;
    this.over.width = raster.wide * raster.ratio;
    this.over.height = raster.high * raster.ratio;
    pen.scale(raster.ratio, raster.ratio);
    const radius = raster.size / 2 + 4;
    for (const { row, wrong } of this.hits) {
      const [px, py] = raster.toPixel(row);
      if (wrong) this.outline(() => pen.rect(px - radius, py - radius, 2 * radius, 2 * radius), "#b3261e", [3, 2]);
      else this.outline(() => pen.arc(px, py, radius, 0, 7), "#1c2733");
    }
    if (this.query >= 0) this.outline(() => pen.arc(...raster.toPixel(this.query), radius + 4, 0, 7), "#000000", [], 3);
    const crossed = this.pointed >= 0 ? this.pointed : this.cursor;
    if (crossed >= 0) {
      const [px, py] = raster.toPixel(crossed);
      this.outline(() => {
        for (const [dx, dy] of SIDES) {
          pen.moveTo(px + dx * (radius + 2), py + dy * (radius + 2));
          pen.lineTo(px + dx * (radius + 11), py + dy * (radius + 11));
        }
      }, "#000000", [], 2.5);
    }
    const corners = this.gestures.path || (this.polygon && this.polygon.map((corner) => raster.pixelOf(...corner)));
    if (corners && corners.length > 1) {
      this.outline(() => {
        corners.forEach(([px, py], at) => (at ? pen.lineTo(px, py) : pen.moveTo(px, py)));
        pen.closePath();
      }, "#0a5aa8", [5, 3]);
      pen.fillStyle = "#0a5aa81a";
      pen.fill();
    }
  }

  outline(trace, colour, dashes = [], width = 1.8) {
    const { pen } = this;
    pen.beginPath();
    trace();
    pen.setLineDash([]);
    pen.strokeStyle = "#ffffff";
    pen.lineWidth = width + 2;
    pen.stroke();
    pen.setLineDash(dashes);
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.stroke();
  }

  tap(row, px, py, finger) {
    if (row < 0) return;
    if (finger) this.told.hover(row, px, py); // a finger can't hover
    this.told.open(row, finger);
  }

  step(dx, dy) {
    const next = this.raster.next(this.cursor, dx, dy);
    if (next < 0) return;
    this.at(next);
    this.told.at(next);
  }

  // Marks a point, and moves the view where it is not in it.
  at(row) {
    this.cursor = row;
    if (this.raster) this.raster.show(row);
    this.draw();
  }

  traced(corners) {
    this.polygon = thinned(corners).map((corner) => this.raster.toMap(...corner));
    this.told.lasso(this.polygon);
  }

  clear() {
    this.cursor = -1;
    this.polygon = null;
    this.draw();
  }

  // A bit for each point, whether legend and slider show it.
  shown() {
    const { raster } = this;
    const bits = new Uint8Array(Math.ceil(raster.rows / 8));
    for (let row = 0; row < raster.rows; row++) if (raster.seen(row)) bits[row >> 3] |= 1 << (row & 7);
    return bits;
  }

  // The corners of what is in view, as a polygon.
  view() {
    const { wide, high } = this.raster;
    return [[0, 0], [wide, 0], [wide, high], [0, high]].map((corner) => this.raster.toMap(...corner));
  }
}

// At most 500 corners of a path.
function thinned(path) {
  const step = Math.ceil(path.length / 500);
  return path.filter((_, at) => at % step === 0);
}
