// The map of a report: it colours, moves and names the points. columns.js and raster.js stand before it in one module.

const $ = (name) => document.getElementById(`map-${name}`);
const FOUND = "#c1121f";

async function unpacked(text) {
  const stream = new Blob([fromBase64(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return parseColumns(await new Response(stream).arrayBuffer());
}

async function begin() {
  const { header, columns } = await unpacked($("points").textContent.trim());
  const canvas = $("canvas");
  const raster = new Raster(canvas, columns.x, columns.y);
  const ways = waysOf(header, columns);
  const sprite = new Image();
  const tiles = header.tiles;
  if (tiles) sprite.src = $("sprite").textContent.trim();
  const pictured = tiles ? [...columns.picture.keys()].filter((row) => columns.picture[row] >= 0) : [];
  let way = Object.keys(ways)[0];
  let chosen = -1;
  let found = null; // what is looked for, as a way to colour

  function draw() {
    raster.draw();
    if (chosen < 0 || !raster.seen(chosen)) return;
    const [px, py] = raster.toPixel(chosen);
    const context = raster.context;
    context.lineWidth = 3 * raster.ratio;
    context.strokeStyle = "#111111";
    context.beginPath();
    context.arc(px * raster.ratio, py * raster.ratio, (raster.size / 2 + 4) * raster.ratio, 0, 7);
    context.stroke();
  }

  function colour() {
    const { places, palette } = found ?? ways[way];
    const shown = palette.slice();
    const boxes = found ? [] : ($(`legend-${way}`)?.querySelectorAll("input") ?? []);
    for (const box of boxes) if (!box.checked) shown[box.value] = 0;
    raster.colour(places, shown);
    for (const name of Object.keys(ways)) if ($(`legend-${name}`)) $(`legend-${name}`).hidden = name !== way;
    draw();
  }

  // The nearest point that has a picture, at most 60 pixels away.
  function near(row) {
    if (columns.picture[row] >= 0) return row;
    const [px, py] = raster.toPixel(row);
    let best = -1;
    let least = 60 ** 2;
    for (const other of pictured) {
      if (!raster.seen(other)) continue;
      const [x, y] = raster.toPixel(other);
      const far = (x - px) ** 2 + (y - py) ** 2;
      if (far < least) [best, least] = [other, far];
    }
    return best;
  }

  function choose(row) {
    chosen = row;
    const tip = $("tip");
    tip.hidden = row < 0;
    draw();
    if (row < 0) return;
    $("said").textContent = wordsOf(header, columns, row);
    const picture = $("picture");
    const shown = tiles ? near(row) : -1;
    picture.hidden = shown < 0;
    $("other").textContent = shown >= 0 && shown !== row ? `picture: ${nameOf(header, shown)}, near it` : "";
    if (shown >= 0) {
      const place = columns.picture[shown];
      const { side, across } = tiles;
      const at = [(place % across) * side, Math.floor(place / across) * side];
      const context = picture.getContext("2d");
      context.imageSmoothingEnabled = side > 40;
      context.drawImage(sprite, ...at, side, side, 0, 0, picture.width, picture.height);
    }
    const [px, py] = raster.toPixel(row);
    const left = px + 16 + tip.offsetWidth > raster.wide ? px - 16 - tip.offsetWidth : px + 16;
    const top = py + 16 + tip.offsetHeight > raster.high ? py - 16 - tip.offsetHeight : py + 16;
    tip.style.left = `${Math.max(4, Math.min(left, raster.wide - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(top, raster.high - tip.offsetHeight - 4))}px`;
  }

  const moved = () => choose(chosen);

  function zoom(factor, px, py) {
    raster.zoom(factor, px, py);
    moved();
  }

  function whole() {
    raster.fit();
    moved();
  }

  const fingers = new Map();
  let travelled = 0;
  const at = (event) => [event.offsetX, event.offsetY];
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, at(event));
    travelled = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    const now = at(event);
    if (!before) {
      const row = event.pointerType === "mouse" ? raster.pick(...now) : chosen;
      if (row !== chosen) choose(row);
      return;
    }
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    travelled += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (other) {
      const apart = (place) => Math.max(1, Math.hypot(place[0] - other[0], place[1] - other[1]));
      raster.zoom(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else if (travelled > 4) {
      raster.pan(now[0] - before[0], now[1] - before[1]);
    }
    fingers.set(event.pointerId, now);
    moved();
  });
  canvas.addEventListener("pointerup", (event) => {
    fingers.delete(event.pointerId);
    if (travelled <= 4) choose(raster.pick(...at(event), event.pointerType === "mouse" ? 8 : 22));
  });
  canvas.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && choose(-1));
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && document.activeElement !== canvas) return; // the page scrolls
      event.preventDefault();
      zoom(Math.exp((-event.deltaY * (event.deltaMode ? 15 : 1)) / 300), ...at(event)); // in pixels, or in lines
    },
    { passive: false },
  );
  const arrows = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's
    if (event.key in arrows) {
      const first = chosen < 0 ? raster.pick(raster.wide / 2, raster.high / 2, 1e6) : chosen;
      const next = chosen < 0 ? first : raster.next(chosen, ...arrows[event.key]);
      if (next >= 0) {
        raster.show(next);
        choose(next);
      }
    } else if (event.key === "+" || event.key === "=") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else if (event.key === "0") whole();
    else if (event.key === "Escape") choose(-1);
    else return;
    event.preventDefault();
  });
  $("in").addEventListener("click", () => zoom(1.5));
  $("out").addEventListener("click", () => zoom(1 / 1.5));
  $("whole").addEventListener("click", whole);
  $("find").addEventListener("input", (event) => {
    const text = event.target.value.trim().toLowerCase();
    const has = (name) => name !== null && name.toLowerCase().includes(text);
    const labels = (header.labels ?? []).map(has);
    const places = new Uint8Array(columns.x.length);
    for (let row = 0; row < places.length; row++) places[row] = has(nameOf(header, row)) || labels[columns.label?.[row]] ? 1 : 0;
    found = text ? { places, palette: Uint32Array.from([header.rest, FOUND], packed) } : null;
    $("count").textContent = text ? `${places.reduce((sum, one) => sum + one, 0).toLocaleString("en")} found` : "";
    colour();
  });
  $("colour")?.addEventListener("change", (event) => {
    way = event.target.value;
    choose(-1);
    colour();
  });
  $("tools").addEventListener("change", (event) => event.target.type === "checkbox" && colour());
  for (const button of document.querySelectorAll("[data-check]")) {
    button.addEventListener("click", () => {
      const boxes = button.closest(".legend").querySelectorAll("input");
      for (const box of boxes) box.checked = button.dataset.check === "all";
      colour();
    });
  }
  new ResizeObserver(() => {
    raster.resize();
    raster.fit();
    moved();
  }).observe(canvas);
  colour();
}

