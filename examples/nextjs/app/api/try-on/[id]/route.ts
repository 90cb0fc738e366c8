import { answering, refuseOtherSites, uuid } from "@/lib/handler";
import { service } from "@/lib/service";

type Context = RouteContext<"/api/try-on/[id]">;

/** Where a try-on stands. */
export function GET(request: Request, { params }: Context): Promise<Response> {
  return answering(request, async () => service().tryOnStatus(uuid((await params).id), request.signal));
}

/** Cancel it; or remove it, once it has finished. */
export function DELETE(request: Request, { params }: Context): Promise<Response> {
  return answering(request, async () => {
    refuseOtherSites(request);
    return service().cancelOrRemoveTryOn(uuid((await params).id), request.signal);
  });
}
