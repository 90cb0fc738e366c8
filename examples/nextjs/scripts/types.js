// Writes lib/openapi.ts, the types of what this example asks of the service, from an openapi.json on standard input.
// With --check it writes nothing, and fails where the file is not what it would write. Sentences may differ, types not.

import { readFileSync, writeFileSync } from "node:fs";
import { text } from "node:stream/consumers";

import openapiTS, { astToString } from "openapi-typescript";
import ts from "typescript";

const FILE = new URL("../lib/openapi.ts", import.meta.url);
const HEADER = "// Made by `npm run types` from the service's openapi.json. Not to be edited.\n\n";

/** What the example calls. The types of a path that is added here are there after the next run. */
const PATHS = [
  "/personalize",
  "/download/{file_id}",
  "/templates",
  "/templates/{template_id}/image",
  "/api/tryon/submit",
  "/api/tryon/status/{job_id}",
  "/api/tryon/result/{job_id}",
  "/api/tryon/{job_id}",
  "/api/v1/frontal/crop",
  "/api/v1/compare-images",
];

/** The description with those paths and their good answers alone, and the schemas that they lead to. */
function excerpt(openapi) {
  const missing = PATHS.filter((path) => !(path in openapi.paths));
  if (missing.length) throw new Error(`The service has no ${missing.join(", ")}.`);
  const paths = Object.fromEntries(PATHS.map((path) => [path, onlySuccess(openapi.paths[path])]));
  const schemas = {};
  const collect = (node) => {
    for (const [, name] of JSON.stringify(node).matchAll(/"#\/components\/schemas\/([^"]+)"/g)) {
      if (name in schemas) continue;
      schemas[name] = openapi.components.schemas[name];
      collect(schemas[name]);
    }
  };
  collect([paths, { $ref: "#/components/schemas/ErrorAnswer" }]);
  return { openapi: openapi.openapi, info: openapi.info, paths, components: { schemas } };
}

/** All failures are an ErrorAnswer: it is enough to have that once. */
function onlySuccess(path) {
  const succeeds = ([status]) => Number(status) < 300;
  const short = ({ responses, ...operation }) => ({
    ...operation,
    responses: Object.fromEntries(Object.entries(responses).filter(succeeds)),
  });
  return Object.fromEntries(Object.entries(path).map(([method, operation]) => [method, short(operation)]));
}

function withoutComments(code) {
  return ts.createPrinter({ removeComments: true }).printFile(ts.createSourceFile("types.ts", code, ts.ScriptTarget.Latest));
}

// A field with a default may be left out of a request; answers say themselves which of their fields are always there.
const types = await openapiTS(excerpt(JSON.parse(await text(process.stdin))), { defaultNonNullable: false });
const code = HEADER + astToString(types);
if (!process.argv.includes("--check")) {
  writeFileSync(FILE, code);
} else if (withoutComments(code) !== withoutComments(readFileSync(FILE, "utf8"))) {
  console.error("lib/openapi.ts is not what the service is now. `make nextjs-types` writes it anew.");
  process.exitCode = 1;
}
