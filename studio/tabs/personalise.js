// A child's photo into a page, and into a whole book.

import { alertOf, button, checkbox, figure, h, milliseconds, newest, prose, save, segments, select, slider } from "../elements.js";
import { dropZone } from "../drop-zone.js";
import { comparison, loaded, placeOver } from "../picture.js";
import { samplePages, samplePhoto, titleOf } from "../samples.js";
import { bookMaker } from "./book.js";
import { boxDrawer } from "./box-drawer.js";

const STYLES = [["storybook", "Storybook"], ["watercolor", "Watercolour"], ["pencil", "Pencil"], ["comic", "Comic"], ["none", "As the photo"]];
const MODES = [["face", "Face"], ["head", "Whole head"]];
const BLENDS = [["gaussian", "Soft edge (gaussian)"], ["multiband", "Softer for light than for lines (multiband)"], ["poisson", "By gradients (poisson)"]];
const FIGURES = { slot_score: "Slot score", seam_energy: "Seam energy", identity_similarity: "Likeness to the photo" };

export const personalise = {
  id: "personalise",
  title: "Personalise",
  heading: "Put a child into the story",
  lede: "A photo and a page. The page keeps its pose, its light and its line; the child in it becomes yours. The photo is held in memory for the request, and never stored.",
  paths: ["/personalize", "/upload-illustration-template", "/templates", "/download", "/api/v1/jobs"],
  missing: ({ health }) => (health.models.illustration_styler?.state === "ready" ? null : { what: "Pages can't be personalised here", reason: health.models.illustration_styler?.reason ?? "This version has no styler." }),
  mount: (panel, studio) => new Personalise(panel, studio),
};

class Personalise {
  #studio;
  #photo = null;
  #faceBox = null;
  #pages = [];
  #page = null;
  #slot = null;
  #options = { mode: "face", style: "storybook", strength: 0.7, likeness: 0.65, blend: "gaussian", match_colors: true, keep_skin_tone: true, seed: 0 };
  #result = null;
  #shown = 0;

  #shelf = h("div", { class: "shelf", role: "group", "aria-label": "Pages" });
  #stage = h("div", { class: "stage" });
  #said = h("div", { class: "stack" });
  #faces = h("div");
  #drawBox = button("Draw the place yourself", () => this.#startDrawing(), { hidden: true, class: "button plain" });
  #drawing = newest((signal) => this.#run(signal), 220);

