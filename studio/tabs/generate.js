// A picture from words, and from someone's photo; its steps as they come.

import { alertOf, button, figure, h, milliseconds, save, segments, slider, uniqueId } from "../elements.js";
import { FileUrl } from "../curl.js";
import { dropZone } from "../drop-zone.js";
import { loaded } from "../picture.js";
import { samplePhoto } from "../samples.js";

const STYLES = ["soft watercolour and ink", "gouache picture book", "coloured pencil on rough paper", "flat paper collage", "lively comic in bold ink"];
const SIZES = ["auto", "1024x1024", "1216x832", "832x1216", "768x768", "512x512"];
const PARTIAL_IMAGES = 3;

export const generate = {
  id: "generate",
  title: "Generate",
  heading: "Draw it from words",
  lede: "Say what is to be seen, and how it is drawn; add a photo, and the picture looks at it. You see it come into being.",
  paths: ["/v1/images", "/images"],
  missing: ({ health }) => (health.models.image_generation?.state === "ready" ? null : { what: "Pictures can't be generated here yet", reason: health.models.image_generation?.reason ?? "This version of the service has no image generation." }),
  mount: (panel, studio) => new Generate(panel, studio),
};

class Generate {
  #studio;
  #photo = null;
  #count = 1;
  #weight = 0.6;
  #quality = "high";
  #stop = null;
  #fields = {};
  #stage = h("div", { class: "stage" }, h("p", { class: "note", text: "The picture appears here." }));
  #said = h("div", { class: "stack" });
  #go = h("button", { type: "submit", class: "button main", text: "Draw it" });

