/**
 * A client of the Illustration Personalizer for Node.js: fetch, types from the service's openapi.json, no dependency.
 *
 * It holds the key, so it belongs on the server: route handlers use it, browsers ask these.
 */

import type { components, paths } from "./openapi.ts";

type Method = "get" | "post" | "delete";
type Answer<Path extends keyof paths, M extends Method> = paths[Path][M] extends { responses: infer Responses }
  ? Responses[keyof Responses] extends { content: { "application/json": infer Json } }
    ? Json
    : never
  : never;
type Form<Path extends keyof paths> = paths[Path]["post"] extends {
  requestBody: { content: { "multipart/form-data": infer Fields } };
}
  ? Fields
  : never;
/** A form whose files, strings in OpenAPI, are files. */
type Upload<Fields, Files extends keyof Fields> = Omit<Fields, Files> & { [File in Files]: Blob };

export type PersonalizeForm = Omit<Upload<Form<"/personalize">, "child_photo">, "illustration"> & {
  illustration?: Blob;
};
export type Personalized = Answer<"/personalize", "post">;
export type Template = Answer<"/templates", "get">["templates"][number];
export type TryOnForm = Upload<Omit<Form<"/api/tryon/submit">, "user_image_url" | "product_image_url">, "user_image" | "product_image">;
export type TryOnAccepted = Answer<"/api/tryon/submit", "post">;
export type TryOnStatus = Answer<"/api/tryon/status/{job_id}", "get">;
export type TryOnRemoved = Answer<"/api/tryon/{job_id}", "delete">;
export type ContourForm = Upload<Omit<Form<"/api/v1/frontal/crop">, "segmentation_map">, "image">;
export type Contours = Answer<"/api/v1/frontal/crop", "post">;
export type CompareForm = Upload<Form<"/api/v1/compare-images">, "file_a" | "file_b">;
export type Compared = Answer<"/api/v1/compare-images", "post">;
export type ErrorAnswer = components["schemas"]["ErrorAnswer"];

/** What the service refused, as it says it; or why it could not be asked. `message` is a sentence for people. */
export class PersonalizerError extends Error {
  override readonly name = "PersonalizerError";

  constructor(
    readonly status: number,
    readonly answer: ErrorAnswer,
    readonly retryAfterS: number | null = null,
    options?: ErrorOptions,
  ) {
    super(answer.detail, options);
  }

  get code(): string {
    return this.answer.code;
  }
}

export interface PersonalizerOptions {
  /** Where the service answers, such as http://localhost:8000. */
  url: string;
  /** Sent as `Authorization: Bearer`; may be left out where the service is open. */
  apiKey?: string;
  /** Milliseconds that one request may take, its answer included. */
  timeoutMs?: number;
  /** How often a busy service, or one that a connection was lost to, is asked again. */
  retries?: number;
  /** A service that asks for a longer pause than these milliseconds is not asked again. */
  longestPauseMs?: number;
}

interface Sent {
  form?: FormData;
  idempotencyKey?: string;
  accept?: string;
  signal?: AbortSignal;
}

const PAUSE_AFTER_LOST_CONNECTION_MS = 300;

export class Personalizer {
  readonly #url: string;
  readonly #apiKey: string | undefined;
  readonly #timeoutMs: number;
  readonly #retries: number;
  readonly #longestPauseMs: number;

  constructor({ url, apiKey, timeoutMs = 60_000, retries = 2, longestPauseMs = 10_000 }: PersonalizerOptions) {
    this.#url = url.replace(/\/+$/, "");
    this.#apiKey = apiKey;
    this.#timeoutMs = timeoutMs;
    this.#retries = retries;
    this.#longestPauseMs = longestPauseMs;
  }

  /** Draw the child of a photo into a page. The photo is not stored. */
  personalize(fields: PersonalizeForm, signal?: AbortSignal): Promise<Personalized> {
    return this.#json("post", "/personalize", { form: formOf(fields), signal });
  }

  /** The pages that the service keeps, newest first. */
  async templates(signal?: AbortSignal): Promise<Template[]> {
    const { templates } = await this.#json<Answer<"/templates", "get">>("get", "/templates", { signal });
    return templates;
  }

  /** A kept page as a picture. */
  templatePicture(id: string, signal?: AbortSignal): Promise<Response> {
    return this.#send("get", `/templates/${encodeURIComponent(id)}/image`, { accept: "image/*", signal });
  }

  /** A result as a picture. */
  download(id: string, signal?: AbortSignal): Promise<Response> {
    return this.#send("get", `/download/${encodeURIComponent(id)}`, { accept: "image/*", signal });
  }

  /** Remove a result at once, instead of when it expires. */
  async remove(id: string, signal?: AbortSignal): Promise<void> {
    await this.#json("delete", `/download/${encodeURIComponent(id)}`, { signal });
  }

  /**
   * Hand in a try-on. The same key and pictures give the same job, so that handing in twice dresses, and pays, once.
   */
  submitTryOn(fields: TryOnForm, idempotencyKey: string, signal?: AbortSignal): Promise<TryOnAccepted> {
    return this.#json("post", "/api/tryon/submit", { form: formOf(fields), idempotencyKey, signal });
  }

  /** Where a try-on stands. */
  tryOnStatus(id: string, signal?: AbortSignal): Promise<TryOnStatus> {
    return this.#json("get", `/api/tryon/status/${encodeURIComponent(id)}`, { signal });
  }

