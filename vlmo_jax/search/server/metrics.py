"""What the server counts, in the form of Prometheus."""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Counters of one server.

    Attributes:
        requests: by route and status.
        request_seconds: from the head of a request to the end of its answer, by route.
        search_seconds: of a batch, in the search itself.
        batch_queries: queries that were searched together.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "vlmo_requests", "Answers by route and status.", ("route", "status"), registry=registry
        )
        self.request_seconds = Histogram(
            "vlmo_request_seconds",
            "From the head of a request to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.search_seconds = Histogram(
            "vlmo_search_seconds",
            "Encoding, search and matching of a batch of queries.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_queries = Histogram(
            "vlmo_batch_queries",
            "Queries that were searched together.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Shows a number as it is when it is asked for.

        Args:
            name: of it, after "vlmo_".
            text: what it is.
            value: gives it.
        """
        Gauge(f"vlmo_{name}", text, registry=self._registry).set_function(value)

    def page(self) -> bytes:
        """All of it, as text."""
        return generate_latest(self._registry)
