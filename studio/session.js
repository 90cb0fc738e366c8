// Who the visitor is: an API key, or an account whose access token stays in memory.
//
// A key and a refresh token lie in sessionStorage: they survive a reload, and are gone with the browser's tab. Each
// refresh token works once, so that renewing is done by one request at a time.

const KEY = "studio.api-key";
const REFRESH = "studio.refresh-token";
const NAME = "studio.username";
const EARLY_MS = 30_000;

export class Session extends EventTarget {
  #log;
  #access = null;
  #expires = 0;
  #renewing = null;

  constructor(log) {
    super();
    this.#log = log;
  }

  get apiKey() {
    return sessionStorage.getItem(KEY);
  }

  get username() {
    return sessionStorage.getItem(NAME);
  }

  get signedIn() {
    return Boolean(this.apiKey || this.#access || sessionStorage.getItem(REFRESH));
  }

  /** What the Authorization header says; null for nobody. */
  async authorization() {
    if (this.apiKey) return `Bearer ${this.apiKey}`;
    if (Date.now() > this.#expires - EARLY_MS && sessionStorage.getItem(REFRESH)) await this.renew();
    return this.#access && `Bearer ${this.#access}`;
  }

  useKey(key) {
    this.#forget();
    sessionStorage.setItem(KEY, key);
    this.#changed();
  }

  /** Log in; `call(path, body)` posts JSON and gives back the answer. */
  async login(call, username, password) {
    const tokens = await call("/api/v1/auth/login", { username, password });
    this.#forget();
    this.#take(tokens);
    sessionStorage.setItem(NAME, username);
    this.#changed();
  }

  async logout() {
    const refresh = sessionStorage.getItem(REFRESH);
    this.#forget();
    this.#changed();
    if (refresh) await this.#post("/api/v1/auth/logout", { refresh_token: refresh }).catch(() => {});
  }

  /** New tokens for the refresh token; false where there is none, or it is no longer taken. */
  renew() {
    this.#renewing ??= this.#renew().finally(() => (this.#renewing = null));
    return this.#renewing;
  }

  async #renew() {
    const refresh = sessionStorage.getItem(REFRESH);
    if (!refresh) return false;
    const response = await this.#post("/api/v1/auth/refresh", { refresh_token: refresh });
    if (response.ok) this.#take(await response.json());
    else if (response.status === 401) this.#forget();
    return response.ok;
  }

  /** The service asked for credentials, or for others. */
  refused(error) {
    if (this.apiKey) this.#forget();
    this.dispatchEvent(new CustomEvent("refused", { detail: error }));
  }

  #take({ access_token: access, refresh_token: refresh, expires_in: seconds }) {
    this.#access = access;
    this.#expires = Date.now() + seconds * 1000;
    sessionStorage.setItem(REFRESH, refresh);
  }

  #forget() {
    this.#access = null;
    this.#expires = 0;
    for (const name of [KEY, REFRESH, NAME]) sessionStorage.removeItem(name);
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  #post(path, json) {
    return this.#log.record({ method: "POST", path, json }, () =>
      fetch(path, { method: "POST", body: JSON.stringify(json), headers: { "Content-Type": "application/json" }, credentials: "omit", cache: "no-store" }),
    );
  }
}
