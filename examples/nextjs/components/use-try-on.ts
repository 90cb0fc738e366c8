"use client";

import { useEffect, useState } from "react";

import { ask } from "@/lib/ask";
import type { TryOnStatus } from "@/lib/personalizer";
import { sentenceOf } from "@/lib/sentence";

const POLL_MS = 700;
const FAILED_POLLS = 5;

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Where a job stands, asked for until it has finished; and why that can't be said, when it can't. */
export function useTryOn(jobId: string): { status: TryOnStatus | null; failure: string } {
  const [status, setStatus] = useState<TryOnStatus | null>(null);
  const [failure, setFailure] = useState("");

  useEffect(() => {
    const leaving = new AbortController();
    const { signal } = leaving;

    async function follow(): Promise<void> {
      for (let failed = 0; !signal.aborted; await sleep(POLL_MS * (failed + 1))) {
        try {
          const current = await ask<TryOnStatus>(`/api/try-on/${jobId}`, { signal });
          setStatus(current);
          if (isFinished(current)) return;
          failed = 0;
        } catch (error) {
          if (signal.aborted) return;
          failed += 1;
          if (failed === FAILED_POLLS) return setFailure(sentenceOf(error));
        }
      }
    }

    void follow();
    return () => leaving.abort();
  }, [jobId]);

  return { status, failure };
}

export function isFinished({ status }: TryOnStatus): boolean {
  return status !== "QUEUED" && status !== "PROCESSING";
}
