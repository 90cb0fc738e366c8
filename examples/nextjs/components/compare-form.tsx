"use client";

import { ask } from "@/lib/ask";
import type { Compared } from "@/lib/personalizer";

import { SubmitRow } from "./form-parts";
import { PhotoField } from "./photo-field";
import { useSubmission } from "./use-submission";

export function CompareForm() {
  const { submission, submit } = useSubmission((form) => ask<Compared>("/api/faces", { method: "POST", body: form }));
  return (
    <>
      <form className="card" onSubmit={submit}>
        <div className="row">
          <PhotoField name="file_a" label="First photo" />
          <PhotoField name="file_b" label="Second photo" />
        </div>
        <SubmitRow submission={submission} action="Compare" busy="Comparing…" done="The faces are compared." />
      </form>
      {submission.state === "done" && <Verdict made={submission.answer} />}
    </>
  );
}

function Verdict({ made: { is_match, similarity, threshold, model } }: { made: Compared }) {
  return (
    <section className="card" aria-labelledby="verdict">
      <h2 id="verdict">
        {is_match === null ? "No threshold is known" : is_match ? "Probably one person" : "Probably two people"}
      </h2>
      <p>
        <meter min={-1} max={1} value={similarity} aria-label="Similarity" /> {similarity.toFixed(2)}
        {threshold !== null && `, where ${threshold.toFixed(2)} and more count as one person`} ({model}).
      </p>
    </section>
  );
}
