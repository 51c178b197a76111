// Items as small pictures, which are buttons: one opens the item.

import { pictureOf } from "./api.js";

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// The picture of an item, or its id where items have no pictures.
export function picture(id, pictures, alt) {
  if (!pictures) return element("span", { className: "text", textContent: id });
  const image = element("img", { src: pictureOf(id), alt, loading: "lazy", width: 96, height: 96 });
  image.addEventListener("error", () => image.replaceWith(element("span", { className: "text", textContent: id })));
  return image;
}

// item: {id, label, score, wrong, row}; how: {pictures, number, open(item, tile), hover(item or null)}.
export function tile(item, how) {
  const bare = item.label === null || item.label === undefined;
  const name = bare ? item.id : how.pictures ? item.label : `${item.id} · ${item.label}`;
  const number = item.score === undefined ? "" : how.number(item.score);
  const said = `${item.id}${item.label ? `, label ${item.label}` : ""}${number ? `, ${number}` : ""}${item.wrong ? ", another label than the query" : ""}`;
  const button = element(
    "button",
    { type: "button", className: item.wrong ? "tile wrong" : "tile", title: item.id },
    ...(how.pictures ? [picture(item.id, true, "")] : []),
    element("span", { className: "name", textContent: item.wrong ? `✗ ${name}` : name }),
    element("span", { className: "number", textContent: number }),
  );
  button.setAttribute("aria-label", said);
  button.addEventListener("click", () => how.open(item));
  for (const start of ["pointerenter", "focus"]) button.addEventListener(start, () => how.hover(item));
  for (const end of ["pointerleave", "blur"]) button.addEventListener(end, () => how.hover(null));
  return button;
}

// What was searched for, before its hits: {id, label, source}; source is the address of a picture that is no item's.
export function asked({ id, label, source }, pictures) {
  const image = source ? element("img", { src: source, alt: "" }) : picture(id, pictures, "");
  const name = element("span", { className: "name", textContent: label ?? "" });
  return element("span", { className: "tile query" }, image, name, element("span", { className: "number", textContent: "query" }));
}

export function fill(list, items, how) {
  list.replaceChildren(...items.map((item) => element("li", {}, tile(item, how))));
}
