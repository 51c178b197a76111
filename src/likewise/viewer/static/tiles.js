// Items as small pictures, which are buttons: one opens the item.

import { pictureOf } from "./api.js";

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// The picture of an item, or its id where the picture is gone.
export function picture(id, alt) {
  const image = element("img", { src: pictureOf(id), alt, loading: "lazy", width: 96, height: 96 });
  image.addEventListener("error", () => image.replaceWith(element("span", { className: "text", textContent: id })));
  return image;
}

// item: {id, label, score, wrong, row}; how: {pictures, number, open(item, tile), hover(item or null)}.
export function tile(item, how) {
  const name = nameOf(item, how.pictures);
  const number = item.score === undefined ? "" : how.number(item.score);
  const said = `${item.id}${item.label ? `, label ${item.label}` : ""}${number ? `, ${number}` : ""}${item.wrong ? ", another label than the query" : ""}`;
  const button = element(
    "button",
    { type: "button", className: item.wrong ? "tile wrong" : "tile", title: item.id },
    ...(how.pictures ? [picture(item.id, "")] : []),
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
  const image = source ? [element("img", { src: source, alt: "" })] : pictures ? [picture(id, "")] : [];
  const name = element("span", { className: "name", textContent: nameOf({ id, label }, pictures || source) });
  return element("span", { className: "tile query", title: id }, ...image, name, element("span", { className: "number", textContent: "query" }));
}

// The label below a picture; the id too, where there is no picture, or no label.
function nameOf({ id, label }, pictured) {
  if (label === null || label === undefined) return id;
  return pictured ? label : `${id} · ${label}`;
}

export function fill(list, items, how) {
  list.replaceChildren(...items.map((item) => element("li", {}, tile(item, how))));
}
