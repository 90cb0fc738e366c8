import { answering, pictureOf, uuid } from "@/lib/handler";
import { service } from "@/lib/service";

/** A page that the service keeps, as a picture. */
export function GET(request: Request, { params }: RouteContext<"/api/pages/[id]">): Promise<Response> {
  return answering(request, async () => pictureOf(await service().templatePicture(uuid((await params).id), request.signal)));
}
