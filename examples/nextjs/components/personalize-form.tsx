"use client";

import { useState } from "react";

import { ask } from "@/lib/ask";
import { MODES, STYLES } from "@/lib/choices";
import type { Personalized, Template } from "@/lib/personalizer";
import { sentenceOf } from "@/lib/sentence";

import { ChoiceField, SubmitRow } from "./form-parts";
import { PhotoField } from "./photo-field";
import { useSubmission } from "./use-submission";

type Page = Pick<Template, "template_id" | "name">;

const OWN = "";

export function PersonalizeForm({ pages }: { pages: Page[] }) {
  const [page, setPage] = useState(pages[0]?.template_id ?? OWN);
  const { submission, submit, reset } = useSubmission((form) =>
    ask<Personalized>("/api/personalize", { method: "POST", body: form }),
  );
  return (
    <>
      <form className="card" onSubmit={submit}>
        <PhotoField
          name="child_photo"
          label="Photo"
          hint="One face, seen from the front, in even light. The service does not keep it."
        />
        {pages.length > 0 && (
          <fieldset>
            <legend>Page</legend>
            <div className="pages">
              {pages.map(({ template_id, name }, index) => (
                <label key={template_id}>
                  <input
                    type="radio"
                    name="template_id"
                    value={template_id}
                    checked={page === template_id}
                    onChange={() => setPage(template_id)}
                  />
                  <img src={`/api/pages/${template_id}`} alt="" />
                  {name || `Page ${index + 1}`}
                </label>
              ))}
              <label>
                <input type="radio" name="template_id" value={OWN} checked={page === OWN} onChange={() => setPage(OWN)} />
                A page of your own
              </label>
            </div>
          </fieldset>
        )}
        {page === OWN && (
          <PhotoField name="illustration" label="Page" hint="A drawn page with a face, as PNG, JPEG or WebP." />
        )}
        <div className="row">
          <ChoiceField name="mode" label="What comes from the photo" choices={MODES} />
          <ChoiceField name="style" label="Drawn as" choices={STYLES} />
        </div>
        <SubmitRow submission={submission} action="Personalise the page" busy="Drawing the page…" done="The page is ready." />
      </form>
      {submission.state === "done" && <PersonalizedPage made={submission.answer} onRemoved={reset} />}
    </>
  );
}

function PersonalizedPage({ made, onRemoved }: { made: Personalized; onRemoved: () => void }) {
  const [failure, setFailure] = useState("");
  const picture = `/api/pictures/${made.output_file_id}`;

  async function remove(): Promise<void> {
    try {
      await ask(picture, { method: "DELETE" });
      onRemoved();
    } catch (error) {
      setFailure(sentenceOf(error));
    }
  }

  return (
    <section className="card" aria-labelledby="made">
      <h2 id="made">Your page</h2>
      <img className="picture" src={picture} alt="The page with the face of the photo" />
      {made.faces_in_photo > 1 && (
        <p>The photo has {made.faces_in_photo} faces; the most prominent one was taken. Crop the photo to choose another.</p>
      )}
      <div className="row">
        <a className="button" href={picture} download="page">
          Download
        </a>
        <button className="quiet" type="button" onClick={remove}>
          Remove it from the service
        </button>
      </div>
      <p role="alert" className="failure">{failure}</p>
    </section>
  );
}
