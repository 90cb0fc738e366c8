import "server-only"; // a browser's bundle that came to import this would fail to build

import { Personalizer } from "./personalizer.ts";

let client: Personalizer | undefined;

/** The service of PYTHON_AI_SERVICE_URL, read when the first request comes: a build knows no settings. */
export function service(): Personalizer {
  client ??= new Personalizer({
    url: process.env["PYTHON_AI_SERVICE_URL"] || "http://localhost:8000",
    apiKey: process.env["PYTHON_AI_SERVICE_API_KEY"],
  });
  return client;
}
