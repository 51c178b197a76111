// The page: what is searched, selected, coloured and shown.

import { blob, bytes, json, toBase64, upload } from "./api.js";
import { byNumber, byValue } from "./colours.js";
import { parseColumns } from "./columns.js";
import { takeFiles } from "./dropped.js";
import { showGroups } from "./groups.js";
import { Histogram } from "./histogram.js";
import { labelList, ramp } from "./legend.js";
import { MapView } from "./map.js";
import { asked, element, fill, picture, tile } from "./tiles.js";

const NONE = "There is no verdict, which needs a model and its data.";
const STEP = 60; // tiles of a selection that are added at once
const $ = (id) => document.getElementById(id);
const count = (number) => number.toLocaleString("en");
const many = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
const percent = (share) => `${Math.round(100 * share)} %`;

const state = {
  about: null, columns: {}, header: null, // of the server
  query: null, selection: null, selecting: null, asked: 0, opened: 0, // what was asked for last
  hidden: new Set(), chose: false, // what the legend hides; whether people chose the colour or what is hidden
};
const known = new Map(); // items by row
const say = (text, bad = false) => {
  $("said").textContent = text;
  $("said").classList.toggle("bad", bad);
};
const failed = (error) => say(`${error.message[0].toUpperCase()}${error.message.slice(1)}`, true);

const view = new MapView($("map"), { hover, open: openRow, search: searchRow, lasso: select, at: announce, leave: forget });
const histogram = new Histogram($("range"), filter);
const how = (number) => ({ pictures: state.about.pictures, number, open: openItem, hover: point });

// --- Items

async function items(rows) {
  const missing = rows.filter((row) => !known.has(row));
  for (let start = 0; start < missing.length; start += 500) {
    for (const item of await json(`api/items?rows=${missing.slice(start, start + 500)}`)) known.set(item.row, item);
  }
  return rows.map((row) => known.get(row));
}

async function announce(row) {
  try {
    const [item] = await items([row]);
    if (view.cursor === row) say(`${item.id}${item.label === null ? "" : `, label ${item.label}`}`);
  } catch (error) {
    failed(error);
  }
}

// A finger stays on the map, where the item's picture is.
function openRow(row, finger) {
  openItem({ row }, !finger);
}

async function openItem({ row, id }, scroll = true) {
  if (row === null) return searchId(id); // an index on servers has no rows
  const turn = ++state.opened;
  try {
    const [whole] = await items([row]);
    if (turn !== state.opened) return;
    view.at(row);
    showCard(whole);
    if (scroll) $("card").scrollIntoView({ block: "nearest" });
    say(`Opened ${whole.id}.`);
  } catch (error) {
    failed(error);
  }
}

function showCard(whole) {
  const facts = { label: whole.label, ...whole.columns };
  const list = element("dl");
  for (const [name, value] of Object.entries(facts)) {
    if (value !== null) list.append(element("dt", { textContent: name }), element("dd", { textContent: String(value) }));
  }
  const button = element("button", { type: "button", textContent: "Search from here" });
  button.addEventListener("click", () => searchId(whole.id));
  const text = element("div", {}, element("h3", { textContent: whole.id }), list, button);
  const image = state.about.pictures ? [picture(whole.id, `Picture of ${whole.id}`)] : [];
  $("card").replaceChildren(...image, text);
  $("card").hidden = false;
}

let hovering = -1;
async function hover(row, px, py) {
  hovering = row;
  if (row < 0) return ($("tip").hidden = true);
  const [item] = await items([row]).catch(() => [null]);
  if (hovering !== row || !item) return;
  const lines = [element("span", { textContent: item.label === null ? item.id : `${item.label} · ${item.id}` })];
  if (state.about.pictures) lines.unshift(picture(item.id, ""));
  $("tip").replaceChildren(...lines);
  $("tip").hidden = false;
  const left = px > $("map").clientWidth - 190 ? px - 12 - $("tip").offsetWidth : px + 14;
  $("tip").style.left = `${Math.max(4, left)}px`;
  $("tip").style.top = `${Math.min(py + 10, $("map").clientHeight - $("tip").offsetHeight - 6)}px`;
}

