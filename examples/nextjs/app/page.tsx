import { PersonalizeForm } from "@/components/personalize-form";
import { sentenceOf } from "@/lib/sentence";
import { service } from "@/lib/service";

export default async function PersonalizePage() {
  const { pages, failure } = await service()
    .templates()
    .then(
      (templates) => ({ pages: templates.map(({ template_id, name }) => ({ template_id, name })), failure: "" }),
      (error: unknown) => ({ pages: [], failure: sentenceOf(error) }),
    );
  return (
    <>
      <h1>Put yourself into a picture book</h1>
      <p>The page keeps its pose, light and line; the face becomes the one of your photo.</p>
      {failure && <p className="failure">The pages of the shop can&rsquo;t be shown. {failure}</p>}
      <PersonalizeForm pages={pages} />
    </>
  );
}
