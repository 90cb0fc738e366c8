// Each request as the curl line that does the same, and the list of all that were sent.

import { button, copyButton, h, milliseconds } from "./elements.js";

const KEPT = 60;
const SECRET = new Set(["password", "refresh_token", "old_password", "new_password"]);

/** A file as a `data:` URL in JSON. The curl line reads the file itself. */
export class FileUrl {
  #url;

  constructor(name, type, url) {
    this.name = name;
    this.type = type;
    this.#url = url;
  }

  static async of(file) {
    const url = await new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.onerror = () => reject(reader.error);
      reader.readAsDataURL(file);
    });
    return new FileUrl(file.name, file.type, url);
  }

  toJSON() {
    return this.#url;
  }
}

/** Secrets stay out: the token is a shell variable, a password three dots. */
function curlOf({ method, path, form, json, accept, stream, signedIn, saveAs }) {
  const parts = [`curl ${quoted(location.origin + path)}`];
  const posts = form || json !== undefined;
  if (method !== (posts ? "POST" : "GET")) parts.push(`-X ${method}`);
  if (stream) parts.push("-N");
  if (signedIn) parts.push('-H "Authorization: Bearer $TOKEN"');
  if (accept) parts.push(`-H ${quoted(`Accept: ${accept}`)}`);
  for (const [name, value] of form ?? []) {
    if (value instanceof Blob) parts.push(`-F ${quoted(`${name}=@${fileName(value.name ?? "picture.png")}`)}`);
    else if (/^[\s@<"(]|;/.test(String(value))) parts.push(`--form-string ${quoted(`${name}=${value}`)}`);
    else parts.push(`-F ${quoted(`${name}=${value}`)}`);
  }
  if (json !== undefined) {
    parts.push("-H 'Content-Type: application/json'", bodyOf(json));
  }
  if (saveAs) parts.push(`-o ${quoted(saveAs)}`);
  return parts.join(" \\\n  ");
}

/** A body with files is a here-document, in which the shell puts them. */
function bodyOf(json) {
  const files = [];
  const body = JSON.stringify(json, function hide(key, value) {
    if (SECRET.has(key)) return "...";
    if (!(this[key] instanceof FileUrl)) return value;
    files.push(this[key]);
    return `@file${files.length}@`;
  });
  if (!files.length) return `-d ${quoted(body)}`;
  const escaped = body.replaceAll(/[\\$`]/g, "\\$&");
  const text = files.reduce((each, file, index) => each.replace(`@file${index + 1}@`, () => `data:${file.type};base64,$(base64 < ${quoted(file.name)} | tr -d '\\n')`), escaped);
  return `-d @- <<JSON\n${text}\nJSON`;
}

/** As curl reads it after the @, where commas and semicolons part. */
function fileName(name) {
  return /^[\w.-]+$/.test(name) ? name : `"${name.replaceAll(/["\\]/g, "\\$&")}"`;
}

function quoted(text) {
  return /^[\w./:@=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** What was sent, newest first, and the dialog that shows it. */
export class RequestLog {
  #entries = [];
  #dialog = h("dialog", { "aria-labelledby": "requests-title" });
  #announce;

  constructor(announce) {
    this.#announce = announce;
    document.body.append(this.#dialog);
  }

  /** Remember a request, and how it ends; gives back the Response of `send()`. */
  async record(request, send) {
    const entry = this.#add(request);
    const began = performance.now();
    try {
      const response = await send();
      entry.status = response.status;
      return response;
    } catch (error) {
      if (error.name !== "AbortError") entry.status = 0;
      throw error;
    } finally {
      entry.ms = performance.now() - began;
    }
  }

  /** What is asked again and again is one entry. */
  #add(request) {
    const curl = curlOf(request);
    const known = this.#entries.findIndex((entry) => entry.curl === curl && entry.status !== null);
    const [again] = known < 0 ? [] : this.#entries.splice(known, 1);
    const entry = { method: request.method, path: request.path, curl, status: null, ms: null, times: (again?.times ?? 0) + 1 };
    this.#entries.unshift(entry);
    this.#entries.length = Math.min(this.#entries.length, KEPT);
    return entry;
  }

  /** Show them all: first what a tab asks for under `paths`, and of that first what had something done. */
  show(paths = []) {
    const rank = ({ path, method }) => (paths.some((each) => path.startsWith(each)) ? (method === "GET" || method === "DELETE" ? 1 : 0) : 2);
    const entries = this.#entries.toSorted((a, b) => rank(a) - rank(b));
    this.#dialog.replaceChildren(
      h(
        "div",
        { class: "dialog-body" },
        h("div", { class: "card-head" }, h("h3", { id: "requests-title", text: "Requests, as curl" }), button("Close", () => this.#dialog.close())),
        h("p", { class: "note", text: "What the Studio asked the service; this tab's work first. Files are named as they were dropped; $TOKEN is your key or access token." }),
        h("ol", { class: "requests" }, entries.map((entry) => this.#item(entry))),
      ),
    );
    this.#dialog.showModal();
  }

  #item(entry) {
    const tone = entry.status === null ? "" : entry.status < 400 && entry.status > 0 ? "good" : "bad";
    return h(
      "li",
      { class: "request" },
      h(
        "div",
        { class: "request-head" },
        h(
          "span",
          { class: "row" },
          h("span", { class: `badge ${tone}`, text: entry.status === null ? "under way" : entry.status || "no answer" }),
          h("span", { class: "mono", text: `${entry.method} ${entry.path.split("?")[0]}` }),
          h("span", { class: "note", text: [entry.ms === null ? "" : milliseconds(entry.ms), entry.times > 1 ? `${entry.times} times` : ""].filter(Boolean).join(" · ") }),
        ),
        copyButton("Copy", () => entry.curl, this.#announce),
      ),
      h("pre", { class: "curl", tabindex: "0", "aria-label": `curl for ${entry.method} ${entry.path}`, text: entry.curl }),
    );
  }
}
