// A garment on a person: draft or final, its stages as they run, every term of its quality, and what was made before.

import { alertOf, bar, button, checkbox, clamp, figure, h, milliseconds, prose, save, segments, select, slider } from "../elements.js";
import { dropZone } from "../drop-zone.js";
import { comparison, loaded } from "../picture.js";
import { sampleGarment, samplePerson } from "../samples.js";

const TYPES = ["auto", "tshirt", "shirt", "longsleeve", "hoodie", "jacket", "dress", "pants", "shorts", "skirt"];
const STAGES = [
  ["load", "Read both photos"], ["segmentation", "Find the person"], ["pose", "Find the pose"], ["garment", "Cut out the garment"], ["alignment", "Bend it onto the body"],
  ["quality", "Judge the fit"], ["finish", "Light and shadows"], ["generation", "The image model's photograph"], ["storage", "Keep the result"],
];
const REALISM = ["", "Laid in behind hair and hands", "The old garment painted over", "In the photo's light", "With shadows", "With the folds of the worn garment"];
const TERMS = {
  cover: ["Covers the body", "What of the trunk stays bare that the garment should cover."],
  spill: ["Stays on the body", "What of the garment lies outside the person."],
  sim: ["Not bent", "How far the anchors are from a mere turn and scale."],
  redet: ["Hems where they belong", "How far the outline lies from where it was aimed."],
  fold: ["Not folded over", "What of the garment is turned over."],
  rough: ["Smooth outline", "How much longer the outline became."],
  residue: ["Old garment gone", "What still looks like the garment worn before."],
  invented: ["Little was invented", "What had to be painted in: skin and background."],
  aspect: ["Proportions kept", "How differently it is stretched across and down."],
  lopsided: ["Garment seen from the front", "How unlike its two halves are in the product photo."],
  square: ["Has a neckline", "How much too square a top's shoulders are."],
  mistaken: ["The garment it was said to be", "Whether its outline looks like another kind."],
};

export const tryOn = {
  id: "try-on",
  title: "Try-on",
  heading: "See it on",
  lede: "A person and a garment laid flat. The draft is made here, on the processor; a final picture asks a hosted image model, and only if you choose it.",
  paths: ["/api/tryon", "/api/v1/jobs"],
  missing: ({ health }) => (health.models.virtual_tryon?.state === "ready" ? null : { what: "Nothing can be tried on here", reason: health.models.virtual_tryon?.reason ?? "This version of the service has no virtual try-on." }),
  mount: (panel, studio) => new TryOn(panel, studio),
};

class TryOn {
  #studio;
  #person = null;
  #garment = null;
  #options = { garment_type: "auto", mode: "draft", realism_level: 3, max_retries: 2, preserve_face: true, preserve_background: true, seed: 0 };
  #stop = null;
  #photos = new Map(); // of this visit's jobs: the person, for the comparison
  #stage = h("div", { class: "stage" }, h("p", { class: "note", text: "The person appears here." }));
  #stages = h("ol", { class: "stages", hidden: true, "aria-label": "Stages" });
  #said = h("div", { class: "stack" });
  #history = h("div", { class: "shelf history" });
  #go = button("Try it on", () => this.#run(), { class: "button main", disabled: true });

