// Colours of points: those of labels, which the server gives; and of numbers, from light to dark.

import { packed } from "./raster.js";

const RAMP = ["#dbe6f0", "#8fb8dc", "#2f86c5", "#0b4f8a", "#33105e"]; // from the least to the largest
const STEPS = 64;

// {entries, places, palette} of whole numbers: the most frequent get the colours, and all others the rest's.
export function byNumber(numbers, names, colours, rest) {
  const counts = new Array(names.length + 1).fill(0);
  for (const number of numbers) counts[number < 0 ? names.length : number]++;
  const order = names.map((_, number) => number).sort((a, b) => counts[b] - counts[a] || a - b);
  const hexes = names.map(() => rest);
  order.slice(0, colours.length).forEach((number, at) => (hexes[number] = colours[at]));
  const entries = names.map((name, number) => ({ number, name, hex: hexes[number], count: counts[number] }));
  if (counts[names.length]) entries.push({ number: -1, name: "no label", hex: rest, count: counts[names.length] });
  const Type = entries.length > 255 ? Uint16Array : Uint8Array;
  const places = Type.from(numbers, (number) => (number < 0 ? names.length : number));
  return { entries, places, palette: Uint32Array.from([...hexes, rest], packed) };
}

// {places, palette, low, high, unknown} of numbers, of which some may be NaN, unknown: these get the rest's colour.
export function byValue(values, rest) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const scale = (STEPS - 1) / Math.max(high - low, 1e-12);
  const places = Uint8Array.from(values, (value) => (value === value ? Math.round((value - low) * scale) : STEPS));
  const palette = Uint32Array.from([...Array.from({ length: STEPS }, (_, step) => mixed(step / (STEPS - 1))), rest], packed);
  return { places, palette, low, high, unknown: places.includes(STEPS) };
}

export const gradient = `linear-gradient(to right, ${RAMP.join(", ")})`;

function mixed(share) {
  const at = Math.min(RAMP.length - 2, Math.floor(share * (RAMP.length - 1)));
  const part = share * (RAMP.length - 1) - at;
  const channel = (hex, from) => parseInt(hex.slice(from, from + 2), 16);
  const hexes = [1, 3, 5].map((from) => {
    const value = channel(RAMP[at], from) * (1 - part) + channel(RAMP[at + 1], from) * part;
    return Math.round(value).toString(16).padStart(2, "0");
  });
  return `#${hexes.join("")}`;
}
