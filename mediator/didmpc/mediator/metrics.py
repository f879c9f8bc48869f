"""What Prometheus reads at `/metrics`. No label and no value names an account, a DID or an address.

What is counted as it happens has a counter here; what is merely so (queued mail, open sockets) is asked for
when somebody reads.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from didmpc.protocols.errors import RemoteViolation

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "didmpc_mediator_"
MOST_CODES = 64
"""Of problems, as label values: codes are ours, but a bound costs nothing."""
OTHER = "other"

# Of each figure the time of its making: nobody asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_COMMIT_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_ANSWER_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class _RunningTotal(Collector):
    name: str
    what: str
    read: Callable[[], float]

    def collect(self) -> Iterable[CounterMetricFamily]:
        yield CounterMetricFamily(self.name, self.what, self.read())


class Metrics:
    """The figures of one mediator."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._codes: set[str] = set()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(PREFIX + name, what, labels, registry=registry)

        self.messages_in = counter("messages_in", "Envelopes that came in.", "transport")
        self.messages_out = counter("messages_out", "Replies, and deliveries pushed live.", "transport")
        self.bytes_in = counter("message_bytes_in", "Bytes of envelopes that came in.", "transport")
        self.bytes_out = counter("message_bytes_out", "Bytes of replies and live deliveries.", "transport")
        self.refusals = counter("refusals", "Messages that were refused, by problem code.", "code")
        self.limits_hit = counter("limits_hit", "How often a limit of the transport was met.", "limit")
        self.answer_seconds = Histogram(
            PREFIX + "answer_seconds",
            "From an envelope to its answer.",
            registry=registry,
            buckets=_ANSWER_SECONDS,
        )
        self.stored = Gauge(PREFIX + "stored", "What the store holds.", ("what",), registry=registry)
        self.ready = Gauge(PREFIX + "ready", "1: mail can be taken in, as /readyz says.", registry=registry)
        self.disk_free = Gauge(PREFIX + "disk_free_bytes", "Free space of the store.", registry=registry)
        self._commit_size = Histogram(
            PREFIX + "commit_operations",
            "Operations that share a commit of the store.",
            registry=registry,
            buckets=_BATCHES,
        )
        self._commit_seconds = Histogram(
            PREFIX + "commit_seconds",
            "Time of a commit of the store.",
            registry=registry,
            buckets=_COMMIT_SECONDS,
        )

    def received(self, transport: str, size: int) -> None:
        self.messages_in.labels(transport).inc()
        self.bytes_in.labels(transport).inc(size)

    def sent(self, transport: str, size: int) -> None:
        self.messages_out.labels(transport).inc()
        self.bytes_out.labels(transport).inc(size)

    def refused(self, problem: RemoteViolation) -> None:
        code = problem.code
        if code not in self._codes and len(self._codes) >= MOST_CODES:
            code = OTHER
        self._codes.add(code)
        self.refusals.labels(code).inc()

    def committed(self, operations: int, took: float) -> None:
        """Called from the thread of the store."""
        self._commit_size.observe(operations)
        self._commit_seconds.observe(took)

    def gauge(self, name: str, what: str, read: Callable[[], float]) -> None:
        """A figure that is asked for when somebody reads."""
        Gauge(PREFIX + name, what, registry=self.registry).set_function(read)

    def running_total(self, name: str, what: str, read: Callable[[], float]) -> None:
        """A counter that somebody else keeps."""
        self.registry.register(_RunningTotal(PREFIX + name, what, read))

    def total(self, name: str) -> float:
        """The sum of a counter over its labels."""
        return sum(
            sample.value
            for metric in self.registry.collect()
            if metric.name == PREFIX + name
            for sample in metric.samples
            if sample.name.endswith("_total")
        )

    def by_label(self, name: str) -> dict[str, int]:
        """A counter with one label, by that label."""
        return {
            next(iter(sample.labels.values())): int(sample.value)
            for metric in self.registry.collect()
            if metric.name == PREFIX + name
            for sample in metric.samples
            if sample.name.endswith("_total")
        }

    def text(self) -> bytes:
        return generate_latest(self.registry)