  constructor(panel, studio) {
    this.#studio = studio;
    const person = dropZone({ label: "Drop a photo of a person", hint: "Standing, seen from the front, head to hips at least.", sample: { label: "Use the drawn figure", load: samplePerson }, onFile: (file) => this.#take("person", file) });
    const garment = dropZone({ label: "Drop a photo of a garment", hint: "Alone, laid flat, before a plain background.", sample: { label: "Use the drawn shirt", load: sampleGarment }, onFile: (file) => this.#take("garment", file) });
    panel.append(
      h(
        "div",
        { class: "bench" },
        h(
          "div",
          { class: "stack" },
          h("section", { class: "card" }, h("h3", { class: "step", "data-step": "1", text: "The person" }), person.element),
          h("section", { class: "card" }, h("h3", { class: "step", "data-step": "2", text: "The garment" }), garment.element),
          h("section", { class: "card" }, h("h3", { class: "step", "data-step": "3", text: "How" }), this.#controls()),
        ),
        h("div", { class: "stack" }, this.#stage, this.#stages, this.#said, h("section", { class: "card" }, h("h3", { text: "Made before" }), this.#history)),
      ),
    );
  }

  shown() {
    this.#showHistory();
  }

  #controls() {
    const set = (name) => (value) => (this.#options[name] = value);
    const final = this.#studio.health.models.image_model;
    const note = h("p", { class: "note" });
    const mode = (value) => {
      this.#options.mode = value;
      note.replaceChildren(...(value === "draft" ? ["Nothing leaves this service."] : final?.state === "ready" ? [`The person's photo is sent to ${final.provider}.`] : ["The draft is given instead: ", ...prose(final?.reason ?? "no image model is set up.")]));
    };
    mode("draft");
    return h(
      "div",
      { class: "stack" },
      segments("Picture", "mode", [["draft", "Draft"], ["final", "Final"]], "draft", mode),
      note,
      select("Garment", TYPES.map((type) => [type, type === "auto" ? "Tell it from its outline" : type]), "auto", set("garment_type")),
      slider("Realism", 3, set("realism_level"), { min: 1, max: 5, step: 1, show: (level) => REALISM[level] }),
      h(
        "details",
        {},
        h("summary", { text: "More options" }),
        h("div", { class: "stack" }, h("div", {}, checkbox("The face stays the photo's", true, set("preserve_face")), checkbox("The background stays the photo's", true, set("preserve_background"))), slider("Further attempts", 2, set("max_retries"), { min: 0, max: 3, step: 1, show: String })),
      ),
      h("div", { class: "row" }, this.#go),
    );
  }

  #take(what, file) {
    if (what === "person") {
      this.#person = file;
      this.#showPerson(file);
    } else this.#garment = file;
    this.#go.disabled = !this.#person || !this.#garment || this.#stop !== null;
  }

  async #showPerson(file) {
    const image = await loaded(file, "The person");
    if (file === this.#person && image) this.#stage.replaceChildren(h("div", { class: "picture" }, image));
  }

  async #run() {
    const [person, options] = [this.#person, { ...this.#options }];
    this.#stop = new AbortController();
    this.#go.disabled = true;
    this.#stage.querySelector(".picture")?.classList.add("busy");
    this.#showStages(null, options.mode);
    this.#stage.scrollIntoView({ block: "nearest" });
    try {
      const form = [["user_image", person], ["product_image", this.#garment], ...Object.entries(options)];
      const { job_id: id } = await this.#studio.api.json("/api/tryon/submit", { form });
      this.#photos.set(id, person);
      this.#said.replaceChildren(h("div", { class: "row" }, button("Cancel", () => this.#studio.api.remove(`/api/tryon/${id}`).catch(() => {}))));
      await this.#studio.api.follow({ job_id: id }, (job) => this.#showStages(job.stage, options.mode), this.#stop.signal);
      await this.#show(id);
    } catch (error) {
      this.#said.replaceChildren(alertOf(error));
    } finally {
      this.#stop = null;
      this.#stages.hidden = true;
      this.#go.disabled = false;
      this.#stage.querySelector(".picture")?.classList.remove("busy");
      this.#showHistory();
    }
  }

  #showStages(current, mode) {
    const stages = STAGES.filter(([name]) => name !== "generation" || mode === "final");
    const at = stages.findIndex(([name]) => name === current);
    this.#stages.hidden = false;
    this.#stages.replaceChildren(...stages.map(([, label], index) => h("li", { class: index < at ? "over" : index === at ? "now" : "", "aria-current": index === at ? "step" : null, text: label })));
    if (at >= 0) this.#studio.announce(stages[at][1]);
  }

  /** The result of a job, of this visit or an earlier one. */
  async #show(id) {
    const status = await this.#studio.api.json(`/api/tryon/status/${id}`);
    if (status.status !== "DONE") {
      this.#said.replaceChildren(status.error_message ? alertOf({ message: status.error_message, code: status.error_code }) : h("p", { class: "note", role: "status", text: "It was cancelled." }));
      return;
    }
    const picture = await this.#studio.api.blob(status.result_image_url, { accept: "image/*", saveAs: "result.png" });
    const person = this.#photos.get(id);
    const [before, after] = await Promise.all([person && loaded(person, "Before"), loaded(picture, "With the garment")]);
    this.#stage.replaceChildren(before ? comparison(before, after, { beforeName: "Before", afterName: "Tried on", label: "Before and after" }).element : h("div", { class: "picture" }, after));
    this.#said.replaceChildren(this.#report(status, picture));
    this.#studio.announce(`It is tried on. Quality ${status.quality_score.toFixed(2)}.`);
  }

  #report({ quality, details, provider_fallback: fallback, artifacts_url: artifacts }, picture) {
    const total = Object.values(details.timings_ms).reduce((sum, ms) => sum + ms, 0);
    const change = details.attempts.length > 1 ? `${details.attempts.length} attempts: ${details.attempts.map(({ change: what, score }) => `${what} (${score.toFixed(2)})`).join("; ")}.` : null;
    return h(
      "section",
      { class: "card" },
      h(
        "div",
        { class: "row spread" },
        h("dl", { class: "figures" }, figure("Quality", quality.score.toFixed(2)), figure("Garment", details.garment_type), figure("Made in", milliseconds(total)), details.generated_by && figure("Photograph by", details.generated_by.model)),
        h("div", { class: "row" }, button("Download", () => save(picture, `tried-on.${details.media_type.split("/")[1]}`), { class: "button main" }), artifacts && button("Masks and keypoints", async () => save(await this.#studio.api.blob(artifacts, { accept: "*/*", saveAs: "artifacts.zip" }), "artifacts.zip")), button("Show as curl", this.#studio.requests)),
      ),
      h(
        "div",
        { class: "stack" },
        h("p", {}, h("span", { class: `badge ${quality.passed ? "good" : "warn"}`, text: quality.passed ? `Above the threshold of ${quality.threshold}` : `Below the threshold of ${quality.threshold}` })),
        fallback && h("p", { class: "note" }, h("strong", { text: "This is the draft. " }), prose(details.provider_fallback_detail ?? "")),
        h("div", { class: "terms" }, Object.entries(quality.terms).map(([name, term]) => termRow(name, term, quality.failed))),
        change && h("p", { class: "note", text: change }),
        details.warnings.map((text) => h("p", { class: "note" }, h("span", { class: "badge warn", text: "Note" }), ` ${text}`)),
      ),
    );
  }

  async #showHistory() {
    try {
      const { jobs } = await this.#studio.api.json("/api/v1/jobs?kind=tryon&limit=12");
      if (!jobs.length) {
        this.#history.replaceChildren(h("p", { class: "note", text: "What you try on is kept here until it expires." }));
        return;
      }
      this.#history.replaceChildren(...(await Promise.all(jobs.map((job) => this.#past(job)))));
    } catch (error) {
      this.#history.replaceChildren(alertOf(error));
    }
  }

  async #past(job) {
    const time = new Date(job.created_at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const label = job.status === "completed" ? `${time} · ${job.result.quality.score.toFixed(2)}` : `${time} · ${job.status}`;
    const image = job.result_url ? await this.#thumbnail(job).catch(() => null) : null;
    const open = async () => {
      try {
        await this.#show(job.job_id);
      } catch (error) {
        this.#said.replaceChildren(alertOf(error));
      }
    };
    return h("button", { type: "button", class: "shelf-pick", "aria-label": `Try-on of ${label}`, on: { click: open } }, image ?? h("span", { class: "no-picture", "aria-hidden": "true", text: "–" }), h("span", { text: label }));
  }

  #thumbnails = new Map();

  async #thumbnail(job) {
    if (!this.#thumbnails.has(job.job_id)) {
      const blob = await this.#studio.api.blob(job.result_url, { accept: "image/*" });
      this.#thumbnails.set(job.job_id, URL.createObjectURL(blob));
    }
    return h("img", { src: this.#thumbnails.get(job.job_id), alt: "", width: 120, height: 120 });
  }
}

function termRow(name, term, failed) {
  const [label, meaning] = TERMS[name] ?? [name, ""];
  const tone = failed.includes(name) || term.score < 0.33 ? "var(--bad)" : term.score < 0.66 ? "var(--warn)" : "var(--good)";
  return h(
    "div",
    { class: "term" },
    h("div", { class: "bars" }, bar(label, clamp(term.score), term.score.toFixed(2), tone)),
    h("p", { class: "note", text: `${meaning} ${term.value.toFixed(3)}: ${term.good} is good, ${term.bad} bad${term.gate ? "; it alone can fail a draft" : ""}.` }),
  );
}
