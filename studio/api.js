// The only module that talks to the service: credentials, errors as sentences, events, and the list of requests.

class ApiError extends Error {
  constructor(message, { status = 0, code = null, requestId = null, retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, code, requestId, retryAfter });
  }
}

const NO_ANSWER = "The service does not answer. Is it still running?";

export class Api {
  #session;
  #log;

  constructor(session, log) {
    this.#session = session;
    this.#log = log;
  }

  /**
   * Ask, and give back the Response of what succeeded.
   *
   * form: [[name, value or File], ...]; null and undefined are left out. json: a body. saveAs: curl's -o.
   * Raises ApiError with the service's sentence, or an AbortError.
   */
  async request(path, { method, form, json, accept, signal, headers, saveAs, stream = false } = {}) {
    const fields = form?.filter(([, value]) => value !== null && value !== undefined);
    const request = { method: method ?? (fields || json !== undefined ? "POST" : "GET"), path, form: fields, json, accept, stream, saveAs };
    const send = () => this.#send(request, headers, signal);
    const signedIn = this.#session.signedIn || Boolean(headers?.Authorization);
    try {
      const response = await this.#log.record({ ...request, signedIn }, async () => {
        const first = await send();
        return first.status === 401 && (await this.#session.renew()) ? send() : first;
      });
      if (!response.ok) throw await failure(response);
      return response;
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) this.#session.refused(error);
      if (error instanceof ApiError || error.name === "AbortError") throw error;
      throw new ApiError(NO_ANSWER);
    }
  }

  async #send({ method, path, form, json, accept }, headers, signal) {
    const authorization = await this.#session.authorization();
    let body;
    if (form) {
      body = new FormData();
      for (const [name, value] of form) body.append(name, value);
    } else if (json !== undefined) body = JSON.stringify(json);
    return fetch(path, {
      method, body, signal,
      headers: {
        Accept: accept ?? "application/json",
        ...(json !== undefined && { "Content-Type": "application/json" }),
        ...(authorization && { Authorization: authorization }),
        ...headers,
      },
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
    });
  }

  async json(path, options) {
    return (await this.request(path, options)).json();
  }

  async blob(path, options) {
    return (await this.request(path, options)).blob();
  }

  /** DELETE. Read to its end: what isn't keeps its connection. */
  async remove(path) {
    await this.json(path, { method: "DELETE" });
  }

  /** Server-sent events: calls `onEvent(name, data)` for each; resolves when the stream ends. */
  async events(path, options, onEvent) {
    const response = await this.request(path, { accept: "text/event-stream", stream: true, ...options });
    let buffer = "";
    for await (const text of chunks(response.body.pipeThrough(new TextDecoderStream()))) {
      buffer += text.replaceAll("\r", "");
      const blocks = buffer.split("\n\n");
      buffer = blocks.pop();
      for (const block of blocks) {
        const event = parseEvent(block);
        if (event) onEvent(event.name, event.data);
      }
    }
  }

  /** Follow a job until it has finished, whatever happens to the connection; gives back its last state. */
  async follow(job, onChange, signal) {
    let latest = job;
    for (;;) {
      try {
        await this.events(`/api/v1/jobs/${job.job_id}/events`, { signal }, (_, data) => {
          latest = data;
          onChange(data);
        });
      } catch (error) {
        if (error.name === "AbortError" || (error.status >= 400 && error.status !== 503)) throw error;
      }
      if (["completed", "failed", "cancelled"].includes(latest.status)) return latest;
      await new Promise((resolve) => setTimeout(resolve, 1000));
      signal?.throwIfAborted();
    }
  }
}

async function* chunks(stream) {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parseEvent(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  if (!data.length || data[0] === "[DONE]") return null;
  return { name, data: JSON.parse(data.join("\n")) };
}

async function failure(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // a proxy's own page
  }
  const message = body.detail ?? body.error?.message ?? `The service answered ${response.status} ${response.statusText}.`;
  return new ApiError(typeof message === "string" ? message : JSON.stringify(message), {
    status: response.status,
    code: body.code ?? body.error?.code ?? null,
    requestId: body.request_id ?? response.headers.get("X-Request-ID"),
    retryAfter: Number(response.headers.get("Retry-After")) || null,
  });
}
