// Draws many points into a canvas on the CPU: no WebGL, no library.
//
//   const raster = new Raster(canvas, x, y);                 // two Float32Arrays of equal length
//   raster.colour(places, palette);                          // a place in the palette for each point
//   raster.fit(); raster.draw();
//   raster.pick(px, py)                                      // the row under the pointer, or -1
//
// Pixels are CSS pixels from the canvas's upper left corner. After the canvas has changed its size on the page, call
// resize(). It fetches nothing and adds no listeners, so it can stand in a page of one file: see columns.js.

// A colour of "#rrggbb" as the number that an image's bytes hold; 0 draws nothing.
export function packed(hex) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

const MARGIN = 24; // CSS pixels around all points
const CLOSEST = 4000; // times the first scale

export class Raster {
  constructor(canvas, x, y) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.x = x;
    this.y = y;
    this.rows = x.length;
    this.background = packed("#ffffff");
    this.order = shuffled(this.rows); // of drawing; else the last label would cover the others
    this.drawn = { x: x.slice(), y: y.slice(), places: null }; // in that order, read in one go
    this.order.forEach((row, at) => ([this.drawn.x[at], this.drawn.y[at]] = [x[row], y[row]]));
    this.colour(new Uint8Array(this.rows), new Uint32Array([packed("#0a66c2")]));
    this.hidden = null; // Uint8Array: 1 of a point that is not drawn
    this.grid = new Grid(x, y);
    this.scale = 1; // CSS pixels for a unit of the map
    this.centre = [0, 0]; // of the view, in units of the map
    this.resize();
    this.fit();
  }

  // places: Uint8Array or Uint16Array, one for each point; palette: Uint32Array of packed(...), 0 for points not drawn.
  colour(places, palette) {
    this.places = places;
    this.palette = palette;
    this.drawn.places = places.slice();
    for (let at = 0; at < this.rows; at++) this.drawn.places[at] = places[this.order[at]];
  }

  // Keeps the view; one that shows all points goes on to show them.
  resize() {
    const fitted = this.scale === this.first;
    const ratio = Math.min(2, globalThis.devicePixelRatio || 1);
    this.ratio = ratio;
    this.wide = Math.max(1, this.canvas.clientWidth);
    this.high = Math.max(1, this.canvas.clientHeight);
    this.canvas.width = Math.round(this.wide * ratio);
    this.canvas.height = Math.round(this.high * ratio);
    this.image = this.context.createImageData(this.canvas.width, this.canvas.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    if (fitted) this.fit();
  }

  // The view that shows all points.
  fit() {
    const { low, high } = this.grid;
    this.centre = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2];
    const across = Math.max(high[0] - low[0], 1e-9);
    const along = Math.max(high[1] - low[1], 1e-9);
    this.scale = Math.max(1e-9, Math.min((this.wide - 2 * MARGIN) / across, (this.high - 2 * MARGIN) / along));
    this.first = this.scale;
  }

  // Moves the picture by CSS pixels.
  pan(dx, dy) {
    this.centre[0] -= dx / this.scale;
    this.centre[1] += dy / this.scale;
  }

  // Zooms about a pixel, which keeps its place.
  zoom(factor, px = this.wide / 2, py = this.high / 2) {
    const [x, y] = this.toMap(px, py);
    this.scale = Math.min(Math.max(this.scale * factor, this.first / 4), this.first * CLOSEST);
    const [nx, ny] = this.toMap(px, py);
    this.centre[0] += x - nx;
    this.centre[1] += y - ny;
  }

  // Moves the view, if a point is not in it, so that the point is in the middle.
  show(row) {
    const [px, py] = this.toPixel(row);
    if (px < 0 || py < 0 || px > this.wide || py > this.high) this.centre = [this.x[row], this.y[row]];
  }

  toMap(px, py) {
    return [this.centre[0] + (px - this.wide / 2) / this.scale, this.centre[1] - (py - this.high / 2) / this.scale];
  }

  toPixel(row) {
    return this.pixelOf(this.x[row], this.y[row]);
  }

  pixelOf(x, y) {
    return [this.wide / 2 + (x - this.centre[0]) * this.scale, this.high / 2 - (y - this.centre[1]) * this.scale];
  }

  seen(row) {
    return this.palette[this.places[row]] !== 0 && !(this.hidden && this.hidden[row]);
  }

  // The side of a point in CSS pixels: less where points are many, more when zoomed in.
  get size() {
    const least = this.rows < 1500 ? 7 : this.rows < 8000 ? 5 : this.rows < 40000 ? 3 : this.rows < 200000 ? 2 : 1;
    const grown = least * Math.sqrt(Math.max(1, this.scale / this.first));
    return Math.min(Math.max(least, 11), Math.round(grown));
  }

  draw() {
    const { pixels, palette, hidden, order, ratio } = this;
    const { x, y, places } = this.drawn;
    const wide = this.canvas.width;
    const high = this.canvas.height;
    pixels.fill(this.background);
    const side = Math.max(1, Math.round(this.size * ratio));
    const offsets = disc(side, wide);
    const scale = this.scale * ratio;
    const left = wide / 2 - this.centre[0] * scale - side / 2 + 1;
    const top = high / 2 + this.centre[1] * scale - side / 2 + 1;
    for (let at = 0; at < places.length; at++) {
      const colour = palette[places[at]];
      if (colour === 0 || (hidden !== null && hidden[order[at]] === 1)) continue;
      const px = (x[at] * scale + left) | 0;
      const py = (top - y[at] * scale) | 0;
      if (px < 1 || py < 1 || px + side > wide || py + side > high) continue;
      const corner = py * wide + px;
      for (let each = 0; each < offsets.length; each++) pixels[corner + offsets[each]] = colour;
    }
    this.context.putImageData(this.image, 0, 0);
  }

  // The row of the point drawn nearest to a pixel, at most `reach` away; -1 where there is none.
  pick(px, py, reach = Math.max(8, this.size)) {
    const [x, y] = this.toMap(px, py);
    return this.grid.nearest(x, y, reach / this.scale, (row) => this.seen(row));
  }

  // The nearest point that is drawn to the right, left, above or below of a point: (1, 0), (-1, 0), (0, 1), (0, -1); that
  // in the middle of the view, where row is -1. -1 where there is none.
  next(row, dx, dy) {
    if (row < 0) return this.pick(this.wide / 2, this.high / 2, Math.max(this.wide, this.high));
    let best = -1;
    let least = Infinity;
    for (let other = 0; other < this.rows; other++) {
      const across = this.x[other] - this.x[row];
      const along = this.y[other] - this.y[row];
      const ahead = across * dx + along * dy;
      const aside = Math.abs(across * dy) + Math.abs(along * dx);
      if (ahead <= 0 || aside > ahead || !this.seen(other)) continue;
      const far = ahead + 2 * aside;
      if (far < least) [best, least] = [other, far];
    }
    return best;
  }
}