// The ways to colour: for each point a place in a palette. The last place of labels is that of no label.
function waysOf(header, columns) {
  const ways = {};
  if (columns.label) {
    const named = header.colours.length;
    const places = Uint8Array.from(columns.label, (label) => (label < 0 ? named + 1 : Math.min(label, named)));
    ways.label = { places, palette: Uint32Array.from([...header.colours, header.rest, header.rest], packed) };
  }
  if (columns.error) {
    const places = Uint8Array.from(columns.error, (wrong) => header.bins.filter((least) => wrong >= least).length);
    ways.error = { places, palette: Uint32Array.from(header.errors, packed) };
  }
  if (!columns.label) {
    const places = new Uint8Array(columns.x.length);
    ways.none = { places, palette: Uint32Array.from([header.colours[0]], packed) };
  }
  return ways;
}

function nameOf(header, row) {
  return header.ids ? header.ids[row] : `item ${row + 1}`;
}

function wordsOf(header, columns, row) {
  const words = [nameOf(header, row)];
  if (columns.label) {
    const label = columns.label[row];
    words.unshift(label < 0 ? "no label" : `label ${header.labels ? header.labels[label] : label + 1}`);
  }
  if (columns.error && columns.label[row] >= 0) words.push(`${columns.error[row]} of its ${header.k} nearest have another label`);
  return words.join(" · ");
}

begin().catch((error) => {
  $("said").textContent = `The map can't be shown: ${error.message}.`;
  $("tip").hidden = false;
});
