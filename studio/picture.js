// A picture with something over it, and the slider between two.

import { h, s } from "./elements.js";

/** The picture of a file or URL, once it is decoded; null where this browser can't show it. */
export async function loaded(source, alt) {
  const own = typeof source === "string" ? null : URL.createObjectURL(source);
  const image = h("img", { alt, src: own ?? source });
  try {
    await image.decode();
    return image;
  } catch {
    return null;
  } finally {
    if (own) URL.revokeObjectURL(own);
  }
}

/** A drawing over a picture, in the picture's own pixels. */
export function overlay(width, height, ...children) {
  return s("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, ...children);
}

/** Place an element over a box [x1, y1, x2, y2] of a picture. */
export function placeOver(element, [x1, y1, x2, y2], width, height) {
  const place = { left: x1 / width, top: y1 / height, width: (x2 - x1) / width, height: (y2 - y1) / height };
  for (const [name, share] of Object.entries(place)) element.style.setProperty(name, `${share * 100}%`);
  return element;
}

const START = 38; // percent of the picture that show what was before

/** Before and after in one frame. The line is a slider: it takes arrow keys, and a finger. */
export function comparison(before, after, { beforeName, afterName, label }) {
  const frame = h("div", { class: "picture compare" });
  const range = h("input", { type: "range", min: 0, max: 100, value: START, "aria-label": label });
  const move = () => {
    frame.style.setProperty("--at", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${range.value} % ${beforeName}, ${100 - range.value} % ${afterName}`);
  };
  range.addEventListener("input", move);
  frame.append(before, h("div", { class: "compare-after" }, after), range, h("span", { class: "compare-line" }), h("span", { class: "tag left", text: beforeName, "aria-hidden": "true" }), h("span", { class: "tag right", text: afterName, "aria-hidden": "true" }));
  move();
  return { element: frame, range };
}
