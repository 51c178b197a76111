// The map of a report: it colours and names the points. columns.js, raster.js and gestures.js stand before it in one
// module.

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

  const draw = onceAFrame(() => {
    raster.draw();
    if (chosen < 0 || !raster.seen(chosen)) return;
    const [px, py] = raster.toPixel(chosen);
    const context = raster.context;
    context.lineWidth = 3 * raster.ratio;
    context.strokeStyle = "#111111";
    context.beginPath();
    context.arc(px * raster.ratio, py * raster.ratio, (raster.size / 2 + 4) * raster.ratio, 0, 7);
    context.stroke();
  });

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

  const gestures = new Gestures(canvas, raster, {
    changed: () => choose(chosen),
    hover: (row) => row !== chosen && choose(row),
    tap: choose,
    step: (dx, dy) => {
      const next = raster.next(chosen, dx, dy);
      if (next < 0) return;
      raster.show(next);
      choose(next);
    },
    leave: () => choose(-1),
  });
  $("in").addEventListener("click", () => gestures.zoom(1.5));
  $("out").addEventListener("click", () => gestures.zoom(1 / 1.5));
  $("whole").addEventListener("click", () => gestures.whole());
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
    choose(chosen);
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

if ($("canvas")) begin().catch((error) => {
  $("said").textContent = `The map can't be shown: ${error.message}.`;
  $("tip").hidden = false;
});
