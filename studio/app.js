// The shell: tabs, theme, who is signed in, and what the service can do.

import { Api } from "./api.js";
import { RequestLog } from "./curl.js";
import { alertOf, button, h, prose } from "./elements.js";
import { Session } from "./session.js";
import { SignIn } from "./sign-in.js";
import { activity } from "./tabs/activity.js";
import { contours } from "./tabs/contours.js";
import { faces } from "./tabs/faces.js";
import { generate } from "./tabs/generate.js";
import { models } from "./tabs/models.js";
import { personalise } from "./tabs/personalise.js";
import { tryOn } from "./tabs/try-on.js";
import { installTheme } from "./theme.js";

const TABS = [personalise, faces, contours, tryOn, generate, models, activity];

const announcer = document.getElementById("announcer");
const main = document.getElementById("main");
const tablist = document.getElementById("tabs");

/** Let a screen reader say it. */
function announce(text) {
  announcer.textContent = "";
  requestAnimationFrame(() => (announcer.textContent = text));
}

const log = new RequestLog(announce);
const session = new Session(log);
const api = new Api(session, log);
const signIn = new SignIn({ api, session, announce });

/** What every tab gets. `health` and `models` are the service's last answers. */
const studio = { api, session, announce, log, health: null, models: [], refresh };
const built = new Map();
let locked = false;
let failure = null; // of the start

async function refresh() {
  studio.health = await api.json("/health");
  locked = studio.health.auth === "required" && !session.signedIn;
  try {
    studio.models = locked ? [] : (await api.json("/models")).models;
  } catch (error) {
    if (error.status !== 401) throw error;
    locked = true; // what was kept from before is no longer taken
  }
  for (const tab of TABS) markMissing(tab);
}

function buildShell() {
  for (const tab of TABS) {
    const handle = h("button", {
      type: "button", role: "tab", class: "tab", id: `tab-${tab.id}`, "aria-controls": `panel-${tab.id}`,
      "aria-selected": "false", tabindex: "-1", text: tab.title, on: { click: () => show(tab) },
    });
    const panel = h("section", { role: "tabpanel", id: `panel-${tab.id}`, "aria-labelledby": `tab-${tab.id}`, tabindex: "-1", hidden: true });
    tablist.append(handle);
    main.append(panel);
    built.set(tab, { handle, panel, mounted: null });
  }
  tablist.addEventListener("keydown", onTabKey);
}

function onTabKey(event) {
  const current = TABS.findIndex((tab) => built.get(tab).handle.getAttribute("aria-selected") === "true");
  const steps = { ArrowRight: current + 1, ArrowLeft: current - 1, Home: 0, End: TABS.length - 1 };
  if (!(event.key in steps)) return;
  event.preventDefault();
  const next = TABS[(steps[event.key] + TABS.length) % TABS.length];
  show(next);
  built.get(next).handle.focus();
}

function markMissing(tab) {
  const { handle } = built.get(tab);
  const missing = tab.missing(studio);
  handle.replaceChildren(tab.title, missing ? h("span", { class: "tab-missing", "aria-hidden": "true" }) : "", missing ? h("span", { class: "visually-hidden", text: " (not available)" }) : "");
}

function show(tab) {
  for (const [other, { handle, panel, mounted }] of built) {
    const chosen = other === tab;
    handle.setAttribute("aria-selected", String(chosen));
    handle.tabIndex = chosen ? 0 : -1;
    if (panel.hidden === chosen) {
      panel.hidden = !chosen;
      if (!chosen) mounted?.hidden?.();
    }
    if (chosen) handle.scrollIntoView({ block: "nearest", inline: "center" });
  }
  history.replaceState(null, "", `#${tab.id}`);
  document.title = `${tab.title} · Studio`;
  if (failure) tellFailure(tab);
  else if (studio.health) fill(tab); // until then it isn't known what the tab can do
}

/** The panel's content: the tab's own, or what it lacks. A tab is built when it is first seen. */
function fill(tab) {
  const place = built.get(tab);
  const missing = tab.missing(studio);
  const state = locked ? "locked" : missing ? `missing ${missing.reason}` : "live";
  if (place.state === state) {
    place.mounted?.shown?.();
    return;
  }
  place.state = state;
  place.mounted?.hidden?.();
  place.mounted = null;
  place.panel.replaceChildren(h("h2", { text: tab.heading }), h("p", { class: "lede", text: tab.lede }));
  if (locked) place.panel.append(h("div", { class: "card lone" }, signIn.form()));
  else if (missing) place.panel.append(notAvailable(missing));
  else {
    const content = h("div");
    place.panel.append(content);
    place.mounted = tab.mount(content, { ...studio, get health() { return studio.health; }, get models() { return studio.models; }, requests: () => log.show(tab.paths) }) ?? {};
    place.mounted.shown?.();
  }
}

function tellFailure(tab) {
  built.get(tab).panel.replaceChildren(h("h2", { text: "The service" }), h("div", { class: "bench" }, alertOf(failure)), button("Try again", start));
}

function notAvailable({ what, reason }) {
  return h(
    "div",
    { class: "card stack lone" },
    h("h3", { text: what }),
    h("p", {}, prose(reason)),
    h("div", { class: "row" }, button("See the models", () => show(models)), h("a", { class: "button plain", href: "/docs", text: "Read the documentation" })),
  );
}

function current() {
  return TABS.find((tab) => `#${tab.id}` === location.hash) ?? TABS[0];
}

function startAgain() {
  for (const place of built.values()) place.state = null;
  return start();
}

async function start() {
  try {
    await refresh();
    const { version, message } = studio.health;
    document.getElementById("colophon").replaceChildren(`${message} · ${version} · `, h("a", { href: "/docs", text: "API documentation" }));
    failure = null;
  } catch (error) {
    failure = error;
  }
  show(current());
}

buildShell();
show(current());
installTheme(document.getElementById("theme"));
signIn.attachTo(document.getElementById("account"));
document.getElementById("show-requests").addEventListener("click", () => log.show(current().paths));
session.addEventListener("change", startAgain);
session.addEventListener("refused", (event) => !locked && studio.health && signIn.open(event.detail));
window.addEventListener("hashchange", () => show(current()));
// What is dropped beside a drop zone must not replace the page.
for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
start();