function point(item) {
  view.pointed = item && item.row !== null ? item.row : -1;
  view.draw();
}

// --- Search

const asking = () => ({ k: Math.min($("k").value, state.about.limits.k), where: $("where").value.trim() ? [$("where").value.trim()] : [] });

async function searchRow(row) {
  try {
    searchId((await items([row]))[0].id);
  } catch (error) {
    failed(error);
  }
}

function searchId(id) {
  $("search").value = id;
  search({ id }, () => ({ id }));
}

function searchPicture(file) {
  if (!file || !file.type.startsWith("image/")) return say("That is no picture; drop a file such as a PNG or JPEG.", true);
  const shown = { id: file.name || "the picture", source: URL.createObjectURL(file) };
  search(shown, async () => ({ embedding: (await upload("api/embed?as_query=true", file)).embedding }));
}

// shown: {id, source}, as it is called and looks; what: gives {id} or {embedding}.
async function search(shown, what) {
  const turn = ++state.asked;
  say("Searching …");
  try {
    const query = await what();
    const { query: own, hits } = await json("api/search", { ...query, ...asking() });
    if (turn !== state.asked) return;
    if (state.query && state.query.source) URL.revokeObjectURL(state.query.source);
    state.query = { ...shown, row: own.row, label: own.label, hits };
    showHits();
    const scores = state.columns.x ? parseColumns(await bytes("api/scores.bin", query)).columns.score : null;
    if (turn !== state.asked || !scores) return;
    state.columns.score = scores;
    offerColours(state.chose ? $("colour").value : "score");
  } catch (error) {
    if (turn === state.asked) failed(error);
  }
}

function showHits() {
  const { id, row, label, hits, source } = state.query;
  const wrong = hits.filter((hit) => hit.wrong).length;
  $("found").hidden = false;
  $("found-title").textContent = `Nearest to ${id}`;
  const judged = label === null ? "" : ` Framed and marked ✗: another label than the query, ${label}.`;
  $("found-note").textContent = `The number is the cosine: 1 is the same direction.${judged}`;
  fill($("hits"), hits, how((score) => score.toFixed(3)));
  $("hits").prepend(element("li", {}, asked({ id, label, source }, state.about.pictures)));
  if (matchMedia("(max-width: 860px)").matches) $("found").scrollIntoView(); // the map is above, not beside
  view.query = row === null ? -1 : row;
  view.hits = hits.filter((hit) => hit.row !== null);
  view.draw();
  if (!hits.length) return say(asking().where.length ? "No item fits the condition." : "There is no other item.");
  const best = ` The nearest is ${hits[0].id}${hits[0].label === null ? "" : `, label ${hits[0].label}`}.`;
  say(`${many(hits.length, "hit")} for ${id}${label === null ? "" : `, label ${label}: ${wrong} with another label`}.${best}`);
}

// --- Selection

async function select(polygon) {
  const area = { polygon, where: asking().where, shown: toBase64(view.shown()) };
  state.selecting = area;
  say("Selecting …");
  try {
    const found = await json("api/inside", area);
    if (state.selecting !== area) return;
    state.selection = { area, rows: found.rows, shown: 0 };
    $("chosen").hidden = false;
    const parts = Object.entries(found.labels).map(([name, number]) => `${name}: ${count(number)}`);
    const more = parts.length > 8 ? `, and ${parts.length - 8} more labels` : "";
    const text = `${many(found.count, "item")}${parts.length ? ` (${parts.slice(0, 8).join(", ")}${more})` : ""}.`;
    $("chosen-note").textContent = text;
    $("list").replaceChildren();
    await showMore();
    say(`Selected ${text}`);
  } catch (error) {
    failed(error);
  }
}