  constructor(panel, studio) {
    this.#studio = studio;
    this.photoZone = dropZone({ label: "Drop a photo of the child", hint: "or click to choose. JPEG, PNG, WebP, HEIC …", sample: { label: "Use the sample photo", load: samplePhoto }, onFile: (file) => this.#takePhoto(file) });
    this.pageZone = dropZone({ label: "Drop a page of your own", hint: "It is kept as a template until you remove it.", onFile: (file) => this.#addPage(file), preview: false, multiple: true });
    this.book = bookMaker({ studio, photo: () => this.#photo, faceBox: () => this.#faceBox, options: () => this.#options, pages: () => this.#pages, keep: (page) => this.#keep(page) });
    panel.append(
      h(
        "div",
        { class: "bench with-end" },
        h(
          "div",
          { class: "stack" },
          h("section", { class: "card" }, h("h3", { class: "step", "data-step": "1", text: "The child" }), this.photoZone.element, this.#faces),
          h("section", { class: "card" }, h("h3", { class: "step", "data-step": "2", text: "The page" }), this.#shelf, this.pageZone.element),
        ),
        h("div", { class: "stack" }, this.#stage, this.#said, h("section", { class: "card" }, h("h3", { class: "step", "data-step": "3", text: "The look" }), this.#controls())),
        this.book.element,
      ),
    );
    this.#showEmpty();
    this.#loadPages();
  }

  #controls() {
    const set = (name) => (value) => {
      this.#options[name] = value;
      this.#drawing.soon();
    };
    const seed = h("input", { type: "number", id: "personalise-seed", min: 0, max: 4294967295, step: 1, value: 0, on: { change: () => seed.checkValidity() && set("seed")(Number(seed.value)) } });
    return h(
      "div",
      { class: "look" },
      segments("Drawn as", "style", STYLES, this.#options.style, set("style")),
      slider("Strength", this.#options.strength, set("strength"), { note: "0 keeps the photo's surface, 1 is fully drawn." }),
      slider("Likeness", this.#options.likeness, set("likeness"), { note: "0 takes the drawing's proportions, 1 the child's." }),
      h(
        "details",
        {},
        h("summary", { text: "More options" }),
        h(
          "div",
          { class: "look" },
          segments("Replace", "mode", MODES, this.#options.mode, set("mode")),
          select("Blend", BLENDS, this.#options.blend, set("blend")),
          h("div", {}, checkbox("Take the page's light and palette", true, set("match_colors")), checkbox("Keep the child's skin tone", true, set("keep_skin_tone"))),
          h("div", { class: "field" }, h("label", { for: "personalise-seed", text: "Seed of grain and hatching" }), seed),
        ),
      ),
    );
  }

  async #loadPages() {
    const samples = await samplePages();
    this.#pages = [...samples.map((page) => ({ ...page, key: page.name, inBook: true })), ...this.#pages];
    this.#drawShelf();
    if (this.#photo && !this.#page) this.#choosePage(this.#pages[0]);  // the photo was faster
    else if (!this.#page) this.#showEmpty();
    try {
      const { templates } = await this.#studio.api.json("/templates");
      for (const template of templates) await this.#addTemplate(template);
    } catch (error) {
      this.#said.replaceChildren(alertOf(error));
    }
    this.#drawShelf();
  }

  /** A stored page; those that the Studio stored of its own samples are the samples. */
  async #addTemplate(template) {
    const sample = this.#pages.find((page) => page.file && template.name === bookName(page));
    if (sample) {
      sample.templateId = template.template_id;
      return;
    }
    const image = await this.#studio.api.blob(template.image_url, { accept: "image/png" });
    if (this.#pages.some((page) => page.templateId === template.template_id)) return; // the list and the upload both told of it
    const url = URL.createObjectURL(image);
    this.#pages.push({ key: template.template_id, title: template.name ?? "A page", url, slots: template.slots, templateId: template.template_id, own: true, inBook: false });
  }

  async #addPage(file) {
    this.#said.replaceChildren();
    try {
      const template = await this.#studio.api.json("/upload-illustration-template", { form: [["file", file], ["name", titleOf(file.name).slice(0, 200)]] });
      await this.#addTemplate(template);
      const page = this.#pages.find((each) => each.templateId === template.template_id);
      this.#drawShelf();
      this.#choosePage(page);
    } catch (error) {
      this.#said.replaceChildren(alertOf(error));
    }
  }

  /** Store a page of ours, for a book; gives back its template's id. */
  async #keep(page) {
    if (!page.templateId) {
      const slots = JSON.stringify(page.slots.map(({ bbox }) => bbox));
      const stored = await this.#studio.api.json("/upload-illustration-template", { form: [["file", await page.file()], ["name", bookName(page)], ["slots", slots]] });
      page.templateId = stored.template_id;
    }
    return page.templateId;
  }

  async #remove(page) {
    try {
      await this.#studio.api.remove(`/templates/${page.templateId}`);
    } catch (error) {
      this.#said.replaceChildren(alertOf(error));
      return;
    }
    this.#pages = this.#pages.filter((each) => each !== page);
    if (this.#page === page) this.#showEmpty();
    this.#drawShelf();
  }

  #drawShelf() {
    this.#shelf.replaceChildren(
      ...this.#pages.map((page) =>
        h(
          "div",
          { class: "shelf-page" },
          h(
            "button",
            { type: "button", class: "shelf-pick", "aria-pressed": String(page === this.#page), on: { click: () => this.#choosePage(page) } },
            h("img", { src: page.url, alt: "", loading: "lazy", width: 160, height: 160 }),
            h("span", { text: page.title }),
          ),
          page.own && h("button", { type: "button", class: "shelf-remove", "aria-label": `Remove ${page.title}`, text: "×", on: { click: () => this.#remove(page) } }),
        ),
      ),
    );
    this.book.pagesChanged();
  }

  async #takePhoto(file) {
    this.#photo = file;
    this.#faceBox = null;
    this.#faces.replaceChildren();
    this.book.pagesChanged();
    if (!this.#page && this.#pages.length) this.#choosePage(this.#pages[0]);
    else this.#drawing.soon();
    try {
      const seen = await this.#studio.api.json("/api/v1/verify-face", { form: [["file", file], ["faces", "all"]] });
      if (this.#photo === file && seen.faces?.length > 1) this.#offerFaces(seen.faces);
    } catch {
      // /personalize says what is wrong with the photo
    }
  }

  #offerFaces(faces) {
    const inOrder = faces.toSorted((a, b) => a.bbox[0] - b.bbox[0]);
    const options = [["", "The clearest"], ...inOrder.map((face, index) => [JSON.stringify(face.bbox), `${ordinal(index + 1)} from the left`])];
    const choose = (value) => {
      this.#faceBox = value || null;
      this.#drawing.soon();
    };
    this.#faces.replaceChildren(select(`${faces.length} people are in the photo. Which one?`, options, "", choose));
  }

  #choosePage(page) {
    if (page !== this.#page) this.#result = null;
    this.#page = page;
    this.#slot = null;
    for (const [index, pick] of this.#shelf.querySelectorAll(".shelf-pick").entries()) pick.setAttribute("aria-pressed", String(this.#pages[index] === page));
    if (page.slots.length) {
      this.#showPage();
      this.#drawing.soon();
    } else this.#startDrawing("No drawn face was found on this page. Drag a box over the place, or move it with the arrow keys; Shift sizes it, Enter takes it.");
  }

  /** A place that was drawn; a stored page keeps it, so that a book can use it. */
  async #placeDrawn(page, bbox) {
    try {
      if (page.own) page.slots = (await this.#studio.api.json(`/templates/${page.templateId}/slots`, { method: "PUT", json: { slots: [bbox] } })).slots;
      if (page === this.#page) this.#chooseSlot(bbox);
    } catch (error) {
      this.#said.replaceChildren(alertOf(error));
    }
  }

  #chooseSlot(bbox) {
    this.#slot = bbox.map((value) => Math.round(value * 10) / 10);
    this.#studio.announce("This face is replaced.");
    if (this.#photo) this.#drawing.now();
    else this.#said.replaceChildren(h("p", { class: "note", text: "Now drop a photo of the child, or use the sample photo." }));
  }

  #showEmpty() {
    this.#page = null;
    this.#stage.replaceChildren(
      h(
        "div",
        { class: "empty" },
        h("div", { class: "fan" }, this.#pages.filter((page) => page.file).slice(0, 3).map((page) => h("img", { src: page.url, alt: "" }))),
        h("h3", { text: "Your page appears here" }),
        h("p", { class: "note", text: "Drop a photo and choose a page, or see it at once with what comes with the service." }),
        button("Try it with the sample photo", () => this.photoZone.useSample(), { class: "button main" }),
      ),
    );
  }

  async #showPage() {
    const page = this.#page;
    const image = await loaded(page.url, `The page: ${page.title}`);
    if (page !== this.#page || this.#result || !image) return;
    [page.width, page.height] = [image.naturalWidth, image.naturalHeight];
    this.#stage.replaceChildren(h("div", { class: "picture" }, image, this.#slotButtons()));
    this.#drawBox.hidden = false;
    this.#said.replaceChildren(this.#drawBox);
  }

  /** One button over each face that can be replaced. */
  #slotButtons() {
    const { slots, width, height } = this.#page;
    return slots.map(({ bbox }, index) =>
      placeOver(h("button", { type: "button", class: "slot", "aria-label": `Replace face ${index + 1} of ${slots.length}`, on: { click: () => this.#chooseSlot(bbox) } }, h("span", { text: slots.length > 1 ? String(index + 1) : "" })), bbox, width, height),
    );
  }

  #startDrawing(sentence = "Drag a box over the face, or move it with the arrow keys and size it with Shift; Enter takes it.") {
    const page = this.#page;
    this.#result = null;
    this.#showPage().then(() => {
      const picture = this.#stage.querySelector(".picture");
      if (!picture || page !== this.#page) return;
      for (const each of picture.querySelectorAll(".slot")) each.remove();
      boxDrawer(picture, page.width, page.height, (bbox) => this.#placeDrawn(page, bbox));
      this.#said.replaceChildren(h("p", { class: "note", role: "status", text: sentence }));
    });
  }

  async #run(signal) {
    if (!this.#photo || !this.#page || !(this.#slot || this.#page.slots.length)) return;
    const page = this.#page;
    this.#stage.querySelector(".picture")?.classList.add("busy");
    this.#studio.announce("The page is being drawn.");
    try {
      const answer = await this.#studio.api.json("/personalize", { form: await this.#form(page), signal });
      const picture = await this.#studio.api.blob(answer.download_url, { accept: "image/*", signal, saveAs: "page.png" });
      this.#studio.api.remove(answer.download_url).catch(() => {}); // the browser has it
      if (page === this.#page) await this.#showResult(answer, picture, signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#stage.querySelector(".picture")?.classList.remove("busy");
      this.#said.replaceChildren(alertOf(error), this.#drawBox);
    }
  }

  async #form(page) {
    const source = page.templateId && page.own ? [["template_id", page.templateId]] : [["illustration", await page.file()]];
    const slot = this.#slot ?? page.slots[0]?.bbox;
    const place = page.own && !this.#slot ? [] : [["slot", slot ? JSON.stringify(slot) : null]];
    return [["child_photo", this.#photo], ...source, ...place, ["face_box", this.#faceBox], ...Object.entries(this.#options)];
  }

  async #showResult(answer, picture, signal) {
    const at = this.#stage.querySelector(".compare input")?.value;
    const [before, after] = await Promise.all([loaded(this.#page.url, `The page before: ${this.#page.title}`), loaded(picture, `The page with the child: ${this.#page.title}`)]);
    signal.throwIfAborted();
    [this.#page.width, this.#page.height] = [before.naturalWidth, before.naturalHeight];
    const { element, range } = comparison(before, after, { beforeName: "Page", afterName: "With the child", label: "Before and after" });
    if (at !== undefined && this.#result) {
      range.value = at;
      range.dispatchEvent(new Event("input"));
    }
    const focused = this.#stage.contains(document.activeElement) && document.activeElement.type === "range";
    if (this.#page.slots.length > 1) element.append(...this.#slotButtons());
    this.#result = picture;
    this.#stage.replaceChildren(element);
    if (focused) range.focus();
    this.#shown += 1;
    this.#stage.dataset.shown = this.#shown;
    this.#said.replaceChildren(this.#facts(answer, picture));
    this.#studio.announce(`The page is drawn, in ${milliseconds(sum(answer.timings_ms))}.`);
  }

  #facts(answer, picture) {
    const figures = Object.entries(FIGURES).filter(([name]) => answer.quality[name] !== undefined && answer.quality[name] !== null);
    const missing = Object.entries(answer.unavailable).map(([name, reason]) => `${FIGURES[name] ?? name}: ${reason}`);
    return h(
      "section",
      { class: "card" },
      h(
        "div",
        { class: "row spread" },
        h("dl", { class: "figures" }, figure("Drawn in", milliseconds(sum(answer.timings_ms))), figures.map(([name, label]) => figure(label, answer.quality[name].toFixed(2))), figure("Engine", answer.engine)),
        h("div", { class: "row" }, button("Download", () => save(picture, `${this.#page.title} personalised.png`), { class: "button main" }), button("Show as curl", this.#studio.requests), this.#drawBox),
      ),
      h("div", { class: "spans", "aria-hidden": "true" }, Object.entries(answer.timings_ms).map(([stage, ms]) => h("i", { title: `${stage}: ${milliseconds(ms)}`, style: { "flex-grow": ms } }))),
      h(
        "details",
        {},
        h("summary", { text: "Where the time went" }),
        h("table", {}, h("caption", { class: "visually-hidden", text: "Milliseconds by stage" }), h("tbody", {}, Object.entries(answer.timings_ms).map(([stage, ms]) => h("tr", {}, h("th", { scope: "row", text: stage.replaceAll("_", " ") }), h("td", { class: "number", text: milliseconds(ms) }))))),
      ),
      missing.map((text) => h("p", { class: "note" }, prose(text))),
    );
  }
}

function bookName(page) {
  return `${page.title} (Studio)`;
}

function ordinal(number) {
  return ["", "First", "Second", "Third", "Fourth", "Fifth", "Sixth"][number] ?? `Number ${number}`;
}

function sum(timings) {
  return Object.values(timings).reduce((total, ms) => total + ms, 0);
}
