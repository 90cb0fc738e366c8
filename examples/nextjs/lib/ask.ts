import { isErrorAnswer } from "./personalizer.ts";

/** What this site's own route handlers answer. Failures come as an Error whose message is a sentence for people. */
export async function ask<Answer>(path: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(path, init).catch((error: unknown) => {
    throw init.signal?.aborted ? error : new Error("This site can't be reached. Is the connection gone?", { cause: error });
  });
  const answer: unknown = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer as Answer;
  if (isErrorAnswer(answer)) throw new Error(answer.detail);
  throw new Error(`Something went wrong here (status ${response.status}). Try again in a moment.`);
}