async function showMore() {
  const { selection } = state;
  const rows = selection.rows.slice(selection.shown, selection.shown + STEP);
  selection.shown += rows.length;
  const part = await items(rows);
  if (selection !== state.selection) return;
  $("list").append(...part.map((item) => element("li", {}, tile(item, how(() => "")))));
  $("more").hidden = selection.shown >= selection.rows.length;
}

async function save() {
  try {
    const address = URL.createObjectURL(await blob("api/inside.csv", state.selection.area));
    element("a", { href: address, download: "selection.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
    say("Saved the ids and labels of the selection as selection.csv.");
  } catch (error) {
    failed(error);
  }
}

function forget() {
  if (state.selection) say("The selection is cleared.");
  state.selection = state.selecting = null;
  $("chosen").hidden = true;
  view.clear();
}

// --- Colours, legend, filters

const COLOURS = {
  label: "label",
  cluster: "cluster",
  score: "similarity to the query",
  error: "neighbours of another label",
  distance: "distance to the 10th nearest",
};

function offerColours(chosen) {
  const before = $("colour").value;
  const there = Object.keys(COLOURS).filter((name) => state.columns[name]);
  $("colour").replaceChildren(...there.map((name) => element("option", { value: name, textContent: COLOURS[name] })));
  $("colour").value = chosen;
  if (chosen !== before || chosen === "score") colour(); // else what is hidden stays hidden
}

function colour() {
  const name = $("colour").value;
  state.hidden.clear();
  filter(null);
  if (name === "label" || name === "cluster") {
    const clusters = name === "cluster" ? Math.max(...state.columns.cluster) + 1 : 0;
    const names = name === "label" ? state.header.labels : Array.from({ length: clusters }, (_, number) => `cluster ${number + 1}`);
    state.coloured = byNumber(state.columns[name], names, state.header.colours, state.header.rest);
    histogram.hide();
    explain(name === "label" ? "Labels" : "Clusters (k-means)", labelList(state.coloured.entries, hide), true);
  } else {
    state.coloured = byValue(state.columns[name], state.header.rest);
    histogram.show(state.columns[name], COLOURS[name]);
    const { low, high, unknown } = state.coloured;
    const text = name === "error" ? percent : (value) => value.toFixed(3);
    const title = COLOURS[name][0].toUpperCase() + COLOURS[name].slice(1);
    explain(title, [ramp(text(low), text(high), unknown ? state.header.rest : null)], false);
  }
  repaint();
}

function repaint() {
  const { places, palette, entries } = state.coloured;
  const shown = palette.slice();
  if (entries) entries.forEach(({ number }, at) => state.hidden.has(number) && (shown[at] = 0));
  view.raster.colour(places, shown);
  view.draw();
}

function explain(title, lines, labels) {
  $("legend").hidden = false;
  $("legend-title").textContent = title;
  $("legend").querySelector(".buttons").hidden = !labels;
  $("legend-list").replaceChildren(...lines);
}

function hide(number, shown) {
  state.chose = true;
  state.hidden[shown ? "delete" : "add"](number);
  repaint();
}

// Hides the points whose number is less; null shows all.
function filter(least) {
  const values = state.columns[$("colour").value];
  view.raster.hidden = least === null ? null : Uint8Array.from(values, (value) => (value >= least ? 0 : 1));
  const from = $("colour").value === "score" && least !== null ? least : -Infinity;
  [...$("hits").querySelectorAll("button")].forEach((each, at) => each.classList.toggle("below", state.query.hits[at].score < from));
  view.draw();
}

function all(shown) {
  state.chose = true;
  for (const box of $("legend-list").querySelectorAll("input")) box.checked = shown;
  state.hidden = new Set(shown ? [] : state.coloured.entries.map(({ number }) => number));
  repaint();
}

// --- Start

function mode(lassoing) {
  view.gestures.lassoing = lassoing;
  $("map").classList.toggle("lasso", lassoing);
  $("lasso").setAttribute("aria-pressed", lassoing);
  $("move").setAttribute("aria-pressed", !lassoing);
}

function listen() {
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if ($("search").value.trim()) searchId($("search").value.trim());
  });
  $("file").addEventListener("change", () => $("file").files.length && searchPicture($("file").files[0]));
  $("colour").addEventListener("change", () => {
    state.chose = true;
    colour();
  });
  $("move").addEventListener("click", () => mode(false));
  $("lasso").addEventListener("click", () => mode(true));
  $("closer").addEventListener("click", () => view.gestures.zoom(1.5));
  $("further").addEventListener("click", () => view.gestures.zoom(1 / 1.5));
  $("whole").addEventListener("click", () => view.gestures.whole());
  $("view-list").addEventListener("click", () => select(view.view()));
  $("save").addEventListener("click", save);
  $("forget").addEventListener("click", forget);
  $("more").addEventListener("click", () => showMore().catch(failed));
  $("legend-all").addEventListener("click", () => all(true));
  $("legend-none").addEventListener("click", () => all(false));
  document.addEventListener("keydown", (event) => {
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(document.activeElement.tagName);
    if (event.key === "/" && !typing) {
      event.preventDefault();
      $("search").focus();
    }
  });
  takeFiles($("over"), searchPicture);
}

