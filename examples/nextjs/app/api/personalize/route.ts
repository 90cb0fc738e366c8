import { MODES, STYLES } from "@/lib/choices";
import { answering, formFrom } from "@/lib/handler";
import { service } from "@/lib/service";

/** A photo and a page in, the personalised page's id out. GET /api/pictures/{id} has the picture. */
export function POST(request: Request): Promise<Response> {
  return answering(request, async () => {
    const form = await formFrom(request);
    const illustration = form.optionalFile("illustration");
    const template = illustration ? undefined : form.optionalId("template_id");
    return service().personalize(
      {
        child_photo: form.file("child_photo", "a photo"),
        ...(template ? { template_id: template } : { illustration: illustration ?? form.file("illustration", "a page") }),
        mode: form.choice("mode", MODES),
        style: form.choice("style", STYLES),
      },
      request.signal,
    );
  });
}
