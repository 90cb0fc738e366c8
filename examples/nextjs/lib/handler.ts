import "server-only";

import { PersonalizerError, type ErrorAnswer } from "./personalizer.ts";

const MOST_UPLOAD_BYTES = 25 * 1024 * 1024;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const IDEMPOTENCY_KEY = /^[0-9a-f]{32}$/;
const PICTURES = ["image/png", "image/jpeg", "image/webp"];

/** What a route handler refuses by itself. */
class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
  ) {
    super(detail);
  }
}

/** The work's answer as JSON, or its failure with the service's own sentence and code. */
export async function answering(request: Request, work: () => Promise<object>): Promise<Response> {
  try {
    const made = await work();
    return made instanceof Response ? made : Response.json(made, { headers: { "Cache-Control": "no-store" } });
  } catch (error) {
    if (request.signal.aborted) return new Response(null, { status: 499 }); // the visitor has gone
    const { status, ...answer } = told(error);
    return Response.json(answer, { status, headers: { "Cache-Control": "no-store" } });
  }
}

/** The uploaded form, from a page of this site. It is held in memory, so that a busy service can be sent it again. */
export async function formFrom(request: Request): Promise<UploadedForm> {
  refuseOtherSites(request);
  const length = Number(request.headers.get("Content-Length") ?? Number.NaN);
  if (Number.isNaN(length)) throw new Refusal(411, "LENGTH_REQUIRED", "Say with Content-Length how long the form is.");
  if (length > MOST_UPLOAD_BYTES) {
    const most = MOST_UPLOAD_BYTES / 1024 / 1024;
    throw new Refusal(413, "FILE_TOO_LARGE", `Pictures may have ${most} MB together. Choose smaller ones.`);
  }
  try {
    return new UploadedForm(await request.formData());
  } catch {
    throw new Refusal(400, "BAD_REQUEST", "Send a multipart form.");
  }
}

/** Fields of a form, by what they should be; whatever else it has never reaches the service. */
export class UploadedForm {
  readonly #form: FormData;

  constructor(form: FormData) {
    this.#form = form;
  }

  /** A file that was chosen; browsers send an empty one where none was. */
  optionalFile(name: string): File | undefined {
    const file = this.#form.get(name);
    return file instanceof File && file.size > 0 ? file : undefined;
  }

  file(name: string, what: string): File {
    const file = this.optionalFile(name);
    if (file === undefined) throw new Refusal(400, "BAD_REQUEST", `Choose ${what}.`);
    return file;
  }

  optionalId(name: string): string | undefined {
    const id = this.#form.get(name);
    return typeof id === "string" && id !== "" ? uuid(id) : undefined;
  }

  /** One of the values that `labels` names; the service's default where none was sent. */
  choice<Value extends string>(name: string, labels: Record<Value, string>): Value | undefined {
    const value = this.#form.get(name);
    if (value === null || value === "") return undefined;
    if (typeof value === "string" && Object.hasOwn(labels, value)) return value as Value;
    throw new Refusal(400, "BAD_REQUEST", `${name} is one of ${Object.keys(labels).join(", ")}.`);
  }
}

/** An id as the service gives them. */
export function uuid(id: string): string {
  if (!UUID.test(id)) throw new Refusal(404, "NOT_FOUND", "There is nothing here by this id.");
  return id;
}

/** What makes a request that is sent twice one job; every page chooses its own. */
export function idempotencyKeyOf(request: Request): string {
  const key = request.headers.get("Idempotency-Key");
  if (key === null || !IDEMPOTENCY_KEY.test(key)) {
    throw new Refusal(400, "BAD_REQUEST", "Send an Idempotency-Key of 32 hexadecimal digits, a new one for each request.");
  }
  return key;
}

/** Refuse what a browser sends for another site: its visitor may be ours, but not its form. */
export function refuseOtherSites(request: Request): void {
  const site = request.headers.get("Sec-Fetch-Site");
  if (site !== null && site !== "same-origin" && site !== "none") {
    throw new Refusal(403, "FORBIDDEN", "This can be asked from this site's own pages only.");
  }
}

/** The service's picture, passed on as it comes; nothing but a picture, and kept by no shared cache. */
export function pictureOf(response: Response): Response {
  const type = response.headers.get("Content-Type") ?? "";
  if (!PICTURES.includes(type)) throw new Refusal(502, "UNEXPECTED_ANSWER", "The service sent no picture.");
  return new Response(response.body, {
    headers: { "Content-Type": type, "Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff" },
  });
}

function told(error: unknown): ErrorAnswer & { status: number } {
  if (error instanceof Refusal) {
    return { status: error.status, detail: error.message, code: error.code, request_id: null };
  }
  if (!(error instanceof PersonalizerError)) {
    console.error(error);
    return { status: 500, detail: "Something went wrong here. Try again in a moment.", code: "INTERNAL_ERROR", request_id: null };
  }
  if (error.status >= 500) console.error(`${error.code}: ${error.message}`, error.cause ?? "");
  if (error.status === 401 || error.status === 403) {
    // The key is ours: nothing that a visitor could put right.
    console.error(`The service refuses PYTHON_AI_SERVICE_API_KEY: ${error.message}`);
    return { ...error.answer, status: 502, detail: "This site is not let in by its picture service.", code: "SERVICE_REFUSES_KEY" };
  }
  return { ...error.answer, status: error.status };
}
