// Who you are: an API key, an account, or a new one.

import { alertOf, button, h, segments, uniqueId } from "./elements.js";

const WAYS = [["key", "API key"], ["account", "Account"], ["new", "New account"]];

export class SignIn {
  #api;
  #session;
  #announce;
  #dialog = h("dialog", { class: "narrow", "aria-label": "Sign in" });
  #way = "key";

  constructor({ api, session, announce }) {
    this.#api = api;
    this.#session = session;
    this.#announce = announce;
    document.body.append(this.#dialog);
    session.addEventListener("change", () => this.#dialog.close());
  }

  /** The masthead's button opens the dialog, and says who is signed in. */
  attachTo(opener) {
    const name = () => (opener.textContent = this.#session.signedIn ? (this.#session.username ?? "Key in use") : "Sign in");
    opener.addEventListener("click", () => this.open());
    this.#session.addEventListener("change", name);
    this.#session.addEventListener("refused", name);
    name();
  }

  open(error = null) {
    if (this.#dialog.open) return;
    const close = button("Close", () => this.#dialog.close(), { class: "button plain" });
    const body = this.#session.signedIn && !error ? this.#who() : this.form(error);
    this.#dialog.replaceChildren(h("div", { class: "dialog-body" }, h("div", { class: "row spread" }, h("h3", { text: "You and the service" }), close), body));
    this.#dialog.showModal();
  }

  form(error = null) {
    const place = h("div", { class: "stack" });
    const fill = () => place.replaceChildren(segments("Sign in with", "way", WAYS, this.#way, (way) => { this.#way = way; fill(); }), this.#fields(), error ? alertOf(error) : "");
    fill();
    return place;
  }

  #who() {
    const name = this.#session.username;
    return h(
      "div",
      { class: "stack" },
      h("p", { text: name ? `You are signed in as ${name}.` : "Requests carry your API key. It is kept until this browser tab is closed." }),
      h("div", { class: "row" }, button("Sign out", () => this.#session.logout())),
    );
  }

  #fields() {
    const said = h("div", { "aria-live": "polite" });
    const field = (label, type, autocomplete) => {
      const id = uniqueId("sign-in");
      const input = h("input", { id, type, autocomplete, required: true });
      return [h("div", { class: "field" }, h("label", { for: id, text: label }), input), input];
    };
    const [keyField, key] = field("API key", "password", "off");
    const [nameField, name] = field("Username or e-mail address", "text", "username");
    const [passwordField, password] = field("Password", "password", this.#way === "new" ? "new-password" : "current-password");
    const fields = this.#way === "key" ? [keyField] : [nameField, passwordField];
    const submit = async (event) => {
      event.preventDefault();
      said.replaceChildren();
      try {
        if (this.#way === "key") await this.#tryKey(key.value.trim());
        else {
          if (this.#way === "new") await this.#api.json("/api/v1/auth/register", { json: { username: name.value, password: password.value } });
          await this.#session.login((path, json) => this.#api.json(path, { json }), name.value, password.value);
        }
        this.#announce("You are signed in.");
      } catch (error) {
        said.replaceChildren(alertOf(error));
      }
    };
    const label = this.#way === "new" ? "Make the account" : "Sign in";
    return h("form", { class: "sign-in", on: { submit } }, fields, h("button", { class: "button main", type: "submit", text: label }), said);
  }

  async #tryKey(key) {
    await this.#api.json("/models", { headers: { Authorization: `Bearer ${key}` } });
    this.#session.useKey(key);
  }
}
