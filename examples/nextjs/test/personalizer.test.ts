// The client against a server that speaks as the service does, on every way to fail.

import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { after, describe, test } from "node:test";

import { Personalizer, PersonalizerError, type PersonalizerOptions } from "../lib/personalizer.ts";

type Handler = (request: IncomingMessage, response: ServerResponse, body: string) => void;

const closing: (() => void)[] = [];
after(() => closing.forEach((close) => close()));

/** A client of a server that answers the requests in turn, the last answer again and again; and what it was asked. */
async function serving(handlers: Handler[], options: Partial<PersonalizerOptions> = {}) {
  const asked: { request: IncomingMessage; body: string }[] = [];
  const answer: RequestListener = async (request, response) => {
    const body = await text(request);
    const handler = handlers[Math.min(asked.length, handlers.length - 1)];
    asked.push({ request, body });
    handler?.(request, response, body);
  };
  const server = createServer(answer);
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { asked, url, client: new Personalizer({ url, ...options }) };
}

const json = (status: number, value: unknown, headers: Record<string, string> = {}): Handler => (_, response) =>
  void response.writeHead(status, { "Content-Type": "application/json", ...headers }).end(JSON.stringify(value));
const busy = (retryAfter: string): Handler =>
  json(503, { detail: "All workers are busy.", code: "BUSY", request_id: "r" }, { "Retry-After": retryAfter });
const hangUp: Handler = (request) => void request.socket.destroy();

const picture = new Blob(["not really a picture"], { type: "image/png" });
const clothes = { user_image: picture, product_image: picture };
const removed = { success: true, job_id: "j", outcome: "cancelled" };

async function failing(work: Promise<unknown>): Promise<PersonalizerError> {
  const error = await work.then(() => assert.fail("it did not fail"), (reason: unknown) => reason);
  assert.ok(error instanceof PersonalizerError, String(error));
  return error;
}

describe("what is sent", () => {
  test("the key, the fields that are set, and the files", async () => {
    const { client, asked } = await serving([json(200, {})], { apiKey: "secret" });
    await client.personalize({ child_photo: picture, illustration: picture, style: "pencil", strength: 0, slot: "1" });
    const { request, body } = asked[0]!;
    assert.equal(`${request.method} ${request.url}`, "POST /personalize");
    assert.equal(request.headers.authorization, "Bearer secret");
    assert.deepEqual([...body.matchAll(/ name="(\w+)"/g)].map(([, name]) => name), [
      "child_photo", "illustration", "style", "strength", "slot",
    ]); // prettier-ignore
  });

  test("no key where there is none", async () => {
    const { client, asked } = await serving([json(200, { templates: [] })]);
    assert.deepEqual(await client.templates(), []);
    assert.equal(asked[0]!.request.headers.authorization, undefined);
  });

  test("an id stays one part of the path", async () => {
    const { client, asked } = await serving([json(200, removed)]);
    await client.tryOnStatus("../../models?x");
    assert.equal(asked[0]!.request.url, "/api/tryon/status/..%2F..%2Fmodels%3Fx");
  });
});

describe("a service that is busy", () => {
  test("is asked again after the pause it asks for, with the same Idempotency-Key", async () => {
    const { client, asked } = await serving([busy("0"), busy(new Date().toUTCString()), json(202, { job_id: "j" })]);
    assert.equal((await client.submitTryOn(clothes, "order-7")).job_id, "j");
    assert.deepEqual(asked.map(({ request }) => request.headers["idempotency-key"]), ["order-7", "order-7", "order-7"]);
    assert.ok(asked.every(({ body }) => body.includes("not really a picture")));
  });

  test("is not asked for ever", async () => {
    const { client, asked } = await serving([busy("0")], { retries: 2 });
    const error = await failing(client.personalize({ child_photo: picture, illustration: picture }));
    assert.deepEqual([error.status, error.code, error.message], [503, "BUSY", "All workers are busy."]);
    assert.equal(asked.length, 3);
  });

  test("is not waited for longer than we want to", async () => {
    const { client, asked } = await serving([busy("3600")]);
    assert.equal((await failing(client.templates())).retryAfterS, 3600);
    assert.equal(asked.length, 1);
  });

  test("is left alone where it lacks something, which no pause brings", async () => {
    const { client, asked } = await serving([json(503, { detail: "No model.", code: "MODEL_UNAVAILABLE" })]);
    assert.equal((await failing(client.compareFaces({ file_a: picture, file_b: picture }))).code, "MODEL_UNAVAILABLE");
    assert.equal(asked.length, 1);
  });

  for (const [what, handler] of [["to a pause", busy("5")], ["to an answer", () => undefined]] as const) {
    test(`is no longer waited for when the caller puts an end ${what}`, async () => {
      const { client, asked } = await serving([handler]);
      const giveUp = new AbortController();
      const work = client.personalize({ child_photo: picture, illustration: picture }, giveUp.signal);
      while (asked.length === 0) await new Promise((tick) => setTimeout(tick, 5));
      giveUp.abort(new Error("gone"));
      await assert.rejects(work, { message: "gone" });
      assert.equal(asked.length, 1);
    });
  }
});

describe("a connection that is lost", () => {
  test("is made again where that can do nothing twice", async () => {
    const status = { job_id: "j", status: "DONE" };
    const { client, asked } = await serving([hangUp, json(200, status)]);
    assert.deepEqual(await client.tryOnStatus("j"), status);
    assert.equal(asked.length, 2);
  });

  test("is not made again for a request that might be done twice", async () => {
    const { client, asked } = await serving([hangUp, json(200, {})]);
    const error = await failing(client.personalize({ child_photo: picture, illustration: picture }));
    assert.deepEqual([error.status, error.code], [502, "SERVICE_UNREACHABLE"]);
    assert.equal(asked.length, 1);
  });
});

describe("answers that are no success", () => {
  test("come as the service words them, with every field that is wrong", async () => {
    const answer = {
      detail: "strength: too large",
      code: "VALIDATION_ERROR",
      request_id: "r",
      errors: [{ loc: ["body", "strength"], msg: "too large", type: "less_than_equal" }],
    };
    const { client } = await serving([json(422, answer)]);
    const error = await failing(client.personalize({ child_photo: picture, illustration: picture, strength: 7 }));
    assert.deepEqual([error.status, error.answer], [422, answer]);
  });

  test("have words of ours where a proxy answers", async () => {
    const { client } = await serving([(_, response) => void response.writeHead(502).end("<h1>Bad Gateway</h1>")]);
    const error = await failing(client.templates());
    assert.deepEqual([error.status, error.code], [502, "UNEXPECTED_ANSWER"]);
  });

  test("are not taken for JSON when they are none", async () => {
    const { client } = await serving([(_, response) => void response.writeHead(200).end("<h1>Hello</h1>")]);
    assert.equal((await failing(client.templates())).code, "UNEXPECTED_ANSWER");
  });

  test("are not followed elsewhere", async () => {
    const elsewhere = await serving([json(200, { templates: [] })]);
    const moved: Handler = (_, response) => void response.writeHead(307, { Location: elsewhere.url }).end();
    const { client } = await serving([moved], { apiKey: "secret", retries: 0 });
    assert.equal((await failing(client.templates())).code, "SERVICE_UNREACHABLE");
    assert.equal(elsewhere.asked.length, 0);
  });

  test("are not waited for longer than the time-out", async () => {
    const { client, asked } = await serving([() => undefined], { timeoutMs: 50 });
    const error = await failing(client.templates());
    assert.deepEqual([error.status, error.code], [504, "SERVICE_TIMEOUT"]);
    assert.equal(asked.length, 1);
  });
});
