"""What policies would have done: the real events of users against each, by the real rules.

Nothing is written: sizes of layers come from a model that was measured (``sizes``), which
records change together from the trace, and when layers are merged from the function that
decides it in a checkpoint.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.growth.calibration import costs
from meshlab.growth.outcome import Case, Figures, UserOutcome, notes
from meshlab.growth.policies import Policy, candidates
from meshlab.growth.sizes import Sizes, measured, records_of, synthetic
from meshlab.growth.trace import Trace
from meshlab.snapshot.manifest import RETAIN_DAYS
from meshlab.tables.load import Log
from meshlab.tables.tabular import Tabular
from meshlab.wal.paths import segment_days, segment_size
from meshlab.wording import counted, size_text, span_text

if TYPE_CHECKING:
    from meshlab.plots.plot import Plot

OBJECTIVES = ("written_bytes", "peak_wal_bytes", "worst_replay_seconds")
"""What a policy is better or worse in."""

REPLAY = 2.0
"""Seconds of replay that a recommended policy keeps below, unless told otherwise."""

SIMULATION_SCHEMA = pa.schema(
    [
        ("policy", pa.string()),
        ("bytes", pa.float64()),
        ("events", pa.float64()),
        ("age", pa.float64()),
        ("replay", pa.float64()),
        ("checkpoints", pa.int64()),
        ("checkpoints_per_day", pa.float64()),
        ("idle_users", pa.int64()),
        ("peak_wal_bytes", pa.int64()),
        ("peak_disk_bytes", pa.int64()),
        ("written_bytes", pa.int64()),
        ("folded_bytes", pa.int64()),
        ("write_amplification", pa.float64()),
        ("worst_replay_seconds", pa.float64()),
        ("pareto", pa.bool_()),
    ]
)
"""One row per policy: its limits (bytes, events, seconds, seconds; null: none), then what it comes to.