  /** The picture of a try-on that is DONE. */
  tryOnPicture(id: string, signal?: AbortSignal): Promise<Response> {
    return this.#send("get", `/api/tryon/result/${encodeURIComponent(id)}`, { accept: "image/*", signal });
  }

  /** Cancel a try-on that has not finished; remove one that has, with its picture. */
  cancelOrRemoveTryOn(id: string, signal?: AbortSignal): Promise<TryOnRemoved> {
    return this.#json("delete", `/api/tryon/${encodeURIComponent(id)}`, { signal });
  }

  /** The regions of a face: the SVG in base64 as `result`, and what is known of each region. */
  contours(fields: ContourForm, signal?: AbortSignal): Promise<Contours> {
    return this.#json("post", "/api/v1/frontal/crop", { form: formOf(fields), signal });
  }

  /** How alike the faces of two photos are. */
  compareFaces(fields: CompareForm, signal?: AbortSignal): Promise<Compared> {
    return this.#json("post", "/api/v1/compare-images", { form: formOf(fields), signal });
  }

  async #json<Json>(method: Method, path: string, sent: Sent): Promise<Json> {
    const response = await this.#send(method, path, { accept: "application/json", ...sent });
    try {
      return (await response.json()) as Json;
    } catch (error) {
      throw failureOf(error, sent.signal);
    }
  }

  /** The answer, when it is a good one. Asks again where that changes nothing but the chance of one. */
  async #send(method: Method, path: string, sent: Sent): Promise<Response> {
    // Asked twice, a service does these once. What it answers with 503 it did not do at all.
    const repeatable = method !== "post" || sent.idempotencyKey !== undefined;
    for (let retriesLeft = this.#retries; ; retriesLeft -= 1) {
      try {
        return await this.#try(method, path, sent);
      } catch (error) {
        if (!(error instanceof PersonalizerError) || retriesLeft === 0) throw error;
        const pauseMs = pauseBefore(error, repeatable);
        if (pauseMs === null || pauseMs > this.#longestPauseMs) throw error;
        await pause(pauseMs, sent.signal);
      }
    }
  }

  async #try(method: Method, path: string, { form, idempotencyKey, accept, signal }: Sent): Promise<Response> {
    const headers = new Headers({ Accept: accept ?? "*/*" });
    if (this.#apiKey) headers.set("Authorization", `Bearer ${this.#apiKey}`);
    if (idempotencyKey) headers.set("Idempotency-Key", idempotencyKey);
    const timeout = AbortSignal.timeout(this.#timeoutMs);
    let response: Response;
    try {
      response = await fetch(this.#url + path, {
        method: method.toUpperCase(),
        headers,
        body: form ?? null,
        signal: signal ? AbortSignal.any([timeout, signal]) : timeout,
        cache: "no-store",
        redirect: "error", // photos and the key go where the settings say, and nowhere else
      });
    } catch (error) {
      throw failureOf(error, signal);
    }
    if (response.ok) return response;
    throw new PersonalizerError(response.status, await envelopeOf(response), retryAfterOf(response.headers));
  }
}

/** Milliseconds to wait before asking again; null where that would not help, or might do the work twice. */
function pauseBefore(error: PersonalizerError, repeatable: boolean): number | null {
  if (error.status === 503 && error.retryAfterS !== null) return error.retryAfterS * 1000;
  return error.code === "SERVICE_UNREACHABLE" && repeatable ? PAUSE_AFTER_LOST_CONNECTION_MS : null;
}

function formOf(fields: object): FormData {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined || value === null) continue;
    form.append(name, value instanceof Blob ? value : String(value));
  }
  return form;
}

/** The service's own words, or ours where something else answered in its place. */
async function envelopeOf(response: Response): Promise<ErrorAnswer> {
  const answer: unknown = await response.json().catch(() => null);
  if (isErrorAnswer(answer)) return answer;
  return {
    detail: `The service answered ${response.status} without saying why.`,
    code: "UNEXPECTED_ANSWER",
    request_id: response.headers.get("X-Request-ID"),
  };
}

export function isErrorAnswer(answer: unknown): answer is ErrorAnswer {
  return (
    typeof answer === "object" && answer !== null &&
    "detail" in answer && typeof answer.detail === "string" &&
    "code" in answer && typeof answer.code === "string"
  ); // prettier-ignore
}

/** Seconds, of either form that the header has. */
function retryAfterOf(headers: Headers): number | null {
  const value = headers.get("Retry-After");
  if (value === null) return null;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? null : Math.max(0, seconds);
}

/** What went wrong on the way. A caller who gave up gets the reason it gave. */
function failureOf(error: unknown, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted) return signal.reason;
  const [status, code, detail] =
    error instanceof DOMException && error.name === "TimeoutError"
      ? ([504, "SERVICE_TIMEOUT", "The service took too long. Try again in a moment."] as const)
      : error instanceof SyntaxError
        ? ([502, "UNEXPECTED_ANSWER", "The service answered something that is no JSON."] as const)
        : ([502, "SERVICE_UNREACHABLE", "The service can't be reached. Try again in a moment."] as const);
  return new PersonalizerError(status, { detail, code, request_id: null }, null, { cause: error });
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
