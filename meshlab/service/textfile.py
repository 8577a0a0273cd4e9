"""The numbers of the push daemon as a file that node_exporter's textfile collector reads.

The daemon opens no port; Prometheus asks node_exporter, which is there anyway.  ``SYNC_METRICS`` is
the list; docs/metrics.md is checked against it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from meshlab.errors import StorageError, storage_errors
from meshlab.service.measure import COUNTER, GAUGE, Measure
from meshlab.service.syncd import Metrics

SYNC_METRICS = (
    Measure(
        "meshlab_sync_lag_bytes",
        GAUGE,
        "Bytes of log that losing the disk would lose, of users whose last push did not go through",
        "bytes",
    ),
    Measure("meshlab_sync_lag_seconds", GAUGE, "How long the oldest of them have been waiting at most", "seconds"),
    Measure("meshlab_sync_users", GAUGE, "Users the last round knew of", "users"),
    Measure(
        "meshlab_sync_problem_users",
        GAUGE,
        "Users whose last push failed, whom another machine has pushed (forked, behind), or whose last proof failed",
        "users",
        ("problem",),
    ),
    Measure(
        "meshlab_sync_last_push_timestamp_seconds", GAUGE, "When a round last went through, 0 for never", "seconds"
    ),
    Measure(
        "meshlab_sync_last_proven_restore_timestamp_seconds",
        GAUGE,
        "When a restore was last proved: of any user (newest), and of the user who has waited longest; 0 for never",
        "seconds",
        ("which",),
    ),
    Measure("meshlab_sync_pushed_bytes_total", COUNTER, "Bytes put into the bucket by this process", "bytes"),
    Measure("meshlab_sync_requests_total", COUNTER, "Requests this process made of the bucket", "requests"),
    Measure("meshlab_sync_retries_total", COUNTER, "Those of them that were made again", "requests"),
)
"""In the order they are told."""


def text(metrics: Metrics) -> str:
    """All of it as Prometheus reads it."""
    lines: list[str] = []
    for measure in SYNC_METRICS:
        lines += [f"# HELP {measure.name} {measure.help}", f"# TYPE {measure.name} {measure.kind}"]
        for labels, value in _readings(measure.name, metrics):
            lines.append(f"{measure.name}{labels} {value!r}")
    return "\n".join(lines) + "\n"


def _readings(name: str, told: Metrics) -> Iterator[tuple[str, float]]:
    """The samples of one metric: labels as they are written, and the value."""
    if name == "meshlab_sync_problem_users":
        counts = {"failed": told.users_failed, "forked": told.users_forked, "behind": told.users_behind}
        for problem, count in {**counts, "unproved": told.proofs_failed}.items():
            yield f'{{problem="{problem}"}}', float(count)
    elif name == "meshlab_sync_last_proven_restore_timestamp_seconds":
        yield '{which="newest"}', told.last_proven_restore
        yield '{which="oldest"}', told.oldest_proven_restore
    else:
        plain = name.removeprefix("meshlab_sync_").removesuffix("_timestamp_seconds")
        yield "", float(getattr(told, plain))


def write(path: Path, metrics: Metrics) -> None:
    """Replace the file in one go: a scrape never finds half of it.  Raises ``StorageError``."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with storage_errors("write", path):
            temporary.write_text(text(metrics), encoding="ascii")
            temporary.chmod(0o644)  # node_exporter is another user
            os.replace(temporary, path)
    except StorageError:
        with suppress(OSError):
            temporary.unlink()
        raise
