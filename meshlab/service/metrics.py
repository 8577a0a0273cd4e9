"""What the gateway measures: a table of metrics, the numbers, and the text Prometheus reads.

``METRICS`` is the list; docs/metrics.md is checked against it.  Numbers are kept here as
plain Python and become families of ``prometheus_client`` when they are asked for.

>>> metrics = Metrics()
>>> metrics.add("meshlab_rejects_total", 1, "rate")
>>> [line for line in metrics.text("")[0].decode().splitlines() if line.startswith("meshlab_rejects")]
['meshlab_rejects_total{class="rate"} 1.0']
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from meshlab.service.measure import COUNTER, GAUGE, HISTOGRAM, Measure

OTHER = "_other"
"""The ``user`` of everybody who is not on the list of users to tell apart."""

_FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SLOW = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_MANY = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0)


METRICS = (
    Measure("meshlab_appends_total", COUNTER, "Events written and acknowledged", "events", per_user=True),
    Measure("meshlab_append_bytes_total", COUNTER, "Bytes of their frames in the log", "bytes", per_user=True),
    Measure("meshlab_event_bytes_total", COUNTER, "Bytes of their JSON, as clients mean it", "bytes"),
    Measure("meshlab_duplicates_total", COUNTER, "Events answered, not written, because their key was known", "events"),
    Measure(
        "meshlab_rejects_total", COUNTER, "Events and requests refused, by class", "refusals", ("class",), per_user=True
    ),
    Measure("meshlab_fsync_seconds", HISTOGRAM, "Time of one sync of a log", "seconds", buckets=_FAST),
    Measure("meshlab_frames_per_sync", HISTOGRAM, "Frames that shared one sync", "frames", buckets=_MANY),
    Measure(
        "meshlab_requests_total",
        COUNTER,
        "Requests answered, by route, method and status",
        "requests",
        ("route", "method", "status"),
    ),
    Measure("meshlab_request_seconds", HISTOGRAM, "From a request's head to its answer", "seconds", ("route",), _FAST),
    Measure("meshlab_connections", GAUGE, "Open connections", "connections"),
    Measure("meshlab_waiting_events", GAUGE, "Events admitted and not yet answered", "events"),
    Measure("meshlab_waiting_bytes", GAUGE, "Bytes held for them and for bodies under way", "bytes"),
    Measure("meshlab_poisoned_writers", GAUGE, "Users whose logs take no appends after a failed write", "users"),
    Measure("meshlab_ready", GAUGE, "1 while /readyz is green, else 0", ""),
    Measure("meshlab_disk_free_bytes", GAUGE, "Free space where the store is", "bytes"),
    Measure("meshlab_users", GAUGE, "Users in the store", "users"),
    Measure("meshlab_wal_bytes", GAUGE, "Bytes of all segments", "bytes"),
    Measure("meshlab_unfolded_bytes", GAUGE, "Bytes of log that no checkpoint has folded", "bytes"),
    Measure("meshlab_checkpoints_total", COUNTER, "Checkpoints the manifests of the store count", "checkpoints"),
    Measure(
        "meshlab_checkpoint_age_seconds",
        GAUGE,
        "Since the last checkpoint: of any user (newest), and of the user with log left to fold whose is the oldest",
        "seconds",
        ("which",),
    ),
    Measure(
        "meshlab_checkpoint_bytes_total",
        COUNTER,
        "Bytes of the layers that checkpoints, whoever made them, wrote since this process started",
        "bytes",
    ),
    Measure(
        "meshlab_checkpoint_seconds", HISTOGRAM, "Time of a checkpoint asked of this gateway", "seconds", buckets=_SLOW
    ),
    Measure(
        "meshlab_write_amplification",
        GAUGE,
        "Bytes written, frames and layers, for each byte of events since this process started",
        "ratio",
    ),
    Measure(
        "meshlab_limit_forecast_seconds",
        GAUGE,
        "Until the store reaches its limit, as the forecast has it",
        "seconds",
        ("estimate",),
    ),
    Measure("meshlab_survey_seconds", GAUGE, "Time of the last look at the store's files", "seconds"),
)
"""In the order they are told.  What is said of the store as a whole comes from a look at its files."""

BY_NAME = {measure.name: measure for measure in METRICS}
Reading = float | Mapping[tuple[str, ...], float] | None
"""What a gauge is fed: a number, numbers by label values, or None where there is nothing to tell."""


class Metrics:
    """The numbers behind ``METRICS``.  Threads may share it.

    Nothing is told by user unless ``users`` names those to be told apart; all others
    are ``_other``, so that the number of series stays bounded.
    """

    def __init__(self, users: Iterable[str] = ()) -> None:
        self._users = frozenset(users)
        self._mutex = threading.Lock()
        self._counts: dict[str, dict[tuple[str, ...], float]] = {m.name: {} for m in METRICS if m.kind == COUNTER}
        self._shapes: dict[str, dict[tuple[str, ...], _Shape]] = {m.name: {} for m in METRICS if m.kind == HISTOGRAM}
        self._feeds: dict[str, Callable[[], Reading]] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)  # type: ignore[arg-type]
        ProcessCollector(registry=self._registry)

    def add(self, name: str, amount: float, *labels: str, uid: str = "") -> None:
        """Count something; ``uid`` for what is told by user."""
        if self._users and BY_NAME[name].per_user:
            labels = (*labels, uid if uid in self._users else OTHER)
        counts = self._counts[name]
        with self._mutex:
            counts[labels] = counts.get(labels, 0.0) + amount

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Put a value into a histogram."""
        with self._mutex:
            self._shape(name, labels).put(value)

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request and its time; in one, because it is done for each."""
        labels = (route, method, str(status))
        counts = self._counts["meshlab_requests_total"]
        with self._mutex:
            counts[labels] = counts.get(labels, 0.0) + 1.0
            self._shape("meshlab_request_seconds", (route,)).put(seconds)

    def _shape(self, name: str, labels: tuple[str, ...]) -> _Shape:
        shapes = self._shapes[name]
        shape = shapes.get(labels)
        if shape is None:
            shape = shapes[labels] = _Shape(BY_NAME[name].buckets)
        return shape

    def feed(self, name: str, reading: Callable[[], Reading]) -> None:
        """Where the value of a gauge, or of a counter that is kept elsewhere, comes from."""
        self._feeds[BY_NAME[name].name] = reading

    def total(self, name: str) -> float:
        """A counter over all its labels."""
        with self._mutex:
            return sum(self._counts[name].values())

    def text(self, accept: str) -> tuple[bytes, str]:
        """All of it as Prometheus reads it, and its content type; ``accept`` as the scraper sends it."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """The families, in the order of ``METRICS``; for ``prometheus_client``."""
        for measure in METRICS:
            yield self._family(measure)

    def _family(self, measure: Measure) -> Metric:
        if measure.kind == HISTOGRAM:
            return self._histogram(measure)
        labels = [*measure.labels, *(["user"] if self._users and measure.per_user else [])]
        kind = CounterMetricFamily if measure.kind == COUNTER else GaugeMetricFamily
        family = kind(measure.name.removesuffix("_total"), measure.help, labels=labels)
        for values, number in self._readings(measure):
            family.add_metric(list(values), number)
        return family

    def _readings(self, measure: Measure) -> list[tuple[tuple[str, ...], float]]:
        feed = self._feeds.get(measure.name)
        if feed is not None:
            reading = feed()
            by_label = {(): reading} if isinstance(reading, (int, float)) else reading or {}
            return list(by_label.items())
        if measure.kind == GAUGE:
            return []
        with self._mutex:
            counts = dict(self._counts[measure.name])
        if not counts and not measure.labels and not (self._users and measure.per_user):
            counts = {(): 0.0}
        return list(counts.items())

    def _histogram(self, measure: Measure) -> Metric:
        family = HistogramMetricFamily(measure.name, measure.help, labels=list(measure.labels))
        with self._mutex:
            shapes = {labels: (list(shape.counts), shape.total) for labels, shape in self._shapes[measure.name].items()}
        for labels, (counts, total) in shapes.items():
            family.add_metric(list(labels), _buckets(measure.buckets, counts), total)
        return family


class _Shape:
    """A histogram: how many values in each bucket, and their sum."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def put(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


def _buckets(bounds: tuple[float, ...], counts: list[int]) -> list[Any]:
    """Cumulative counts by upper bound, as Prometheus has them."""
    running = 0
    result = []
    for bound, count in zip([*map(str, bounds), "+Inf"], counts, strict=True):
        running += count
        result.append((bound, running))
    return result
