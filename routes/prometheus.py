"""What Prometheus scrapes."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from service.deps import MetricsDep

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(metrics: MetricsDep) -> Response:
    """Requests by route, stages, queue, credentials, limits, engines and the process, as Prometheus reads them."""
    return Response(metrics.scrape(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
