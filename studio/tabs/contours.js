// The regions of a face as curves: coloured over the photo, named, switched on and off, copied and saved.

import { alertOf, button, checkbox, copyButton, figure, h, newest, s, save, slider } from "../elements.js";
import { dropZone } from "../drop-zone.js";
import { loaded, overlay } from "../picture.js";
import { samplePhoto } from "../samples.js";

export const contours = {
  id: "contours",
  title: "Contours",
  heading: "Every region, as a clean curve",
  lede: "Eyes, brows, lips, nose, cheeks, forehead and the rest, as few smooth curves that share their borders. Point at one to see its name; take them along as SVG, JSON or a mask.",
  paths: ["/api/v1/frontal/crop"],
  missing: ({ health }) => (health.models.face_landmarks?.state === "ready" ? null : { what: "Contours can't be drawn here", reason: health.models.face_landmarks?.reason ?? "This version has no face mesh." }),
  mount: (panel, studio) => new Contours(panel, studio),
};

class Contours {
  #studio;
  #photo = null;
  #map = null;
  #options = { autorotate: true, crop: true, smoothing: 0.5 };
  #hidden = new Set();
  #regions = [];
  #stage = h("div", { class: "stage" }, h("p", { class: "note", text: "The photo appears here." }));
  #name = h("p", { class: "region-name", "aria-hidden": "true", text: "Point at a region" });
  #list = h("div", { class: "regions", role: "group", "aria-label": "Regions" });
  #said = h("div", { class: "stack" });
  #opacity = 0.55;
  #drawing = newest((signal) => this.#run(signal), 220);

