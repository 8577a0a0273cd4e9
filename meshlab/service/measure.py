"""What a metric is: a row of a table, of which the text for Prometheus and docs/metrics.md are made."""

from __future__ import annotations

from typing import NamedTuple

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


class Measure(NamedTuple):
    """One metric: its name, kind, what it tells, in which unit, under which labels.

    ``per_user`` metrics have the label ``user`` too, when users are to be told apart.
    """

    name: str
    kind: str
    help: str
    unit: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    per_user: bool = False
