// What runs, on what, under which licence; and what can be installed with one click.

import { alertOf, button, h, megabytes, prose } from "../elements.js";

const STATES = { ready: ["Runs", "good"], missing: ["Missing", "warn"], failing: ["Fails", "bad"] };
const COMMERCIAL = { yes: ["Commercial use", "good"], no: ["No commercial use", "bad"], unclear: ["Commercial use unclear", "warn"] };

export const models = {
  id: "models",
  title: "Models",
  heading: "What runs, and on what",
  lede: "Every engine with the hardware it really uses, and every model with its licence. What is missing says what works without it, and how to get it.",
  paths: ["/models", "/health"],
  missing: () => null,
  mount: (panel, studio) => new Models(panel, studio),
};

class Models {
  #studio;
  #engines = h("div", { class: "cards" });
  #places = new Map(); // of downloads that are followed
  #models = h("div", { class: "cards" });

  constructor(panel, studio) {
    this.#studio = studio;
    panel.append(
      h(
        "div",
        { class: "stack wide" },
        h("section", { class: "stack" }, h("div", { class: "card-head" }, h("h3", { text: "Engines" }), button("Show as curl", studio.requests)), this.#engines),
        h("section", { class: "stack" }, h("div", { class: "card-head" }, h("h3", { text: "Models" }), h("p", { class: "note", text: "New face models are used from the next start of the service on, image models at once." })), this.#models),
      ),
    );
    this.#draw();
  }

  async shown() {
    try {
      await this.#studio.refresh();
      this.#draw();
    } catch (error) {
      this.#engines.prepend(alertOf(error));
    }
  }

  #draw() {
    const focused = document.activeElement?.dataset?.model;
    this.#engines.replaceChildren(...Object.entries(this.#studio.health.models).map(([name, engine]) => engineCard(name, engine)));
    this.#models.replaceChildren(...this.#studio.models.map((model) => this.#modelCard(model)));
    if (focused) this.#models.querySelector(`[data-model="${CSS.escape(focused)}"]`)?.focus();
  }

  #modelCard(model) {
    const [words, tone] = COMMERCIAL[model.commercial_use];
    const followed = this.#places.get(model.name);
    const place = followed ?? h("div", { class: "stack" });
    if (!followed && model.pull?.state === "downloading") this.#follow(model, place);
    else if (!followed && !model.installed && model.pull_name) place.append(this.#offer(model, place));
    return h(
      "section",
      { class: "card model" },
      h("div", { class: "card-head" }, h("h4", { text: model.name }), h("span", { class: `badge ${model.installed ? "good" : ""}`, text: model.installed ? "Installed" : "Not installed" })),
      h("p", { class: "note", text: model.about }),
      h("p", {}, h("span", { class: `badge ${tone}`, text: words })),
      h("p", { class: "note", text: `${model.licence}${model.bytes ? ` · ${megabytes(model.bytes)}` : ""}` }),
      place,
      h(
        "details",
        {},
        h("summary", { text: model.files.length === 1 ? "Its file" : `Its ${model.files.length} files` }),
        h("ul", { class: "files" }, model.files.map((file) => h("li", {}, h("span", { class: "mono", text: file.name }), h("span", { class: "note mono", text: file.sha256 ? `SHA-256 ${file.sha256}` : "no checksum is recorded" })))),
        model.how_to_get && h("p", { class: "note" }, "On the machine itself: ", h("code", { text: model.how_to_get })),
      ),
    );
  }

  #offer(model, place) {
    const size = model.bytes ? ` (${megabytes(model.bytes)})` : "";
    return button(`Download${size}`, () => this.#follow(model, place), { "data-model": model.name, "aria-label": `Download ${model.name}${size}` });
  }

  /** Start the installation, or join the one that is under way, and show how far it is. */
  async #follow(model, place) {
    const bar = h("progress", { max: 1, "aria-label": `Download of ${model.name}` });
    const words = h("p", { class: "note", role: "status", text: "Asking for it." });
    this.#places.set(model.name, place);
    place.replaceChildren(bar, words);
    let last = null;
    try {
      await this.#studio.api.events(`/models/${encodeURIComponent(model.pull_name)}`, { method: "PUT" }, (_, pull) => {
        last = pull;
        const total = pull.total ?? model.bytes;
        if (total) bar.value = pull.done / total;
        words.textContent = total ? `${megabytes(pull.done)} of ${megabytes(total)}` : "It is under way; its size isn't known.";
      }).finally(() => this.#places.delete(model.name));
      if (last?.state === "failed") throw Object.assign(new Error(last.error), { code: "MODEL_DOWNLOAD" });
      this.#studio.announce(`${model.name} is installed.`);
      await this.#studio.refresh();
      this.#draw();
    } catch (error) {
      place.replaceChildren(alertOf(error), this.#offer(model, place));
    }
  }
}

function engineCard(name, { state, engine, provider, reason }) {
  const [words, tone] = STATES[state] ?? [state, ""];
  const title = name.replaceAll("_", " ").replace("tryon", "try-on");
  return h(
    "section",
    { class: "card model" },
    h("div", { class: "card-head" }, h("h4", { text: title.charAt(0).toUpperCase() + title.slice(1) }), h("span", { class: `badge ${tone}`, text: words })),
    engine && h("p", { text: engine }),
    provider && h("p", { class: "note", text: `on ${provider}` }),
    reason && h("p", { class: "note" }, prose(reason)),
  );
}
