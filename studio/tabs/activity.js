// What the service is doing: jobs, the queue, and how long work took.

import { alertOf, button, checkbox, figure, h, milliseconds, s, save, select } from "../elements.js";

const EVERY_MS = 4000;
const TONES = { completed: "good", failed: "bad", cancelled: "", pending: "warn", processing: "second" };
const LINES = ["var(--accent)", "var(--second)", "var(--warn)", "var(--good)", "var(--ink-soft)"];
const LEAST_WIDTH = 280;
const HEIGHT = 250;
const MARGIN = { left: 58, right: 12, top: 14, bottom: 26 };

export const activity = {
  id: "activity",
  title: "Activity",
  heading: "What the service is doing",
  lede: "Your jobs, how full the queue is, and how long each kind of work took in the last day.",
  paths: ["/api/v1/jobs", "/api/v1/processing", "/health"],
  missing: () => null,
  mount: (panel, studio) => new Activity(panel, studio),
};

class Activity {
  #studio;
  #timer = 0;
  #live = true;
  #kind = "";
  #times = [];
  #said = h("div");
  #queue = h("dl", { class: "figures" });
  #jobs = h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Your jobs" });
  #chart = h("div");
  #table = h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Work by kind" });
  #choice = h("div", { class: "kind" });

  constructor(panel, studio) {
    this.#studio = studio;
    panel.append(
      h(
        "div",
        { class: "stack wide" },
        this.#said,
        h("section", { class: "card" }, h("div", { class: "card-head" }, h("h3", { text: "The queue, now" }), h("div", { class: "row" }, checkbox("Keep it up to date", true, (on) => { this.#live = on; this.#tick(); }), button("Show as curl", studio.requests))), this.#queue),
        h("section", { class: "card" }, h("div", { class: "card-head" }, h("h3", { text: "How long work took" }), this.#choice), this.#chart, this.#table),
        h("section", { class: "card" }, h("h3", { text: "Your jobs" }), this.#jobs),
      ),
    );
  }

  shown() {
    this.#tick();
  }

  hidden() {
    clearTimeout(this.#timer);
  }

  async #tick() {
    clearTimeout(this.#timer);
    if (!document.hidden) await this.#load();
    if (this.#live && this.#queue.closest("[role=tabpanel]:not([hidden])")) this.#timer = setTimeout(() => this.#tick(), EVERY_MS);
  }

  async #load() {
    const { api } = this.#studio;
    try {
      const [health, jobs, times] = await Promise.all([api.json("/health"), api.json("/api/v1/jobs?limit=20"), api.json("/api/v1/processing")]);
      this.#said.replaceChildren();
      this.#showQueue(health);
      this.#showJobs(jobs.jobs);
      this.#times = times.kinds;
      this.#showTimes();
    } catch (error) {
      this.#said.replaceChildren(alertOf(error));
    }
  }

  #showQueue({ workers, jobs, database }) {
    const unfinished = (jobs.pending ?? 0) + (jobs.processing ?? 0);
    this.#queue.replaceChildren(
      figure("Working", `${workers.running} of ${workers.max_workers}`),
      figure("Waiting", `${workers.waiting} of ${workers.max_queue}`),
      figure("Unfinished jobs", `${unfinished} of ${jobs.max_jobs}`),
      figure("Finished", String(jobs.completed ?? 0)),
      figure("Failed", String(jobs.failed ?? 0)),
      figure("Database", database.state === "ready" ? database.kind : "does not answer"),
    );
  }

  #showJobs(jobs) {
    if (!jobs.length) {
      this.#jobs.replaceChildren(h("p", { class: "note", text: "There are none. A book, contours handed in as a job, and try-ons appear here." }));
      return;
    }
    const open = this.#jobs.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.#jobs.replaceChildren(
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, ["Job", "Status", "Progress", "Begun", "Took", ""].map((text) => h("th", { scope: "col", text })))),
        h("tbody", {}, jobs.map((job) => this.#row(job))),
      ),
    );
    if (open) this.#jobs.querySelector(`[data-key="${CSS.escape(open)}"]`)?.focus();
  }

  #row(job) {
    const over = ["completed", "failed", "cancelled"].includes(job.status);
    const took = job.started_at && job.finished_at ? milliseconds(new Date(job.finished_at) - new Date(job.started_at)) : "";
    const result = job.result_url && button("Result", () => this.#fetch(job), { class: "button plain", "aria-label": `Download the result of ${job.kind} ${job.job_id}`, "data-key": `result-${job.job_id}` });
    const remove = button(over ? "Remove" : "Cancel", () => this.#remove(job), { class: "button plain", "aria-label": `${over ? "Remove" : "Cancel"} ${job.kind} ${job.job_id}`, "data-key": `remove-${job.job_id}` });
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, job.kind, h("span", { class: "note mono block", text: job.job_id.slice(0, 8) })),
      h("td", {}, h("span", { class: `badge ${TONES[job.status]}`, text: job.status }), job.error && h("p", { class: "note", text: job.error.detail })),
      h("td", {}, over ? "" : h("progress", { max: 1, value: job.progress, "aria-label": `Progress of ${job.kind}` }), h("span", { class: "note", text: over ? "" : (job.stage ?? "") })),
      h("td", { text: new Date(job.created_at).toLocaleTimeString() }),
      h("td", { class: "number", text: took }),
      h("td", {}, h("div", { class: "row" }, result, remove)),
    );
  }

  async #fetch(job) {
    try {
      const response = await this.#studio.api.request(job.result_url, { accept: "*/*", saveAs: "result" });
      const name = /filename="?([^";]+)/.exec(response.headers.get("Content-Disposition") ?? "")?.[1] ?? `${job.kind}-result`;
      save(await response.blob(), name);
    } catch (error) {
      this.#said.replaceChildren(alertOf(error));
    }
  }

