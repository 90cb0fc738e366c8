// What analyze-face-advanced measured, as cards: the value, what it means, and how it was measured.

import { bar, clamp, figure, h, prose, s } from "../elements.js";

/** The ten tones of the Monk skin tone scale. */
const MONK = ["#f6ede4", "#f3e7db", "#f7ead0", "#eadaba", "#d7bd96", "#a07e56", "#825c43", "#604134", "#3a312a", "#292420"];
const QUALITY = {
  blur_score: "Sharpness", illumination: "Even light", exposure: "Exposure", contrast: "Contrast", resolution: "Resolution", pose: "Facing the camera", overall: "Overall",
};
const GEOMETRY = {
  face_width_height_ratio: "Width to height", eye_spacing_face_width: "Eye spacing", inner_eye_distance_face_width: "Inner eye distance", nose_width_face_width: "Nose width",
  mouth_width_face_width: "Mouth width", jawline_width_face_width: "Jaw width", nose_length_face_height: "Nose length", midface_face_height: "Middle of the face", lower_face_face_height: "Lower face",
};
const SIGNS = { smile: "Smile", mouth_open: "Open mouth", eye_closure_left: "Left eye shut", eye_closure_right: "Right eye shut" };

export function analysisCards(face) {
  return [qualityCard(face), poseCard(face), skinCard(face), expressionCard(face), shapeCard(face), personCard(face)];
}

function card(title, face, prefixes, how, ...content) {
  const reasons = new Map();
  for (const [name, reason] of Object.entries(face.unavailable)) {
    if (prefixes.some((prefix) => name === prefix || name.startsWith(`${prefix}.`))) reasons.set(reason, [...(reasons.get(reason) ?? []), name.split(".").at(-1).replaceAll("_", " ")]);
  }
  return h(
    "section",
    { class: "card" },
    h("h3", { text: title }),
    h(
      "div",
      { class: "stack" },
      content,
      [...reasons].map(([reason, names]) => h("p", { class: "note" }, h("strong", { text: `No ${names.join(", ")}. ` }), prose(reason))),
      how && h("details", {}, h("summary", { text: "How it was measured" }), h("p", { class: "note", text: how })),
    ),
  );
}

function tone(value) {
  return value >= 0.66 ? "var(--good)" : value >= 0.33 ? "var(--warn)" : "var(--bad)";
}

function qualityCard(face) {
  const rows = Object.entries(QUALITY).filter(([name]) => face.quality[name] !== null);
  return card(
    "Quality", face, ["quality"],
    "On a sample of the face that is always 112 pixels long, after ISO/IEC 29794-5: gradients before and after a blur, the two cheeks' histograms, skin that is neither black nor burnt out, dark features against skin, pixels between the eyes, and the head's turn. Overall is the smallest of the six: a photo fails by its worst fault.",
    h("div", { class: "bars" }, rows.flatMap(([name, label]) => bar(label, face.quality[name], face.quality[name].toFixed(2), tone(face.quality[name])))),
  );
}

function poseCard(face) {
  const said = face.pose && [dial("Turned", face.pose.yaw, face.pose.yaw > 0 ? "to the right" : "to the left"), dial("Nods", face.pose.pitch, face.pose.pitch > 0 ? "down" : "up"), dial("Leans", face.pose.roll, face.pose.roll > 0 ? "clockwise" : "anticlockwise")];
  return card(
    "Pose", face, ["pose"],
    "The rotation that best carries an average face onto the 478 points of the mesh (Umeyama's least squares), in degrees as seen in the picture.",
    said && h("div", { class: "dials" }, said),
  );
}

function dial(label, degrees, side) {
  const angle = Math.max(-90, Math.min(90, degrees));
  return h(
    "div",
    { class: "dial" },
    s("svg", { viewBox: "-50 -50 100 56", "aria-hidden": "true" }, s("path", { d: "M-42 0A42 42 0 0 1 42 0", class: "dial-arc" }), s("path", { d: "M0 -42V-34", class: "dial-zero" }), s("path", { d: "M0 0V-38", class: "dial-needle", transform: `rotate(${angle})` }), s("circle", { r: 4, class: "dial-hub" })),
    h("strong", { text: `${Math.abs(degrees).toFixed(1)}°` }),
    h("span", { class: "note", text: `${label} ${side}` }),
  );
}

