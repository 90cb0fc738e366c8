import { answering, pictureOf, refuseOtherSites, uuid } from "@/lib/handler";
import { service } from "@/lib/service";

type Context = RouteContext<"/api/pictures/[id]">;

/** A personalised page. */
export function GET(request: Request, { params }: Context): Promise<Response> {
  return answering(request, async () => pictureOf(await service().download(uuid((await params).id), request.signal)));
}

/** Remove it now, instead of when it expires. */
export function DELETE(request: Request, { params }: Context): Promise<Response> {
  return answering(request, async () => {
    refuseOtherSites(request);
    await service().remove(uuid((await params).id), request.signal);
    return { removed: true };
  });
}