// Cells of the plane with the rows in each, by which the point nearest to a place is found.
class Grid {
  constructor(x, y) {
    this.x = x;
    this.y = y;
    const low = [Infinity, Infinity];
    const high = [-Infinity, -Infinity];
    for (let row = 0; row < x.length; row++) {
      low[0] = Math.min(low[0], x[row]);
      high[0] = Math.max(high[0], x[row]);
      low[1] = Math.min(low[1], y[row]);
      high[1] = Math.max(high[1], y[row]);
    }
    this.low = x.length ? low : [0, 0];
    this.high = x.length ? high : [1, 1];
    this.side = Math.max(1, Math.min(1024, Math.round(Math.sqrt(x.length / 2))));
    this.step = Math.max(this.high[0] - this.low[0], this.high[1] - this.low[1], 1e-9) / this.side;
    this.starts = new Uint32Array(this.side * this.side + 1);
    this.rows = new Uint32Array(x.length);
    const cells = new Uint32Array(x.length);
    for (let row = 0; row < x.length; row++) {
      cells[row] = this.cell(y[row], 1) * this.side + this.cell(x[row], 0);
      this.starts[cells[row] + 1]++;
    }
    for (let cell = 1; cell < this.starts.length; cell++) this.starts[cell] += this.starts[cell - 1];
    const filled = this.starts.slice();
    for (let row = 0; row < x.length; row++) this.rows[filled[cells[row]]++] = row;
  }

  cell(value, axis) {
    return Math.min(this.side - 1, Math.max(0, Math.floor((value - this.low[axis]) / this.step)));
  }

  nearest(x, y, reach, allowed) {
    let best = -1;
    let least = reach * reach;
    for (let along = this.cell(y - reach, 1); along <= this.cell(y + reach, 1); along++) {
      const first = along * this.side;
      const start = this.starts[first + this.cell(x - reach, 0)];
      const stop = this.starts[first + this.cell(x + reach, 0) + 1];
      for (let at = start; at < stop; at++) {
        const row = this.rows[at];
        const far = (this.x[row] - x) ** 2 + (this.y[row] - y) ** 2;
        if (far <= least && allowed(row)) [best, least] = [row, far];
      }
    }
    return best;
  }
}

// Numbers up to `count` in an order that is the same each time.
function shuffled(count) {
  const order = Uint32Array.from({ length: count }, (_, row) => row);
  let state = 1;
  for (let at = count - 1; at > 0; at--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = state % (at + 1);
    [order[at], order[other]] = [order[other], order[at]];
  }
  return order;
}

// The places of the pixels of a disc in an image, from its upper left corner.
function disc(side, wide) {
  const middle = (side - 1) / 2;
  const reach = side < 3 ? side : side / 2; // two pixels by two are a square
  const offsets = [];
  for (let line = 0; line < side; line++) {
    for (let along = 0; along < side; along++) {
      if (Math.hypot(line - middle, along - middle) <= reach) offsets.push(line * wide + along);
    }
  }
  return Int32Array.from(offsets);
}