Idle are users whom it never checkpoints, though they have events.  Bytes written are
those of layers and manifests; divided by the bytes of log folded they are the write
amplification.  Peaks of several users are added up as if they came at one moment.  The
worst replay is that of the slowest user, of the log alone: reading the layers takes as
long under any policy.
"""


class Simulation(Tabular):
    """What each policy comes to: ``table`` is in ``SIMULATION_SCHEMA``.

    ``notes`` say what could not be known; ``replay`` is the limit, in seconds, of the
    recommendation.
    """

    def __init__(self, policies: Sequence[Policy], table: pa.Table, replay: float, notes: Sequence[str]) -> None:
        self.policies = list(policies)
        self.table = table
        self.replay = replay
        self.notes = tuple(notes)

    def to_arrow(self) -> pa.Table:
        """The table."""
        return self.table

    @property
    def pareto(self) -> pa.Table:
        """The policies that no other beats in bytes written, peak WAL and worst replay at once, least written first."""
        chosen = self.table.filter(self.table["pareto"])
        return chosen.sort_by([("written_bytes", "ascending"), ("peak_wal_bytes", "ascending")])

    @cached_property
    def recommended(self) -> Policy | None:
        """The policy that writes least among those that keep replay below the limit and leave no user idle.

        When all leave some idle, those with the fewest; when none is as quick, the one
        with the shortest worst replay.  None when no policy checkpoints anybody.
        """
        eligible = self._eligible
        quick = [row for row in eligible if row["worst_replay_seconds"] <= self.replay]
        best = min(quick or eligible, key=_by_writing if quick else _by_replay, default=None)
        return None if best is None else self._policy(best)

    @property
    def _eligible(self) -> list[dict[str, Any]]:
        rows = [row for row in self.table.to_pylist() if row["checkpoints"]]
        fewest = min((row["idle_users"] for row in rows), default=0)
        return [row for row in rows if row["idle_users"] == fewest]

    @property
    def comparable(self) -> pa.ChunkedArray:
        """For each row, whether the recommendation was chosen among it and others.

        Those checkpoint every user, or as many as any policy does; where some of them keep
        replay below the limit, they do too.
        """
        rows = self._eligible
        chosen = [row for row in rows if row["worst_replay_seconds"] <= self.replay] or rows
        return pc.is_in(self.table["policy"], pa.array([row["policy"] for row in chosen], pa.string()))

    @property
    def recommendation(self) -> str:
        """One sentence: which policy to set, and why."""
        if self.recommended is None:
            return "No policy is recommended: none of them would have made a checkpoint in these logs."
        row = next(row for row in self._eligible if self._policy(row) == self.recommended)
        return f"Set {self.recommended}: {self._reason(row)}; {_figures(row)}."

    def _reason(self, row: dict[str, Any]) -> str:
        limit, eligible = span_text(self.replay), self._eligible
        reach = "every user" if not row["idle_users"] else f"all but {counted(row['idle_users'], 'user')}"
        if row["worst_replay_seconds"] > self.replay:
            return f"no policy that checkpoints {reach} keeps replay below {limit}, and this one comes nearest"
        quick = sum(other["worst_replay_seconds"] <= self.replay for other in eligible)
        if quick == 1:
            return f"it alone checkpoints {reach} and keeps replay below {limit}"
        return f"of {quick} policies that checkpoint {reach} and keep replay below {limit} it writes least"

    def _policy(self, row: dict[str, Any]) -> Policy:
        return next(policy for policy in self.policies if str(policy) == row["policy"])

    def plot(self, policy: Policy | None = None) -> Plot:
        """Bytes written against peak WAL, with the ``policy`` that is set marked: see ``plots.policies``."""
        from meshlab.plots.policies import plot_policies

        return plot_policies(self, policy)

    def __repr__(self) -> str:
        best = "nothing to recommend" if self.recommended is None else f"recommended {self.recommended}"
        told = f"; {counted(len(self.notes), 'note')}" if self.notes else ""
        return f"<Simulation of {counted(len(self.policies), 'policy', 'policies')}: {best}{told}>"

    def _repr_html_(self) -> str:
        names = ("policy", "checkpoints_per_day", *_SIZES, "write_amplification", "worst_replay_seconds")
        head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in names)
        rows = "".join(f"<tr>{''.join(map(_cell, names, map(row.get, names)))}</tr>" for row in self.pareto.to_pylist())
        told = "".join(f"<p>{html.escape(text)}</p>" for text in (self.recommendation, *self.notes))
        return f"{told}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


_SIZES = ("peak_wal_bytes", "peak_disk_bytes", "written_bytes")


def _by_writing(row: dict[str, Any]) -> tuple[float, ...]:
    return row["written_bytes"], row["peak_wal_bytes"], row["worst_replay_seconds"], len(row["policy"])


def _by_replay(row: dict[str, Any]) -> tuple[float, ...]:
    return row["worst_replay_seconds"], row["written_bytes"]


def _figures(row: dict[str, Any]) -> str:
    """What a policy comes to, in words."""
    return (
        f"{row['write_amplification']:.2g} bytes written per byte folded, peak WAL {size_text(row['peak_wal_bytes'])}, "
        f"peak disk {size_text(row['peak_disk_bytes'])}, worst replay {span_text(row['worst_replay_seconds'])}, "
        f"{row['checkpoints_per_day']:.2g} checkpoints a day"
    )


def _cell(name: str, value: Any) -> str:
    shown = size_text(value) if name in _SIZES else f"{value:.3g}" if isinstance(value, float) else value
    return f"<td>{html.escape(str('' if shown is None else shown))}</td>"


# Simulating


def simulate(
    sources: Trace | Log | Iterable[Trace | Log],
    policies: Sequence[Policy] | None = None,
    *,
    users: int = 1,
    recalls: int = 1,
    replay: float = REPLAY,
    retain_days: int = RETAIN_DAYS,
    sizes: Sizes | None = None,
    executor: Executor | None = None,
) -> Simulation:
    """What policies would have done to some users' logs.

    ``sources`` are traces, or logs of which each is read where it is simulated.  Without
    ``policies`` about fifty ``candidates`` are tried.  ``users`` and ``recalls`` scale the
    traces (see ``Trace.scaled``), ``replay`` is the limit of the recommendation in
    seconds, ``retain_days`` the retention that vacuum keeps.  ``sizes`` are measured on
    records of the largest log when they are not given.  ``executor`` is anything with the
    ``map`` of ``concurrent.futures``.
    """
    given = [sources] if isinstance(sources, Trace | Log) else list(sources)
    largest = max(given, key=_nbytes, default=None)
    chosen = candidates(*_extent(largest)) if policies is None else list(policies)
    if sizes is None:
        sizes = measured(records_of(largest) if isinstance(largest, Log) else synthetic())
    case = Case(chosen, sizes, costs(), retain_days, users, recalls)
    outcomes = list((map if executor is None else executor.map)(case.against, given))
    return Simulation(chosen, _table(chosen, outcomes), replay, notes(case, outcomes))


def _nbytes(source: Trace | Log) -> int:
    if isinstance(source, Trace):
        return int(source.ends[-1])
    return sum(segment_size(source.root, day) for day in segment_days(source.root))


def _extent(source: Trace | Log | None) -> tuple[int, int]:
    """Bytes and, about, events."""
    nbytes = 0 if source is None else _nbytes(source)
    return nbytes, len(source) if isinstance(source, Trace) else nbytes // _EVENT_BYTES


_EVENT_BYTES = 450
"""Bytes of log for an event, as a rule."""


def _table(policies: Sequence[Policy], outcomes: Sequence[UserOutcome]) -> pa.Table:
    """A row per policy, over all users."""
    rows = []
    for index, policy in enumerate(policies):
        sums = Figures.joined([one.figures[index] for one in outcomes])
        amplification = sums.written / sums.folded if sums.folded else None
        limits = {**dict.fromkeys(("bytes", "events", "age", "replay")), **policy.limits}
        values = (str(policy), *limits.values(), *sums[:2], sums.idle, *sums[2:6], amplification, sums.replay, False)
        rows.append(dict(zip(SIMULATION_SCHEMA.names, values, strict=True)))
    table = pa.Table.from_pylist(rows, SIMULATION_SCHEMA)
    return table.set_column(len(SIMULATION_SCHEMA) - 1, "pareto", pa.array(unbeaten(table), pa.bool_()))


def unbeaten(table: pa.Table) -> Any:
    """Rows that no other row beats: nowhere worse and somewhere better; of equal ones the first."""
    points = np.stack([table[name].to_numpy() for name in OBJECTIVES], axis=1).reshape(-1, len(OBJECTIVES))
    nowhere_worse = (points[:, None] <= points[None]).all(axis=2)
    better = (points[:, None] < points[None]).any(axis=2)
    earlier = np.tri(len(points), k=-1, dtype=bool).T
    return ~(nowhere_worse & (better | earlier)).any(axis=0)
