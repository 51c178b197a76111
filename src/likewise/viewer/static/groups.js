// Rows of pictures that are worth a look: weakest and suspect labels, outliers, near-copies.

import { json } from "./api.js";
import { element, tile } from "./tiles.js";

// how(number): how tiles are shown; number turns a score into text.
export function showGroups(place, note, buttons, how) {
  let turn = 0;
  const show = async (button) => {
    const own = ++turn;
    for (const each of buttons) each.setAttribute("aria-pressed", each === button);
    note.textContent = "Computing; this may take a while for many items …";
    place.replaceChildren();
    try {
      const { sentence, number, groups } = await json(`api/groups?kind=${button.dataset.kind}`);
      if (own !== turn) return;
      note.textContent = groups.length ? `${sentence} The number: ${number}.` : sentence;
      const shown = how((score) => score.toFixed(2));
      place.replaceChildren(...groups.map(({ title, items }) => row(title, items, shown)));
    } catch (error) {
      if (own === turn) note.textContent = `This can't be shown: ${error.message}`;
    }
  };
  for (const button of buttons) button.addEventListener("click", () => show(button));
}

function row(title, items, how) {
  const tiles = element("ul", { className: "tiles" }, ...items.map((item) => element("li", {}, tile(item, how))));
  return element("section", { className: "row" }, element("h3", { textContent: title }), tiles);
}