  constructor(panel, studio) {
    this.#studio = studio;
    const photo = dropZone({ label: "Drop a photo of a face", hint: "or click to choose", sample: { label: "Use the sample photo", load: samplePhoto }, onFile: (file) => { this.#photo = file; this.#drawing.now(); } });
    const map = dropZone({ label: "Drop a parser's label map", hint: "Optional: it adds hairline, neck, ears, hair and glasses.", clearable: true, onFile: (file) => { this.#map = file; this.#drawing.now(); } });
    const set = (name) => (value) => {
      this.#options[name] = value;
      this.#drawing.soon();
    };
    panel.append(
      h(
        "div",
        { class: "bench" },
        h(
          "div",
          { class: "stack" },
          h("section", { class: "card" }, h("h3", { class: "step", "data-step": "1", text: "The photo" }), photo.element),
          h(
            "section",
            { class: "card" },
            h("h3", { class: "step", "data-step": "2", text: "The drawing" }),
            h(
              "div",
              { class: "stack" },
              h("div", {}, checkbox("Turn until the eyes are level", true, set("autorotate")), checkbox("Cut the face out as a square", true, set("crop"))),
              slider("Smoothing", this.#options.smoothing, set("smoothing"), { note: "0 follows every bend, 1 keeps the large ones." }),
              slider("Opacity", this.#opacity, (value) => { this.#opacity = value; this.#stage.style.setProperty("--region-opacity", value); }),
              h("details", {}, h("summary", { text: "With a label map" }), map.element),
            ),
          ),
          h("section", { class: "card" }, h("h3", { text: "The regions" }), this.#list),
        ),
        h("div", { class: "stack" }, this.#stage, this.#said),
      ),
    );
    this.#stage.style.setProperty("--region-opacity", this.#opacity);
    this.#listRegions();
  }

  #form(...more) {
    return [["image", this.#photo], ["segmentation_map", this.#map], ...Object.entries(this.#options), ...more];
  }

  async #run(signal) {
    if (!this.#photo) return;
    this.#stage.querySelector(".picture")?.classList.add("busy");
    this.#studio.announce("The contours are being drawn.");
    try {
      const ask = (form, accept) => this.#studio.api.request("/api/v1/frontal/crop", { form, accept, signal });
      const answer = await (await ask(this.#form(["output", "json"]))).json();
      const photo = await (await ask(this.#form(["output", "png"], ["png", "photo"]), "image/png")).blob();
      await this.#show(answer.contours, photo, signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#stage.querySelector(".picture")?.classList.remove("busy");
      this.#said.replaceChildren(alertOf(error));
    }
  }

  async #show(document_, photo, signal) {
    const image = await loaded(photo, "The photo, as it was turned and cut");
    signal.throwIfAborted();
    this.#regions = document_.regions;
    const shapes = drawingOrder(this.#regions).map((region) => this.#shape(region));
    const drawing = overlay(document_.width, document_.height, shapes);
    drawing.classList.add("contours");
    drawing.addEventListener("pointerover", (event) => this.#point(event.target.dataset?.region ?? null));
    drawing.addEventListener("pointerleave", () => this.#point(null));
    this.#stage.replaceChildren(h("div", { class: "picture" }, image, drawing), this.#name);
    this.#listRegions();
    this.#applyHidden();
    this.#tell(document_);
    const there = this.#regions.filter((region) => region.available).length;
    this.#studio.announce(`${there} regions are drawn.`);
  }

  #shape(region) {
    const line = region.area === null;
    return s("path", { d: region.path, "data-region": region.id, class: line ? "line" : "area", fill: line ? "none" : region.color, stroke: region.color, "fill-rule": "evenodd" });
  }

  #listRegions() {
    const there = this.#regions.filter((region) => region.available);
    const reasons = Map.groupBy(this.#regions.filter((region) => !region.available), (region) => region.reason);
    const all = (on) => {
      this.#hidden = new Set(on ? [] : there.map((region) => region.id));
      this.#listRegions();
      this.#applyHidden();
    };
    if (!there.length) {
      this.#list.replaceChildren(h("p", { class: "note", text: "They are listed here once there is a photo." }));
      return;
    }
    this.#list.replaceChildren(
      h("div", { class: "row" }, button("All", () => all(true), { class: "button plain" }), button("None", () => all(false), { class: "button plain" })),
      h("div", { class: "region-list" }, there.map((region) => this.#item(region))),
      ...[...reasons].map(([reason, regions]) => h("p", { class: "note" }, h("strong", { text: `No ${regions.map((region) => region.label.toLowerCase()).join(", ")}. ` }), reason)),
    );
  }

  #item(region) {
    const label = checkbox(region.label, !this.#hidden.has(region.id), (on) => {
      if (on) this.#hidden.delete(region.id);
      else this.#hidden.add(region.id);
      this.#applyHidden();
    });
    label.querySelector("input").after(h("i", { class: "key", style: { background: region.color } }));
    label.dataset.region = region.id;
    for (const name of ["pointerenter", "focusin"]) label.addEventListener(name, () => this.#point(region.id));
    for (const name of ["pointerleave", "focusout"]) label.addEventListener(name, () => this.#point(null));
    return label;
  }

  #point(id) {
    const region = this.#regions.find((each) => each.id === id);
    this.#name.textContent = region ? region.label : "Point at a region";
    for (const shape of this.#stage.querySelectorAll("[data-region]")) shape.classList.toggle("pointed", shape.dataset.region === id);
    for (const label of this.#list.querySelectorAll("[data-region]")) label.classList.toggle("pointed", label.dataset.region === id);
  }

  #applyHidden() {
    for (const shape of this.#stage.querySelectorAll("[data-region]")) shape.classList.toggle("off", this.#hidden.has(shape.dataset.region));
  }

  #wanted() {
    return this.#regions.filter((region) => region.available && !this.#hidden.has(region.id)).map((region) => region.id).join(",");
  }

  async #file(accept, more) {
    return this.#studio.api.blob("/api/v1/frontal/crop", { form: this.#form(["regions", this.#wanted()], ...more), accept, saveAs: accept.endsWith("png") ? "mask.png" : "face.svg" });
  }

  #tell(found) {
    const svg = () => this.#file("image/svg+xml", [["output", "svg"]]);
    const guarded = (work) => async () => {
      try {
        await work();
      } catch (error) {
        this.#said.append(alertOf(error));
      }
    };
    const json = JSON.stringify(found, null, 1);
    const nodes = found.regions.reduce((total, region) => total + region.nodes, 0);
    this.#said.replaceChildren(
      h(
        "section",
        { class: "card" },
        h(
          "div",
          { class: "stack" },
          h("dl", { class: "figures" }, figure("Regions", String(found.regions.filter((region) => region.available).length)), figure("Nodes of all curves", String(nodes)), figure("Face in the photo", `${found.face_px.toFixed(0)} px`), figure("Turned by", `${found.transform.roll_deg.toFixed(1)}°`)),
          h(
            "div",
            { class: "row" },
            button("Download SVG", guarded(async () => save(await svg(), "face.svg")), { class: "button main" }),
            copyButton("Copy SVG", async () => (await svg()).text(), this.#studio.announce),
            button("Download mask", guarded(async () => save(await this.#file("image/png", [["output", "png"], ["png", "mask"]]), "mask.png"))),
            button("Download JSON", () => save(new Blob([json], { type: "application/json" }), "face.json")),
            button("Show as curl", this.#studio.requests),
          ),
          found.warnings.map((text) => h("p", { class: "note" }, h("span", { class: "badge warn", text: "Note" }), ` ${text}`)),
        ),
      ),
    );
  }
}

/** Large areas first, so that what lies in them can be pointed at; lines last. */
function drawingOrder(regions) {
  return regions.filter((region) => region.path).toSorted((a, b) => (b.area ?? -1) - (a.area ?? -1));
}
