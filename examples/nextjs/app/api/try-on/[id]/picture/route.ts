import { answering, pictureOf, uuid } from "@/lib/handler";
import { service } from "@/lib/service";

/** The picture of a try-on that is done. */
export function GET(request: Request, { params }: RouteContext<"/api/try-on/[id]/picture">): Promise<Response> {
  return answering(request, async () =>
    pictureOf(await service().tryOnPicture(uuid((await params).id), request.signal)),
  );
}
