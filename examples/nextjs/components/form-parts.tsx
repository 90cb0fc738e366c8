import { useId } from "react";

import type { Submission } from "./use-submission";

/** One of several values, the first one to begin with. */
export function ChoiceField({ name, label, choices }: { name: string; label: string; choices: Record<string, string> }) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <select id={id} name={name}>
        {Object.entries(choices).map(([value, words]) => (
          <option key={value} value={value}>
            {words}
          </option>
        ))}
      </select>
    </div>
  );
}

/** The button, and a sentence on how the work goes. Both are there from the start, so that screen readers hear changes. */
export function SubmitRow({ submission, action, busy, done }: {
  submission: Submission<unknown>;
  action: string;
  busy: string;
  done: string;
}) {
  const isBusy = submission.state === "busy";
  return (
    <div className="submit">
      <button disabled={isBusy}>{action}</button>
      <p role="status">{isBusy ? busy : submission.state === "done" ? done : ""}</p>
      <p role="alert" className="failure">{submission.state === "failed" ? submission.sentence : ""}</p>
      {isBusy && <progress aria-label={busy} />}
    </div>
  );
}
