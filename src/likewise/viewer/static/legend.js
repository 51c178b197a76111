// What the colours of points mean: a list of labels that can be hidden, or a ramp of numbers.

import { gradient } from "./colours.js";
import { element } from "./tiles.js";

// An <li> for each of {number, name, hex, count}; changed(number, shown) when one is hidden or shown.
export function labelList(entries, changed) {
  return entries.map(({ number, name, hex, count }) => {
    const box = element("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => changed(number, box.checked));
    const many = element("span", { className: "quiet", textContent: count.toLocaleString("en") });
    return element("li", {}, element("label", {}, box, swatch("swatch", hex), element("span", {}, name, " ", many)));
  });
}

// One <li>; low and high are texts, rest is the colour of what is not known, null where all is.
export function ramp(low, high, rest) {
  const unknown = rest === null ? [] : [swatch("swatch", rest), "not known"];
  return element("li", {}, element("span", {}, low, swatch("ramp", gradient), high, ...unknown));
}

function swatch(name, background) {
  const made = element("span", { className: name });
  made.style.background = background;
  return made;
}
