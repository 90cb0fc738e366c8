// The faces of a photo: where they are, what was measured of them and how, and whether two are one person's.

import { alertOf, bar, button, checkbox, clamp, figure, h, prose, s } from "../elements.js";
import { dropZone } from "../drop-zone.js";
import { loaded, overlay, placeOver } from "../picture.js";
import { samplePhoto } from "../samples.js";
import { analysisCards } from "./face-cards.js";

const CLOSE_UP = 0.42; // of the frame's width, which the face takes then
const LAYERS = [["box", "Box", true], ["kps", "Five points", false], ["points", "68 points", false], ["mesh", "Mesh", true]];

export const faces = {
  id: "faces",
  title: "Faces",
  heading: "Find a face, and measure it",
  lede: "Boxes, points and mesh over the photo; what was measured beside it, and how. What can't be known from a picture is left out, with the reason. Nothing is stored.",
  paths: ["/api/v1/analyze-face-advanced", "/api/v1/compare-images", "/api/v1/verify-face"],
  missing: ({ health }) => (health.models.face_detector?.state === "ready" ? null : { what: "Faces can't be found here", reason: health.models.face_detector?.reason ?? "This version has no face detector." }),
  mount: (panel, studio) => new Faces(panel, studio),
};

class Faces {
  #studio;
  #photo = null;
  #answer = null;
  #chosen = 0;
  #layers = Object.fromEntries(LAYERS.map(([name, , on]) => [name, on]));
  #edges = null;
  #closeUp = true;
  #stage = h("div", { class: "stage" }, h("p", { class: "note", text: "The photo appears here." }));
  #cards = h("div", { class: "columns" });
  #said = h("div", { class: "stack" });
  #compared = h("div", { class: "stack" });

