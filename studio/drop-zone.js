// A place for one picture: dropped, pasted, chosen, or the bundled sample.

import { button, h } from "./elements.js";

/**
 * `label` names it, `hint` says what fits, `sample` ({label, load}) offers one of our own, `onFile(file)` hears of each.
 * With `preview` false the picture is shown elsewhere, or there are several (`multiple`). One that can be done without is
 * `clearable`: `onFile(null)` says that it was taken away.
 */
export function dropZone({ label, hint, sample, onFile, preview = true, multiple = false, clearable = false, accept = "image/*,.heic,.heif,.avif" }) {
  const input = h("input", { type: "file", accept, multiple, "aria-label": label });
  const image = h("img", { class: "drop-preview", alt: "", hidden: true });
  const name = h("span", { class: "note" });
  const words = h("span", {}, h("strong", { text: label }), h("span", { class: "note", text: hint }));
  const clear = clearable && button("Remove", takeAway, { class: "button plain", hidden: true });
  const area = h("div", { class: "drop-area" }, image, words, input);
  const zone = h("div", { class: "drop" }, area, h("div", { class: "row spread" }, name, clear, sample && button(sample.label, useSample, { class: "button plain" })));
  let url = null;

  function take(files) {
    const pictures = [...files].slice(0, multiple ? 50 : 1);
    if (!pictures.length) return;
    if (preview) show(pictures[0]);
    for (const file of pictures) onFile(file);
  }

  function show(file) {
    if (url) URL.revokeObjectURL(url);
    url = URL.createObjectURL(file);
    image.src = url;
    image.alt = `${label}: ${file.name}`;
    image.hidden = false;
    image.onerror = () => {
      image.hidden = true; // HEIC in most browsers: the service reads it all the same
    };
    words.hidden = true;
    name.textContent = file.name;
    zone.classList.add("filled");
    if (clear) clear.hidden = false;
  }

  function takeAway() {
    image.hidden = true;
    words.hidden = false;
    name.textContent = "";
    zone.classList.remove("filled");
    clear.hidden = true;
    input.focus();
    onFile(null);
  }

  async function useSample() {
    take([await sample.load()]);
  }

  input.addEventListener("change", () => {
    take(input.files);
    input.value = "";
  });
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  zone.addEventListener("dragleave", (event) => zone.contains(event.relatedTarget) || zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    take(event.dataTransfer.files);
  });
  zone.addEventListener("paste", (event) => take(event.clipboardData.files));
  return { element: zone, take, useSample };
}
