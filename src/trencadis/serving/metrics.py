"""What `/metrics` shows, in the format of Prometheus."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"trencadis_{name}", about, labels, registry=registry)

        def seconds(name: str, about: str, *labels: str) -> Histogram:
            return Histogram(f"trencadis_{name}_seconds", about, labels, registry=registry, buckets=_SECONDS)

        self._requests = counter("requests", "Requests, by route and status", "route", "status")
        self._request_s = seconds("request", "Seconds to the end of an answer", "route")
        self._waiting = Gauge("trencadis_waiting", "Requests that wait for a turn", ["model"], registry=registry)
        self._drawings = Gauge("trencadis_drawings", "Parts of requests in the batch", ["model"], registry=registry)
        self._wait_s = seconds("wait", "Seconds before a request is drawn", "model")
        self._pass_s = seconds("pass", "Seconds of a pass over the weights", "model")
        self._pictures = counter("pictures", "Pictures drawn, candidates included", "model")
        self._cancelled = counter("cancelled", "Requests whose client left", "model")

    def answered(self, route: str, status: int, elapsed_s: float) -> None:
        self._requests.labels(route, str(status)).inc()
        self._request_s.labels(route).observe(elapsed_s)

    def waiting(self, model: str, count: int) -> None:
        self._waiting.labels(model).set(count)

    def drawings(self, model: str, count: int) -> None:
        self._drawings.labels(model).set(count)

    def began(self, model: str, waited_s: float) -> None:
        self._wait_s.labels(model).observe(waited_s)

    @contextmanager
    def a_pass(self, model: str) -> Iterator[None]:
        """Time a pass of the engine."""
        start = time.monotonic()
        yield
        self._pass_s.labels(model).observe(time.monotonic() - start)

    def drew(self, model: str, pictures: int) -> None:
        self._pictures.labels(model).inc(pictures)

    def cancelled(self, model: str) -> None:
        self._cancelled.labels(model).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)