  constructor(panel, studio) {
    this.#studio = studio;
    const photo = dropZone({ label: "Drop a photo of someone", hint: "Optional: the picture looks at it.", sample: { label: "Use the sample photo", load: samplePhoto }, clearable: true, onFile: (file) => { this.#photo = file; this.#weightField.hidden = !file; } });
    panel.append(
      h(
        "form",
        { class: "bench", on: { submit: (event) => { event.preventDefault(); this.#run(); } } },
        h(
          "div",
          { class: "stack" },
          h("section", { class: "card" }, h("h3", { class: "step", "data-step": "1", text: "The words" }), this.#words()),
          h("section", { class: "card" }, h("h3", { class: "step", "data-step": "2", text: "Someone in it" }), h("div", { class: "stack" }, photo.element, this.#weightField)),
          h("section", { class: "card" }, h("h3", { class: "step", "data-step": "3", text: "How" }), this.#controls()),
        ),
        h("div", { class: "stack" }, this.#stage, this.#said),
      ),
    );
  }

  #weightField = h("div", { hidden: true }, slider("How much the photo counts", this.#weight, (value) => (this.#weight = value), { note: "0 is not at all, 1 is most." }));

  #field(name, label, tag, props) {
    const id = uniqueId("generate");
    this.#fields[name] = h(tag, { id, ...props });
    return h("div", { class: "field" }, h("label", { for: id, text: label }), this.#fields[name]);
  }

  #suggested(name, label, values, props = {}) {
    const list = uniqueId("list");
    return [this.#field(name, label, "input", { type: "text", list, ...props }), h("datalist", { id: list }, values.map((value) => h("option", { value })))];
  }

  #words() {
    return h(
      "div",
      { class: "stack" },
      this.#field("prompt", "What is to be seen", "textarea", { required: true, maxlength: 4000, placeholder: "A fox reading to a small bear by lamplight" }),
      this.#suggested("style_prompt", "Style", STYLES, { placeholder: STYLES[0] }),
      this.#field("negative_prompt", "What is not to be seen", "input", { type: "text" }),
      h("div", { class: "row" }, this.#go),
    );
  }

  #controls() {
    const number = (name, label, props) => this.#field(name, label, "input", { type: "number", ...props });
    return h(
      "div",
      { class: "stack" },
      segments("Pictures", "n", [[1, "1"], [2, "2"], [4, "4"]], 1, (value) => (this.#count = value)),
      segments("Quality", "quality", [["high", "Product"], ["low", "Preview"]], "high", (value) => (this.#quality = value)),
      this.#suggested("size", "Size", SIZES, { value: "auto" }),
      h("details", {}, h("summary", { text: "More options" }), h("div", { class: "stack" }, number("num_inference_steps", "Steps", { min: 1, max: 100 }), number("guidance_scale", "Guidance", { min: 0, max: 30, step: 0.5 }), number("seed", "Seed", { min: 0 }), this.#field("lora_id", "LoRA", "input", { type: "text" }))),
    );
  }

  async #wish() {
    const text = (name) => this.#fields[name].value.trim() || undefined;
    const number = (name) => (this.#fields[name].value === "" ? undefined : Number(this.#fields[name].value));
    return {
      prompt: text("prompt"), style_prompt: text("style_prompt"), negative_prompt: text("negative_prompt"), n: Number(this.#count), size: text("size"), quality: this.#quality,
      num_inference_steps: number("num_inference_steps"), guidance_scale: number("guidance_scale"), seed: number("seed"), lora_id: text("lora_id"),
      ...(this.#photo && { reference_image_url: await FileUrl.of(this.#photo), ip_adapter_scale: this.#weight }),
      stream: true, partial_images: PARTIAL_IMAGES,
    };
  }

  async #run() {
    if (this.#stop) return;
    this.#stop = new AbortController();
    const bar = h("progress", { max: 1, "aria-label": "Steps" });
    const words = h("p", { class: "note", role: "status", text: "Waiting for its turn. The first picture loads the model." });
    const began = performance.now();
    const pictures = [];
    const grid = h("div", { class: "made" });
    this.#stage.scrollIntoView({ block: "nearest" });
    this.#go.disabled = true;
    this.#said.replaceChildren(h("section", { class: "card stack" }, bar, words, h("div", { class: "row" }, button("Cancel", () => this.#stop.abort()))));
    const on = (name, data) => {
      const kind = name.split(".").at(-1);
      if (name === "error") throw Object.assign(new Error(data.detail), { code: data.code });
      if (kind === "in_progress") {
        bar.value = data.progress;
        words.textContent = `Step ${data.step} of ${data.steps}`;
      } else if (data.b64_json) this.#place(grid, pictures, data, kind === "completed");
    };
    try {
      await this.#studio.api.events("/v1/images/generations", { json: await this.#wish(), signal: this.#stop.signal }, on);
      this.#finish(pictures, performance.now() - began);
    } catch (error) {
      this.#said.replaceChildren(error.name === "AbortError" ? h("p", { class: "note", role: "status", text: "It was cancelled." }) : alertOf(error));
    } finally {
      this.#stop = null;
      this.#go.disabled = false;
    }
  }

  async #place(grid, pictures, data, done) {
    const blob = decoded(data.b64_json, data.output_format ?? "png");
    const step = done ? Infinity : data.partial_image_index;
    if (pictures[data.index]?.step > step) return;
    pictures[data.index] = { blob, step, seed: data.seed, size: data.size, model: data.model, blocked: data.blocked, warnings: data.warnings };
    const image = await loaded(blob, done ? `Picture ${data.index + 1}` : `Picture ${data.index + 1}, on its way`);
    if (!image || pictures[data.index].step > step) return;
    if (!grid.isConnected) this.#stage.replaceChildren(grid);
    const frame = h("div", { class: `picture ${done ? "" : "busy"}`, "data-index": data.index }, image);
    const old = grid.querySelector(`[data-index="${data.index}"]`);
    if (old) old.replaceWith(frame);
    else grid.append(frame);
  }

  #finish(pictures, ms) {
    const made = pictures.filter((each) => each?.step === Infinity);
    const { blocked = 0, warnings = [] } = made[0] ?? {};
    this.#said.replaceChildren(
      h(
        "section",
        { class: "card" },
        h(
          "div",
          { class: "row spread" },
          h("dl", { class: "figures" }, figure("Drawn in", milliseconds(ms)), made[0] && figure("Size", made[0].size ?? ""), figure(made.length === 1 ? "Seed" : "Seeds", made.map((each) => each.seed).join(", ")), made[0]?.model && figure("Model", made[0].model.split("/").at(-1))),
          h("div", { class: "row" }, made.map((each, index) => button(made.length === 1 ? "Download" : `Download ${index + 1}`, () => save(each.blob, `picture-${each.seed}.png`), { class: "button main" })), button("Show as curl", this.#studio.requests)),
        ),
        blocked ? h("p", { class: "note", text: `${blocked} kept back by the content filter.` }) : null,
        warnings.map((text) => h("p", { class: "note" }, h("span", { class: "badge warn", text: "Note" }), ` ${text}`)),
      ),
    );
    this.#studio.announce("The picture is drawn.");
  }
}

function decoded(base64, format) {
  return new Blob([Uint8Array.from(atob(base64), (each) => each.charCodeAt(0))], { type: `image/${format}` });
}