  constructor(panel, studio) {
    this.#studio = studio;
    const zone = dropZone({ label: "Drop a photo with faces", hint: "or click to choose", sample: { label: "Use the sample photo", load: samplePhoto }, onFile: (file) => this.#analyze(file) });
    panel.append(
      h(
        "div",
        { class: "bench" },
        h(
          "div",
          { class: "stack" },
          h("section", { class: "card" }, h("h3", { class: "step", "data-step": "1", text: "The photo" }), zone.element),
          h(
            "section",
            { class: "card" },
            h("h3", { text: "Drawn over it" }),
            h("div", {}, checkbox("Close up", true, (on) => { this.#closeUp = on; this.#zoom(); }), LAYERS.map(([name, label, on]) => checkbox(label, on, (shown) => { this.#layers[name] = shown; this.#draw(); }))),
          ),
          this.#comparison(),
        ),
        h("div", { class: "stack" }, this.#stage, this.#said, this.#cards),
      ),
    );
  }

  #comparison() {
    const recogniser = this.#studio.health.models.face_recognizer;
    const head = h("h3", { text: "The same person?" });
    if (recogniser?.state !== "ready") {
      return h("section", { class: "card" }, head, h("p", { class: "note", text: "Comparing two photos needs a recogniser, and none is installed." }), h("p", { class: "note" }, prose(recogniser?.reason ?? "")));
    }
    const zone = dropZone({ label: "Drop a second photo", hint: "It is compared with the chosen face above.", onFile: (file) => this.#compare(file) });
    return h("section", { class: "card" }, head, zone.element, this.#compared);
  }

  async #analyze(file) {
    this.#photo = file;
    this.#chosen = 0;
    this.#answer = null;
    this.#said.replaceChildren();
    this.#cards.replaceChildren();
    this.#compared.replaceChildren();
    const image = await loaded(file, `The photo: ${file.name}`);
    if (this.#photo !== file) return;
    const sheet = h("div", { class: "zoom" }, image ?? h("p", { class: "empty note", text: "This browser can't show the format; the service reads it all the same." }));
    const picture = h("div", { class: "picture busy" }, sheet);
    this.#stage.replaceChildren(picture);
    this.#studio.announce("The photo is being looked at.");
    try {
      this.#edges ??= await (await fetch("/studio/mesh-edges.json")).json();
      const answer = await this.#studio.api.json("/api/v1/analyze-face-advanced", { form: [["file", file], ["faces", "all"]] });
      if (this.#photo !== file) return;
      this.#answer = answer;
      this.#chosen = answer.index;
      this.#studio.announce(`${answer.faces_found} ${answer.faces_found === 1 ? "face was" : "faces were"} found.`);
      this.#draw();
      this.#tell();
    } catch (error) {
      if (this.#photo === file) this.#said.replaceChildren(alertOf(error));
    } finally {
      picture.classList.remove("busy");
    }
  }

  #choose(index) {
    this.#chosen = index;
    this.#draw();
    this.#tell();
  }

  #draw() {
    if (!this.#answer) return;
    const picture = this.#stage.querySelector(".zoom");
    const [height, width] = this.#answer.image_shape;
    const focused = document.activeElement?.dataset.face;
    for (const old of picture.querySelectorAll("svg, .face")) old.remove();
    const thin = Math.max(width, height) / 900;
    picture.append(overlay(width, height, this.#answer.faces.map((face) => this.#shapes(face, thin))));
    for (const face of this.#answer.faces) {
      const box = h(
        "button",
        { type: "button", class: "face", "data-face": face.index, "aria-pressed": String(face.index === this.#chosen), "aria-label": `Face ${face.index + 1} of ${this.#answer.faces.length}`, on: { click: () => this.#choose(face.index) } },
        this.#answer.faces.length > 1 && h("span", { text: String(face.index + 1) }),
      );
      if (this.#layers.box) box.classList.add("boxed");
      picture.append(placeOver(box, face.bbox, width, height));
      if (focused === String(face.index)) box.focus();
    }
    this.#zoom();
  }

  /** Show the chosen face large, or the whole photo. The frame stays as it is. */
  #zoom() {
    const sheet = this.#stage.querySelector(".zoom");
    if (!this.#answer || !sheet) return;
    const [height, width] = this.#answer.image_shape;
    const [x1, y1, x2, y2] = this.#answer.faces.find((face) => face.index === this.#chosen).bbox;
    const scale = this.#closeUp ? Math.max(1, Math.min((CLOSE_UP * width) / (x2 - x1), (0.75 * height) / (y2 - y1))) : 1;
    const shift = (centre, size) => clamp(0.5 - (scale * centre) / size, 1 - scale, 0) * 100;
    sheet.style.transform = `translate(${shift((x1 + x2) / 2, width)}%, ${shift((y1 + y2) / 2, height)}%) scale(${scale})`;
    sheet.style.setProperty("--scale", scale);
  }

  #shapes(face, thin) {
    const chosen = face.index === this.#chosen;
    const dots = (points, radius, kind) => points.map(([x, y]) => s("circle", { cx: x, cy: y, r: radius * thin, class: kind }));
    const size = (face.bbox[2] - face.bbox[0]) / 100;
    const shapes = [];
    if (this.#layers.mesh && chosen && face.landmarks_478) {
      const at = face.landmarks_478;
      const path = this.#edges.map(([a, b]) => `M${at[a][0]} ${at[a][1]}L${at[b][0]} ${at[b][1]}`).join("");
      shapes.push(s("path", { d: path, class: "mesh-lines", "stroke-width": Math.max(0.25, Math.min(0.9 * thin, size * 0.35)) }));
    }
    if (this.#layers.points && face.landmarks_68) shapes.push(...dots(face.landmarks_68, Math.min(2.2, 1.4 * Math.max(1, size / thin)), "point-68"));
    if (this.#layers.kps) shapes.push(...dots(face.kps, Math.min(4.5, 2.4 * Math.max(1, size / thin)), "point-5"));
    return shapes;
  }

  #tell() {
    const face = this.#answer.faces.find((each) => each.index === this.#chosen);
    const { faces_found: found, rotation_applied: turned, model } = this.#answer;
    this.#said.replaceChildren(
      h(
        "section",
        { class: "card" },
        h(
          "div",
          { class: "row spread" },
          h("dl", { class: "figures" }, figure(found === 1 ? "Face" : "Faces", String(found)), figure("Detector's confidence", face.confidence.toFixed(2)), turned ? figure("Turned to be found", `${turned}°`) : null, figure("Model", model)),
          button("Show as curl", this.#studio.requests),
        ),
      ),
    );
    this.#cards.replaceChildren(...analysisCards(face));
  }

  async #compare(other) {
    if (!this.#photo) {
      this.#compared.replaceChildren(h("p", { class: "note", role: "status", text: "Drop the first photo above." }));
      return;
    }
    try {
      const form = [["file_a", this.#photo], ["file_b", other], ["face_a", String(this.#chosen)]];
      const answer = await this.#studio.api.json("/api/v1/compare-images", { form });
      this.#compared.replaceChildren(verdict(answer));
      this.#studio.announce(`${wordsFor(answer.is_match)}. Similarity ${answer.similarity.toFixed(2)}.`);
    } catch (error) {
      this.#compared.replaceChildren(alertOf(error));
    }
  }
}

function verdict({ similarity, is_match: match, threshold, threshold_source: source, model }) {
  return h(
    "div",
    { class: "stack" },
    h("p", {}, h("span", { class: `badge ${match === null ? "warn" : match ? "good" : "bad"}`, text: wordsFor(match) })),
    h("div", { class: "bars" }, bar("Similarity", clamp((similarity + 1) / 2), similarity.toFixed(3)), threshold === null ? [] : bar("Threshold", clamp((threshold + 1) / 2), threshold.toFixed(3), "var(--edge)")),
    h("p", { class: "note", text: `The cosine of two embeddings of ${model}, from -1 to 1; no probability. ${source}` }),
    h("p", { class: "note", text: "It compares pictures: a photo of a photo matches as well." }),
  );
}

function wordsFor(match) {
  if (match === null) return "No threshold is known";
  return match ? "Taken for the same person" : "Not taken for the same person";
}
