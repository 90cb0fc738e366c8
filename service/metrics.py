"""What Prometheus scrapes: requests by route, stages, the queue, and what happened.

The registry belongs to one application, so that two of them in one process (as in the tests) don't share counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_fastapi_instrumentator import metrics as http_metrics

from service.version import VERSION

STAGE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
REQUEST_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

Reading = Mapping[str, float]
"""Values by label, read at a scrape."""


class Metrics:
    """The service's metrics; counting is cheap and safe from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.registry.register(_Build())
        self._watched: dict[str, _Watched] = {}
        self.on_work: Callable[..., None] = lambda *_, **__: None
        """Told of every request that ran stages: see `ProcessingLog.note`."""
        self._stages = Histogram(
            "stage_seconds", "Time in one stage of a request.", ["handler", "stage"],
            buckets=STAGE_BUCKETS_S, registry=self.registry,
        )  # fmt: skip
        self._auth = Counter("auth_events", "Credentials shown, by outcome.", ["event"], registry=self.registry)
        self._cache = Counter("cache_lookups", "Looks into the result cache.", ["outcome"], registry=self.registry)
        self._tryons = Counter(
            "tryons", "Try-on pictures: draft, generated, or why a final one is its draft.", ["outcome"],
            registry=self.registry,
        )  # fmt: skip
        self._limited = Counter(
            "rate_limited_requests", "Requests answered 429, by kind of caller.", ["caller"], registry=self.registry
        )
        count_requests = http_metrics.default(
            latency_lowr_buckets=REQUEST_BUCKETS_S, registry=self.registry, should_exclude_streaming_duration=True
        )
        assert count_requests is not None  # its names are free in a fresh registry
        self.instrumentations: tuple[Callable[[http_metrics.Info], None], ...] = (count_requests, self._count_stages)
        """For the middleware that sees every request."""

    def auth_event(self, event: str) -> None:
        """Credentials were accepted, refused, and so on."""
        self._auth.labels(event).inc()

    def cache_lookup(self, outcome: str) -> None:
        """A result was found in the cache ("hit"), or not ("miss")."""
        self._cache.labels(outcome).inc()

    def tryon(self, outcome: str) -> None:
        """A try-on gave a draft ("draft"), the image model's picture ("generated"), or a draft instead (the reason)."""
        self._tryons.labels(outcome).inc()

    def rate_limited(self, caller: str) -> None:
        """A caller of this kind was answered 429."""
        self._limited.labels(caller).inc()

    def watch(self, name: str, help_text: str, label: str, read: Callable[[], Reading]) -> None:
        """A gauge whose values are read at each scrape: what the service holds already is not counted twice."""
        if name in self._watched:  # the application was started again
            self._watched[name].read = read
            return
        self._watched[name] = _Watched(name, help_text, label, read)
        self.registry.register(self._watched[name])

    def scrape(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def _count_stages(self, info: http_metrics.Info) -> None:
        for stage, ms in info.request.scope.get("timings", {}).items():
            self._stages.labels(info.modified_handler, stage).observe(ms / 1000)


class _Watched(Collector):
    def __init__(self, name: str, help_text: str, label: str, read: Callable[[], Reading]) -> None:
        self._name, self._help, self._label, self.read = name, help_text, label, read

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self._name, self._help, labels=[self._label])
        for label, value in self.read().items():
            family.add_metric([label], value)
        yield family

    def describe(self) -> Iterable[Metric]:
        """Without a reading: what is read may not be there yet."""
        yield GaugeMetricFamily(self._name, self._help, labels=[self._label])


class _Build(Collector):
    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily("illustration_personalizer", "The running version.", value={"version": VERSION})
