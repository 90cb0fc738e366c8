"use client";

import { useState, type FormEvent } from "react";

import { sentenceOf } from "@/lib/sentence";

export type Submission<Answer> =
  | { state: "idle" | "busy" }
  | { state: "done"; answer: Answer }
  | { state: "failed"; sentence: string };

/** A form that is sent without leaving the page: where it stands, and what to do when it is submitted. */
export function useSubmission<Answer>(send: (form: FormData) => Promise<Answer>) {
  const [submission, setSubmission] = useState<Submission<Answer>>({ state: "idle" });

  async function submit(event: FormEvent<HTMLFormElement>): Promise<void> {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    setSubmission({ state: "busy" });
    try {
      setSubmission({ state: "done", answer: await send(form) });
    } catch (error) {
      setSubmission({ state: "failed", sentence: sentenceOf(error) });
    }
  }

  return { submission, submit, reset: () => setSubmission({ state: "idle" }) };
}
