import { answering, formFrom } from "@/lib/handler";
import { service } from "@/lib/service";

/** Two photos in, how alike their faces are out. */
export function POST(request: Request): Promise<Response> {
  return answering(request, async () => {
    const form = await formFrom(request);
    const photos = { file_a: form.file("file_a", "a first photo"), file_b: form.file("file_b", "a second photo") };
    return service().compareFaces(photos, request.signal);
  });
}
