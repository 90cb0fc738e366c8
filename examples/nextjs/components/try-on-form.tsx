"use client";

import { useState } from "react";

import { ask } from "@/lib/ask";
import { GARMENTS, TRY_ON_MODES } from "@/lib/choices";
import type { TryOnAccepted, TryOnRemoved, TryOnStatus } from "@/lib/personalizer";
import { sentenceOf } from "@/lib/sentence";

import { ChoiceField, SubmitRow } from "./form-parts";
import { PhotoField } from "./photo-field";
import { useSubmission } from "./use-submission";
import { isFinished, useTryOn } from "./use-try-on";

const STAGES: Record<string, string> = {
  load: "Opening the pictures",
  segmentation: "Finding the person",
  pose: "Finding the pose",
  garment: "Cutting out the garment",
  alignment: "Fitting the garment",
  quality: "Checking the fit",
  finish: "Finishing the draft",
  generation: "Making the photograph",
  storage: "Keeping the picture",
};

export function TryOnForm() {
  const [key, setKey] = useState(newKey);
  const { submission, submit } = useSubmission(async (form) => {
    const headers = { "Idempotency-Key": key };
    const accepted = await ask<TryOnAccepted>("/api/try-on", { method: "POST", body: form, headers });
    setKey(newKey()); // until an answer came, sending the same again gives the job that may already be there
    return accepted;
  });
  return (
    <>
      <form className="card" onSubmit={submit} onChange={() => setKey(newKey())}>
        <div className="row">
          <PhotoField name="user_image" label="Photo of you" hint="Standing, seen from the front, down to the hips at least." />
          <PhotoField name="product_image" label="Photo of the garment" hint="The garment alone, laid flat, before a plain background." />
        </div>
        <div className="row">
          <ChoiceField name="garment_type" label="Garment" choices={GARMENTS} />
          <ChoiceField name="mode" label="Picture" choices={TRY_ON_MODES} />
        </div>
        <SubmitRow submission={submission} action="Try it on" busy="Sending the pictures…" done="The pictures are sent." />
      </form>
      {submission.state === "done" && <TryOn key={submission.answer.job_id} jobId={submission.answer.job_id} />}
    </>
  );
}

function TryOn({ jobId }: { jobId: string }) {
  const { status, failure } = useTryOn(jobId);
  const [removed, setRemoved] = useState(false);
  const [refusal, setRefusal] = useState("");
  const running = !failure && (status === null || !isFinished(status));

  async function cancelOrRemove(): Promise<void> {
    try {
      const { outcome } = await ask<TryOnRemoved>(`/api/try-on/${jobId}`, { method: "DELETE" });
      setRemoved(outcome === "deleted");
    } catch (error) {
      setRefusal(sentenceOf(error));
    }
  }

  if (removed) return <p role="status">The picture is gone.</p>;
  return (
    <section className="card" aria-labelledby="try-on">
      <h2 id="try-on">Your try-on</h2>
      <p role="status">{wordsFor(status)}</p>
      {running && <progress value={status?.progress ?? 0} aria-label="Progress" />}
      <p role="alert" className="failure">
        {failure || (status?.status === "FAILED" && status.error_message) || refusal}
      </p>
      {status?.status === "DONE" && <TryOnResult status={status} />}
      {(running || status?.status === "DONE") && (
        <button className="quiet" type="button" onClick={cancelOrRemove}>
          {running ? "Cancel" : "Remove it from the service"}
        </button>
      )}
    </section>
  );
}

function TryOnResult({ status: { job_id, quality, details } }: { status: TryOnStatus }) {
  const picture = `/api/try-on/${job_id}/picture`;
  return (
    <>
      <img className="picture" src={picture} alt="You, wearing the garment" />
      {details?.provider_fallback && <p>This is the draft. {details.provider_fallback_detail}</p>}
      {details?.warnings.map((warning) => (
        <p key={warning}>{warning}</p>
      ))}
      <a className="button" href={picture} download="try-on">
        Download
      </a>
      {quality && (
        <details>
          <summary>How well it fits: {percent(quality.score)}</summary>
          <table>
            <thead>
              <tr>
                <th scope="col">Measure</th>
                <th scope="col">Score</th>
              </tr>
            </thead>
            <tbody>
              {Object.entries(quality.terms).map(([name, term]) => (
                <tr key={name}>
                  <th scope="row">{name.replaceAll("_", " ")}</th>
                  <td>{percent(term.score)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </details>
      )}
    </>
  );
}

function wordsFor(status: TryOnStatus | null): string {
  switch (status?.status) {
    case undefined:
    case "QUEUED":
      return "Waiting for its turn…";
    case "PROCESSING":
      return `${STAGES[status.stage ?? ""] ?? "Working"}…`;
    case "DONE":
      return "The picture is ready.";
    case "CANCELLED":
      return "The try-on was cancelled.";
    case "FAILED":
      return "The try-on did not work.";
  }
}

/** Random, and made where randomUUID isn't: on a site without HTTPS. */
function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const percent = (share: number) => `${Math.round(100 * share)} %`;
