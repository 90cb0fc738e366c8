"use client";

import { ask } from "@/lib/ask";
import type { Contours } from "@/lib/personalizer";

import { SubmitRow } from "./form-parts";
import { PhotoField } from "./photo-field";
import { useSubmission } from "./use-submission";

export function ContourForm() {
  const { submission, submit } = useSubmission((form) => ask<Contours>("/api/contours", { method: "POST", body: form }));
  return (
    <>
      <form className="card" onSubmit={submit}>
        <PhotoField name="image" label="Photo" hint="One face, seen from the front." />
        <SubmitRow submission={submission} action="Find the regions" busy="Finding the regions…" done="The regions are found." />
      </form>
      {submission.state === "done" && <FaceRegions made={submission.answer} />}
    </>
  );
}

/**
 * The SVG as an image: there no script of it can run, and nothing of it can be loaded from elsewhere. Never put it into
 * the page as HTML. A data: URL, unlike a blob: one, has no rights on this site when it is opened by itself either.
 */
function FaceRegions({ made }: { made: Contours }) {
  const svg = `data:image/svg+xml;base64,${made.result}`;
  const { regions, width, height, warnings } = made.contours;
  const found = regions.filter((region) => region.available);
  const missing = regions.filter((region) => !region.available);
  return (
    <section className="card" aria-labelledby="regions">
      <h2 id="regions">{found.length} regions</h2>
      <img className="picture contours" src={svg} alt="The regions of the face, each in a colour of its own" />
      <p>
        <a className="button" href={svg} download="face.svg">
          Download the SVG
        </a>
      </p>
      {warnings.map((warning) => (
        <p key={warning}>{warning}</p>
      ))}
      <table>
        <thead>
          <tr>
            <th scope="col">Region</th>
            <th scope="col">Share of the picture</th>
          </tr>
        </thead>
        <tbody>
          {found.map(({ id, label, area }) => (
            <tr key={id}>
              <th scope="row">{label}</th>
              <td>{area === null ? "a line" : `${((100 * area) / (width * height)).toFixed(1)} %`}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {missing.length > 0 && (
        <details>
          <summary>{missing.length} regions that could not be found</summary>
          <ul>
            {missing.map(({ id, label, reason }) => (
              <li key={id}>
                {label}: {reason}
              </li>
            ))}
          </ul>
        </details>
      )}
    </section>
  );
}
