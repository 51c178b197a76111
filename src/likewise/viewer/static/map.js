// The map: drawing, pointer and keyboard. What was done is told through the functions in `told`.

import { Raster } from "./raster.js";

const CLICK = 5; // CSS pixels that a pointer may move in a click
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

export class MapView {
  // place: the element with the two canvases; told: {hover(row, px, py), open(row), search(row), lasso(polygon), at(row)}.
  constructor(place, told) {
    this.place = place;
    this.told = told;
    this.dots = place.querySelector("canvas");
    this.over = place.querySelectorAll("canvas")[1];
    this.pen = this.over.getContext("2d");
    this.raster = null;
    this.lassoing = false;
    this.path = null; // of the lasso, in pixels
    this.polygon = null; // the last one, in units of the map
    this.cursor = -1; // the point that the keyboard is at
    this.query = -1;
    this.hits = []; // {row, wrong}
    this.pointers = new Map();
    this.waiting = false;
  }

  show(x, y) {
    this.raster = new Raster(this.dots, x, y);
    new ResizeObserver(() => this.resize()).observe(this.place);
    this.place.addEventListener("pointerdown", (event) => this.down(event));
    this.place.addEventListener("pointermove", (event) => this.moved(event));
    this.place.addEventListener("pointerup", (event) => this.up(event));
    this.place.addEventListener("pointercancel", (event) => this.up(event, true));
    this.place.addEventListener("pointerleave", () => this.told.hover(-1, 0, 0));
    this.place.addEventListener("dblclick", (event) => this.picked(event, (row) => this.told.search(row)));
    this.place.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.place.addEventListener("keydown", (event) => this.key(event));
    this.draw();
  }

  resize() {
    const fitted = this.raster.scale === this.raster.first;
    this.raster.resize();
    if (fitted) this.raster.fit();
    this.draw();
  }

  draw() {
    if (this.waiting || !this.raster) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.raster.draw();
      this.mark();
    });
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
    if (this.cursor >= 0) {
      const [px, py] = raster.toPixel(this.cursor);
      this.outline(() => {
        for (const [dx, dy] of Object.values(ARROWS)) {
          pen.moveTo(px + dx * (radius + 2), py + dy * (radius + 2));
          pen.lineTo(px + dx * (radius + 11), py + dy * (radius + 11));
        }
      }, "#000000", [], 2.5);
    }
    const corners = this.path || (this.polygon && this.polygon.map(([x, y]) => this.pixelOf(x, y)));
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

  pixelOf(x, y) {
    const { raster } = this;
    return [raster.wide / 2 + (x - raster.centre[0]) * raster.scale, raster.high / 2 - (y - raster.centre[1]) * raster.scale];
  }

  placeOf(event) {
    const box = this.place.getBoundingClientRect();
    return [event.clientX - box.left - this.place.clientLeft, event.clientY - box.top - this.place.clientTop];
  }

  picked(event, then) {
    const row = this.raster.pick(...this.placeOf(event));
    if (row >= 0) then(row);
  }

  down(event) {
    if (event.button !== 0) return;
    this.place.setPointerCapture(event.pointerId);
    const at = this.placeOf(event);
    this.pointers.set(event.pointerId, at);
    this.travelled = 0;
    if (this.lassoing && this.pointers.size === 1) this.path = [at];
    else this.path = null;
    this.told.hover(-1, 0, 0);
  }

  moved(event) {
    const at = this.placeOf(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType === "mouse") this.told.hover(this.raster.pick(...at), ...at);
      return;
    }
    const [dx, dy] = [at[0] - before[0], at[1] - before[1]];
    this.travelled += Math.hypot(dx, dy);
    if (this.pointers.size === 2) this.pinch(event.pointerId, before, at);
    else if (this.path) this.path.push(at);
    else this.raster.pan(dx, dy);
    this.pointers.set(event.pointerId, at);
    this.draw();
  }

  // Two fingers zoom about their middle, and move.
  pinch(moving, before, at) {
    const [other] = [...this.pointers].filter(([pointer]) => pointer !== moving).map(([, place]) => place);
    const apart = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]) || 1;
    this.raster.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
    this.raster.zoom(apart(at) / apart(before), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
  }

  up(event, cancelled = false) {
    if (!this.pointers.delete(event.pointerId)) return;
    const path = this.path;
    this.path = null;
    if (!cancelled && this.travelled < CLICK) {
      this.picked(event, (row) => this.open(row));
    } else if (!cancelled && path && path.length > 2) {
      this.polygon = thinned(path).map((corner) => this.raster.toMap(...corner));
      this.told.lasso(this.polygon);
    }
    this.draw();
  }

  wheel(event) {
    event.preventDefault();
    this.raster.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...this.placeOf(event));
    this.draw();
  }

  zoom(factor) {
    this.raster.zoom(factor);
    this.draw();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { raster } = this;
    if (event.key in ARROWS) {
      const next = this.cursor < 0 ? this.middle() : raster.next(this.cursor, ...ARROWS[event.key]);
      if (next >= 0) this.go(next);
    } else if (event.key === "Enter" && this.cursor >= 0) this.told.open(this.cursor);
    else if (event.key === "s" && this.cursor >= 0) this.told.search(this.cursor);
    else if (event.key === "+" || event.key === "=") this.zoom(1.4);
    else if (event.key === "-") this.zoom(1 / 1.4);
    else if (event.key === "0") this.whole();
    else if (event.key === "Escape") this.clear();
    else return;
    event.preventDefault();
  }

  // The point nearest to the middle of the view.
  middle() {
    return this.raster.pick(this.raster.wide / 2, this.raster.high / 2, Math.max(this.raster.wide, this.raster.high));
  }

  go(row) {
    this.cursor = row;
    this.raster.show(row);
    this.told.at(row);
    this.draw();
  }

  open(row) {
    this.cursor = row;
    this.told.open(row);
    this.draw();
  }

  whole() {
    this.raster.fit();
    this.draw();
  }

  clear() {
    this.cursor = -1;
    this.polygon = null;
    this.draw();
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
