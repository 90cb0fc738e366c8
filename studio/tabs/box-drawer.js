// A box over a page, dragged with a pointer or moved with the keyboard.

import { clamp, h } from "../elements.js";
import { placeOver } from "../picture.js";

const STEP = 0.02; // of the page's width
const LEAST = 0.04;

/** Puts the box over `picture`; `onDone` gets [x1, y1, x2, y2] in pixels of the page. */
export function boxDrawer(picture, width, height, onDone) {
  let box = [0.36, 0.36, 0.64, 0.64];
  let origin = null;
  const handle = h("button", { type: "button", class: "slot drawn", "aria-label": "Place of the face. Arrow keys move it, Shift and arrow keys change its size, Enter takes it." });
  const sheet = h("div", { class: "draw-sheet" }, handle);

  const place = () => placeOver(handle, box, 1, 1);
  const done = () => onDone([box[0] * width, box[1] * height, box[2] * width, box[3] * height]);
  const at = (event) => {
    const frame = sheet.getBoundingClientRect();
    return [clamp((event.clientX - frame.left) / frame.width), clamp((event.clientY - frame.top) / frame.height)];
  };

  sheet.addEventListener("pointerdown", (event) => {
    origin = at(event);
    sheet.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  sheet.addEventListener("pointermove", (event) => {
    if (!origin) return;
    const [x, y] = at(event);
    box = [Math.min(x, origin[0]), Math.min(y, origin[1]), Math.max(x, origin[0]), Math.max(y, origin[1])];
    place();
  });
  sheet.addEventListener("pointerup", () => {
    const large = origin && box[2] - box[0] >= LEAST && box[3] - box[1] >= LEAST;
    origin = null;
    if (large) done();
  });
  handle.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    if (event.key === "Enter") done();
    if (event.key === "Enter" || event.key in moves) event.preventDefault();
    if (!(event.key in moves)) return;
    const [dx, dy] = moves[event.key];
    const [x1, y1, x2, y2] = box;
    box = event.shiftKey ? [x1, y1, clamp(x2 + dx, x1 + LEAST), clamp(y2 + dy, y1 + LEAST)] : shifted(box, dx, dy);
    place();
  });
  place();
  picture.append(sheet);
  handle.focus();
}

function shifted([x1, y1, x2, y2], dx, dy) {
  const byX = clamp(dx, -x1, 1 - x2);
  const byY = clamp(dy, -y1, 1 - y2);
  return [x1 + byX, y1 + byY, x2 + byX, y2 + byY];
}