function skinCard(face) {
  const skin = face.skin_tone;
  const how = "The median Lab colour of cheeks and forehead, highlights, shadows and hair left out; the angle ITA; the nearest tone of the Monk scale and its distance (CIEDE2000). Another light gives another colour: confidence says how even it was.";
  if (!skin) return card("Skin tone", face, ["skin_tone"], how);
  return card(
    "Skin tone", face, ["skin_tone"], how,
    h(
      "div",
      { class: "row" },
      h("span", { class: "swatch", style: { background: skin.hex }, "aria-hidden": "true" }),
      h("dl", { class: "figures" }, figure("As the picture shows it", skin.hex), figure("ITA", `${skin.ita.toFixed(0)}°`), figure("Monk tone", `${skin.monk_tone} of 10`), skin.confidence === null ? null : figure("Confidence", skin.confidence.toFixed(2))),
    ),
    h("div", { class: "monk", role: "img", "aria-label": `Monk tone ${skin.monk_tone} of 10` }, MONK.map((color, index) => h("i", { style: { background: color }, class: index + 1 === skin.monk_tone ? "nearest" : null }))),
    h("p", { class: "note", text: `L*a*b* ${skin.dominant_color_lab.map((value) => value.toFixed(0)).join(", ")} · ${skin.monk_distance.toFixed(1)} from the nearest tone · darker and lighter thirds: ${skin.monk_range.join(" to ")}` }),
  );
}

function expressionCard(face) {
  const found = face.expression;
  const signs = found.emotions
    ? Object.entries(found.emotions).toSorted((a, b) => b[1] - a[1]).map(([name, share]) => [name, share])
    : Object.entries(SIGNS).filter(([name]) => found[name] !== null).map(([name, label]) => [label, found[name]]);
  return card(
    "Expression", face, ["expression"],
    found.method === "model" ? `Probabilities of ${found.model}. They say how a face looks to the model, not what is felt.` : "Measures of the mesh beside an average face: the mouth's corners, the lips' gap, the lids. They say what a face does, not what is felt.",
    found.dominant && h("p", {}, h("span", { class: "badge second", text: found.dominant })),
    h("div", { class: "bars" }, signs.flatMap(([label, share]) => bar(label, share, share.toFixed(2))), found.brow_raise === null ? [] : bar("Raised brows", clamp((found.brow_raise + 1) / 2), found.brow_raise.toFixed(2))),
  );
}

function shapeCard(face) {
  const rows = face.geometry ? Object.entries(GEOMETRY) : [];
  return card(
    "Proportions", face, ["geometry", "symmetry_score"],
    "Lengths between points of the mesh with the head's turn undone, each as a share of the face's width or height. Symmetry: how far each point lies from its mirrored partner; most faces are between 0.96 and 0.99.",
    face.symmetry_score === null ? null : h("dl", { class: "figures" }, figure("Symmetry", face.symmetry_score.toFixed(3))),
    h("div", { class: "bars" }, rows.flatMap(([name, label]) => bar(label, face.geometry[name], face.geometry[name].toFixed(2)))),
  );
}

function personCard(face) {
  const years = face.age === null ? null : face.age_range ? `${face.age} (${face.age_range.join(" to ")})` : String(face.age);
  const gender = face.gender && { M: "male", F: "female" }[face.gender];
  return card(
    "As it appears to the model", face, ["age", "gender", "embedding"],
    "By the installed face pack, on an aligned crop. It is how a face appears to a model, and not to be relied on.",
    h("dl", { class: "figures" }, years && figure("Age", years), gender && figure("Gender", `${gender}, ${(face.gender_probability * 100).toFixed(0)} %`), face.embedding && figure("Embedding", `${face.embedding.length} numbers`)),
  );
}
