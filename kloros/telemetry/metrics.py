"""Prometheus metrics of one process, on a registry of its own (nothing is registered at import)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

# Seconds; from the lateness of a beat (well under a millisecond) to a cycle that uses all its budget.
DURATION_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Makes and serves the metrics of one process; names are `kloros_<noun>_<unit>`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._stop_serving: Callable[[], None] | None = None

    def counter(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Counter:
        """A counter; `name` ends in `_total`."""
        return Counter(name, documentation, labels, registry=self.registry)

    def gauge(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Gauge:
        """A gauge."""
        return Gauge(name, documentation, labels, registry=self.registry)

    def histogram(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Histogram:
        """A histogram of seconds."""
        return Histogram(name, documentation, labels, buckets=DURATION_BUCKETS_S, registry=self.registry)

    def counters_from(self, name: str, documentation: str, read: Callable[[], Mapping[str, int]]) -> None:
        """Counters kept elsewhere, read when scraped: one series per key, in the label `kind`."""
        self.registry.register(_ReadCounters(name, documentation, read))

    def serve(self, address: str, port: int) -> None:
        """Answer scrapes on `address:port`; raises OSError when the port cannot be had."""
        ProcessCollector(registry=self.registry)
        server, thread = start_http_server(port, address, self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        self._stop_serving = stop

    def close(self) -> None:
        """Stop answering scrapes."""
        if self._stop_serving:
            self._stop_serving()
            self._stop_serving = None


class _ReadCounters(Collector):
    def __init__(self, name: str, documentation: str, read: Callable[[], Mapping[str, int]]) -> None:
        self._name, self._documentation, self._read = name, documentation, read

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._documentation, labels=["kind"])
        for kind, value in self._read().items():
            family.add_metric([kind], value)
        yield family

    def describe(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._documentation, labels=["kind"])
