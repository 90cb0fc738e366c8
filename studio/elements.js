// Elements without a framework, and without HTML in strings: the policy of the page forbids that.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. `props`: `class`, `text`, `on` (listeners by event), `style` (CSS properties by name), anything else an
 * attribute (true writes it bare, false and null leave it out).
 */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "style") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

let lastId = 0;

/** An id that no other element has. */
export function uniqueId(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}

export function button(text, onClick, props = {}) {
  return h("button", { type: "button", class: "button", text, on: { click: onClick }, ...props });
}

/** Radio buttons in a row. `options`: [value, label]. */
export function segments(legend, name, options, value, onChange) {
  const group = uniqueId(name);
  return h(
    "fieldset",
    { class: "segments" },
    h("legend", { text: legend }),
    options.map(([each, label]) =>
      h(
        "label",
        { class: "segment" },
        h("input", { type: "radio", name: group, value: each, checked: each === value, on: { change: () => onChange(each) } }),
        h("span", { text: label }),
      ),
    ),
  );
}

/** A slider from 0 to 1, unless `range` says otherwise. `onInput` hears every value. */
export function slider(label, value, onInput, { min = 0, max = 1, step = 0.05, note = null, show = (each) => each.toFixed(2) } = {}) {
  const id = uniqueId("slider");
  const shown = h("output", { for: id, text: show(value) });
  const input = h("input", {
    id, type: "range", min, max, step, value,
    "aria-describedby": note ? `${id}-note` : null,
    on: {
      input: () => {
        shown.textContent = show(Number(input.value));
        onInput(Number(input.value));
      },
    },
  });
  return h(
    "div",
    { class: "field" },
    h("div", { class: "row spread" }, h("label", { for: id, class: "label", text: label }), shown),
    input,
    note && h("p", { class: "note", id: `${id}-note`, text: note }),
  );
}

export function checkbox(label, checked, onChange) {
  const input = h("input", { type: "checkbox", checked, on: { change: () => onChange(input.checked) } });
  return h("label", { class: "check" }, input, label);
}

export function select(label, options, value, onChange) {
  const id = uniqueId("select");
  const input = h(
    "select",
    { id, on: { change: () => onChange(input.value) } },
    options.map(([each, text]) => h("option", { value: each, selected: each === value, text })),
  );
  return h("div", { class: "field" }, h("label", { for: id, text: label }), input);
}

/** A label, a bar and a number; `share` is 0 to 1. For `.bars`. */
export function bar(label, share, value, tone = null) {
  return [
    h("span", { text: label }),
    h("span", { class: "bar", "aria-hidden": "true" }, h("i", { style: { "--share": `${clamp(share) * 100}%`, ...(tone && { "--tone": tone }) } })),
    h("span", { class: "value", text: value }),
  ];
}

/** Label and value, large. For `.figures`. */
export function figure(label, value) {
  return h("div", { class: "figure" }, h("dt", { text: label }), h("dd", { text: value }));
}

export function clamp(value, least = 0, most = 1) {
  return Math.min(most, Math.max(least, value));
}

export function megabytes(bytes) {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

export function milliseconds(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

/** Let the browser save a file. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A button that copies what `text()` gives, and says so. */
export function copyButton(label, text, announce) {
  const copy = button(label, async () => {
    try {
      await navigator.clipboard.writeText(await text());
      copy.textContent = "Copied";
      announce("Copied to the clipboard.");
    } catch {
      copy.textContent = "The browser refused";
      announce("The browser did not let the text be copied.");
    }
    setTimeout(() => (copy.textContent = label), 2000);
  });
  return copy;
}

/** A sentence whose `commands` stand in backquotes. */
export function prose(text) {
  return text.split("`").map((part, index) => (index % 2 ? h("code", { text: part }) : part));
}

/** The service's own sentence about what went wrong. */
export function alertOf(error) {
  const facts = [error.code, error.requestId && `request ${error.requestId}`].filter(Boolean).join(" · ");
  return h("div", { class: "alert", role: "alert" }, h("p", {}, prose(error.message)), facts && h("p", { class: "note mono", text: facts }));
}

/**
 * Work of which only the newest run counts: asked for at once, or soon, when nothing more was asked for `ms`.
 * A run gets a signal that says that a newer one has begun.
 */
export function newest(work, ms) {
  let timer = 0;
  let running = new AbortController();
  const now = () => {
    clearTimeout(timer);
    running.abort();
    running = new AbortController();
    return work(running.signal);
  };
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(now, ms);
  };
  return { now, soon };
}