  async #remove(job) {
    try {
      await this.#studio.api.remove(`/api/v1/jobs/${job.job_id}`);
      await this.#tick();
    } catch (error) {
      this.#said.replaceChildren(alertOf(error));
    }
  }

  #showTimes() {
    const names = this.#times.map((each) => each.kind);
    if (this.#choice.dataset.names !== names.join()) {
      this.#choice.dataset.names = names.join();
      this.#choice.replaceChildren(select("Shown", [["", "The five busiest"], ...names.map((name) => [name, name])], this.#kind, (kind) => { this.#kind = kind; this.#showTimes(); }));
    }
    const shown = (this.#kind ? this.#times.filter((each) => each.kind === this.#kind) : this.#times).slice(0, LINES.length);
    this.#chart.replaceChildren(shown.length ? latencyChart(shown, Math.max(LEAST_WIDTH, this.#choice.parentElement.clientWidth)) : h("p", { class: "note", text: "Nothing was done in the last day." }));
    this.#table.replaceChildren(
      h(
        "table",
        {},
        h("caption", { class: "visually-hidden", text: "Work by kind: how much, and how fast" }),
        h("thead", {}, h("tr", {}, ["Work", "Done", "Failed", "Median", "95th percentile"].map((text, index) => h("th", { scope: "col", class: index ? "number" : null, text })))),
        h("tbody", {}, this.#times.map((each) => {
          const at = shown.indexOf(each);
          return h("tr", {}, h("th", { scope: "row", class: "mono" }, at < 0 ? null : h("i", { class: "key", style: { background: LINES[at] } }), ` ${each.kind}`), h("td", { class: "number", text: String(each.count) }), h("td", { class: "number", text: String(each.failed) }), h("td", { class: "number", text: each.median_ms === null ? "" : milliseconds(each.median_ms) }), h("td", { class: "number", text: each.p95_ms === null ? "" : milliseconds(each.p95_ms) }));
        })),
      ),
    );
  }
}

/** The latest pieces of work, oldest on the left; the scale of times is logarithmic. */
function latencyChart(kinds, width) {
  const all = kinds.flatMap((each) => each.recent);
  const times = all.map((each) => new Date(each.at).getTime());
  const [first, last] = [Math.min(...times), Math.max(...times)];
  const least = 10 ** Math.floor(Math.log10(Math.max(1, Math.min(...all.map((each) => each.total_ms)))));
  const most = 10 ** Math.ceil(Math.log10(Math.max(10 * least, ...all.map((each) => each.total_ms))));
  const x = (time) => MARGIN.left + (last === first ? 0.5 : (time - first) / (last - first)) * (width - MARGIN.left - MARGIN.right);
  const y = (ms) => HEIGHT - MARGIN.bottom - (Math.log10(Math.max(least, ms) / least) / Math.log10(most / least)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const levels = [];
  for (let level = least; level <= most; level *= 10) levels.push(level);
  const clock = (time) => new Date(time).toLocaleTimeString();
  return s(
    "svg",
    { viewBox: `0 0 ${width} ${HEIGHT}`, class: "chart", role: "img", "aria-label": `Times of the latest ${all.length} pieces of work, from ${clock(first)} to ${clock(last)}. The table below has the medians.` },
    levels.map((level) => [s("path", { d: `M${MARGIN.left} ${y(level)}H${width - MARGIN.right}`, class: "grid" }), text(MARGIN.left - 8, y(level) + 4, level < 1000 ? `${level} ms` : `${level / 1000} s`, "end")]),
    text(MARGIN.left, HEIGHT - 6, clock(first), "start"),
    text(width - MARGIN.right, HEIGHT - 6, clock(last), "end"),
    kinds.map((each, index) =>
      each.recent.map((piece) => s("circle", { cx: x(new Date(piece.at).getTime()), cy: y(piece.total_ms), r: 4, class: piece.failed ? "failed" : "done", style: { "--tone": LINES[index] } }, s("title", { text: `${each.kind}: ${milliseconds(piece.total_ms)}${piece.failed ? ", failed" : ""}` }))),
    ),
  );
}

function text(x, y, words, anchor) {
  return s("text", { x, y, "text-anchor": anchor, text: words });
}
