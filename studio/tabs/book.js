// One child on every page of a book: a job, followed page by page.

import { alertOf, button, checkbox, h, save, segments } from "../elements.js";

const FORMATS = [["pdf", "PDF"], ["zip", "ZIP of PNG"], ["jpeg", "ZIP of JPEG"]];

/** `photo`, `faceBox`, `options` and `pages` are asked for when they are needed; `keep(page)` stores a page. */
export function bookMaker({ studio, photo, faceBox, options, pages, keep }) {
  let format = "pdf";
  const list = h("div", { class: "book-pages", role: "group", "aria-label": "Pages of the book" });
  const make = button("Make the book", run, { class: "button main" });
  const said = h("div", { class: "stack" });
  const element = h(
    "section",
    { class: "card" },
    h("div", { class: "card-head" }, h("h3", { text: "The whole book" }), h("p", { class: "note", text: "The same child, the same look, on every page you tick." })),
    h("div", { class: "stack" }, list, segments("As", "format", FORMATS, format, (value) => (format = value)), h("div", { class: "row" }, make), said),
  );

  function pagesChanged() {
    list.replaceChildren(...pages().map((page) => checkbox(page.title, page.inBook, (on) => { page.inBook = on; update(); })));
    update();
  }

  function update() {
    const count = pages().filter((page) => page.inBook).length;
    make.disabled = !photo() || !count;
    make.textContent = photo() ? `Make the book (${count} ${count === 1 ? "page" : "pages"})` : "Make the book: first a photo";
  }

  async function run() {
    const stop = new AbortController();
    const bar = h("progress", { max: 1, value: 0, "aria-label": "Progress of the book" });
    const stage = h("p", { class: "note", role: "status", text: "The pages are being stored." });
    said.replaceChildren(bar, stage);
    make.disabled = true;
    try {
      const ids = [];
      for (const page of pages().filter((each) => each.inBook)) ids.push(await keep(page));
      const form = [["child_photo", photo()], ...ids.map((id) => ["template_ids", id]), ["format", format], ["face_box", faceBox()], ...Object.entries(options())];
      const job = await studio.api.json("/personalize/book", { form });
      const cancel = button("Cancel", () => studio.api.remove(job.status_url).catch(() => {}));
      said.append(cancel);
      const last = await studio.api.follow(job, (state) => {
        bar.value = state.progress;
        stage.textContent = state.stage ?? "Waiting for its turn.";
      }, stop.signal);
      await finish(last);
    } catch (error) {
      said.replaceChildren(alertOf(error));
    } finally {
      update();
    }
  }

  async function finish(job) {
    if (job.status !== "completed") {
      said.replaceChildren(job.error ? alertOf({ message: job.error.detail, code: job.error.code }) : h("p", { class: "note", role: "status", text: "The book was cancelled." }));
      return;
    }
    const name = `book.${format === "pdf" ? "pdf" : "zip"}`;
    const file = await studio.api.blob(job.result_url, { accept: "*/*", saveAs: name });
    const count = job.result.pages;
    said.replaceChildren(
      h("p", { role: "status" }, h("span", { class: "badge good", text: "Done" }), ` ${count} ${count === 1 ? "page" : "pages"}, ${(file.size / 1e6).toFixed(1)} MB`),
      h("div", { class: "row" }, button(`Download the ${format === "pdf" ? "PDF" : "ZIP"}`, () => save(file, name), { class: "button main" }), button("Show as curl", studio.requests)),
    );
  }

  return { element, pagesChanged };
}
