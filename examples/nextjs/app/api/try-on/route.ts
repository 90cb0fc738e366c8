import { GARMENTS, TRY_ON_MODES } from "@/lib/choices";
import { answering, formFrom, idempotencyKeyOf } from "@/lib/handler";
import { service } from "@/lib/service";

/** Two photos in, a job's id out. The page's own Idempotency-Key makes a form that is sent twice one job. */
export function POST(request: Request): Promise<Response> {
  return answering(request, async () => {
    const form = await formFrom(request);
    return service().submitTryOn(
      {
        user_image: form.file("user_image", "a photo of the person"),
        product_image: form.file("product_image", "a photo of the garment"),
        garment_type: form.choice("garment_type", GARMENTS),
        mode: form.choice("mode", TRY_ON_MODES),
        format: "jpeg",
      },
      idempotencyKeyOf(request),
      request.signal,
    );
  });
}
