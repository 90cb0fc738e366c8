import { answering, formFrom } from "@/lib/handler";
import { service } from "@/lib/service";

/** A photo in, the regions of its face out: an SVG in base64, and what is known of each region. */
export function POST(request: Request): Promise<Response> {
  return answering(request, async () => {
    const form = await formFrom(request);
    return service().contours({ image: form.file("image", "a photo"), output: "svg" }, request.signal);
  });
}