async function start() {
  const about = (state.about = await json("api/about"));
  const run = about.run.split("/").filter(Boolean).pop() || about.run;
  document.title = `likewise: ${run}`;
  $("run").textContent = run;
  $("counts").textContent = `${many(about.items, "item")}, ${about.dim} numbers each; ${about.engine}`;
  $("command").textContent = about.command;
  $("missing").textContent = about.why_no_pictures;
  document.body.classList.toggle("words", about.kind === "words");
  if (about.kind === "words") $("search-label").textContent = "A word";
  document.body.classList.toggle("plain", !about.pictures); // tiles are lines of text
  $("drop").hidden = about.kind !== "images" && !about.pictures;
  $("where-label").hidden = !about.metadata.length;
  $("where").placeholder = `${about.metadata[0]} = …`;
  $("columns").textContent = about.metadata.length ? `Columns: ${about.metadata.join(", ")}. Signs: = != < <= > >= in` : "";
  for (const [name, value] of Object.entries(about.protocol)) {
    $("protocol").append(element("dt", { textContent: name }), element("dd", { textContent: String(value) }));
  }
  listen();
  showGroups($("group-rows"), $("group-note"), document.querySelectorAll("[data-kind]"), how);
  await Promise.all([map(), verdict()]);
}

async function map() {
  try {
    const watch = setInterval(progress, 1000);
    const loaded = bytes("api/points.bin").finally(() => clearInterval(watch));
    const { header, columns, rows } = parseColumns(await loaded);
    state.columns = columns;
    state.header = header;
    $("map-note").hidden = true;
    $("faithful").textContent = `${header.map.sentence} ${header.note}`;
    $("map").setAttribute("aria-label", `Map of ${many(rows, "item")}`);
    view.show(columns.x, columns.y);
    offerColours(columns.label ? "label" : "cluster");
  } catch (error) {
    $("map-note").textContent = `There is no map: ${error.message}`;
    for (const control of document.querySelectorAll(".left button, .left select")) control.disabled = true;
  }
}

async function progress() {
  const { share } = await json("api/progress").catch(() => ({ share: 0 }));
  if (share) $("map-note").textContent = `Making the map, this once: ${percent(share)}`;
}

async function verdict() {
  const list = (place, lines) => place.replaceChildren(...lines.map((text) => element("li", { textContent: text })));
  try {
    const { sentence, signs, advice } = await json("api/verdict");
    const none = state.about.kind === "words" ? "Words have no verdict; likewise evaluate measures them." : NONE;
    $("verdict").textContent = sentence || none;
    $("why").hidden = !signs.length;
    list($("signs"), signs);
    list($("advice"), advice);
    $("advice-title").hidden = !advice.length;
  } catch (error) {
    $("verdict").textContent = `There is no verdict: ${error.message}`;
  }
}

start().catch(failed);
