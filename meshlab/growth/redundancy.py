"""How much of a log says what its users' state no longer holds, or says it twice."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.dialects import OTHER
from meshlab.errors import MeshlabError
from meshlab.growth.amplification import Amplification, amplification
from meshlab.growth.calibration import Costs, costs
from meshlab.growth.lives import Lives
from meshlab.growth.trace import Trace, trace
from meshlab.snapshot.checkpoint import CHECKPOINT_LOCK
from meshlab.snapshot.contents import LEAST
from meshlab.snapshot.manifest import Manifest, current
from meshlab.snapshot.ranges import rest
from meshlab.snapshot.vacuum import vacuum
from meshlab.tables.load import Log
from meshlab.tables.tabular import Tabular
from meshlab.times import DAY, midnight
from meshlab.wal.paths import segment_days, segment_size
from meshlab.wording import counted, size_text

if TYPE_CHECKING:
    from meshlab.plots.plot import Plot

DAY_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("day", pa.string()),
        ("events", pa.int64()),
        ("bytes", pa.int64()),
        ("no_event_bytes", pa.int64()),
        ("no_effect_bytes", pa.int64()),
        ("superseded_bytes", pa.int64()),
        ("duplicate_bytes", pa.int64()),
        ("left_bytes", pa.int64()),
        ("repeated_content_bytes", pa.int64()),
        ("unfolded_bytes", pa.int64()),
        ("compactable", pa.float64()),
    ]
)
"""One row per user and segment; ``bytes`` is its size, and the next five columns add up to it.

``no_event_bytes``    rejects, blank lines, an open tail
``no_effect_bytes``   lines that change no state: ``other`` events and orphans
``superseded_bytes``  lines that the state at the end holds nothing of: every field they
                      give was given again later, or their record was later set anew or
                      deleted; deletes themselves, too (see ``Lives.stands``)
``duplicate_bytes``   of the lines left, long contents (256 bytes and more) that an
                      earlier line left has as well
``left_bytes``        the rest, what the state needs

``repeated_content_bytes`` are all long contents that stood earlier in the user's log,
superseded or not; ``unfolded_bytes`` is what no checkpoint has folded; ``compactable``
is 1 - left_bytes / bytes.
"""

USER_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("bytes", pa.int64()),
        ("compactable", pa.float64()),
        ("unfolded_bytes", pa.int64()),
        ("unfolded_events", pa.int64()),
        ("freed_now_bytes", pa.int64()),
        ("freed_later_bytes", pa.int64()),
        ("written_bytes", pa.int64()),
        ("folded_bytes", pa.int64()),
        ("write_amplification", pa.float64()),
        ("since_generation", pa.int64()),
        ("replay_seconds", pa.float64()),
        ("open_seconds", pa.float64()),
    ]
)
"""One row per user; what is not known is null.

``compactable``        the share of the log that the state does not need
``freed_now_bytes``    what a vacuum would delete at this moment, as its dry run says
``freed_later_bytes``  segments it could delete once a checkpoint made now is older than
                       the retention: all but the last two days of the log
``written_bytes``      by checkpoints and vacuums behind generation ``since_generation``,
                       to fold ``folded_bytes``; the ratio is the write amplification
``replay_seconds``     to fold what no checkpoint has folded, on this machine;
                       ``open_seconds`` is that and reading the layers
"""


class Redundancy(Tabular):
    """What could go: ``table`` per user and day (``DAY_SCHEMA``), ``users`` per user (``USER_SCHEMA``)."""

    def __init__(self, table: pa.Table, users: pa.Table, notes: Iterable[str] = ()) -> None:
        self.table = table
        self.users = users
        self.notes = tuple(notes)

    def to_arrow(self) -> pa.Table:
        """The table."""
        return self.table

    @property
    def total(self) -> dict[str, int]:
        """The sums of all columns of bytes and of the events."""
        names = [field.name for field in DAY_SCHEMA if field.type == pa.int64()]
        return {name: pc.sum(self.table[name]).as_py() or 0 for name in names}

    @property
    def compactable(self) -> float:
        """The share of the bytes that the states do not need."""
        total = self.total
        return 1 - total["left_bytes"] / total["bytes"] if total["bytes"] else 0.0

    def plot(self) -> Plot:
        """From the log to what is left of it: see ``plots.redundancy``."""
        from meshlab.plots.redundancy import plot_redundancy

        return plot_redundancy(self)

    def __repr__(self) -> str:
        total = self.total
        told = f"; {counted(len(self.notes), 'note')}" if self.notes else ""
        return (
            f"<Redundancy of {counted(self.users.num_rows, 'user')}: {self.compactable:.0%} of "
            f"{size_text(total['bytes'])} could go, {size_text(total['left_bytes'])} is left{told}>"
        )

    def _repr_html_(self) -> str:
        told = "".join(f"<p>{html.escape(text)}</p>" for text in (repr(self), *self.notes))
        rows = "".join(
            f"<tr><td>{html.escape(name.removesuffix('_bytes').replace('_', ' '))}</td><td>{size_text(value)}</td></tr>"
            for name, value in self.total.items()
            if name != "events"
        )
        return f"{told}<table><tbody>{rows}</tbody></table>"


def redundancy(logs: Log | Iterable[Log], *, executor: Executor | None = None) -> Redundancy:
    """What could go of some users' logs.

    ``executor`` is anything with the ``map`` of ``concurrent.futures``.  Reads every
    event, but of sealed segments no contents; raises what reading events raises.
    """
    given = [logs] if isinstance(logs, Log) else list(logs)
    work = partial(_of_user, prices=costs())
    found = list((map if executor is None else executor.map)(work, given))
    days = pa.concat_tables([DAY_SCHEMA.empty_table(), *(one.days for one in found)])
    users = pa.Table.from_pylist([one.user for one in found], USER_SCHEMA)
    return Redundancy(days, users, dict.fromkeys(note for one in found for note in one.notes))


class _User(NamedTuple):
    """What comes of one user."""

    days: pa.Table
    user: dict[str, Any]
    notes: list[str]


def _of_user(log: Log, prices: Costs) -> _User:
    found = trace(log)
    snapshot = _Snapshot(log)
    days = day_table(found, snapshot.unfolded)
    left = pc.sum(days["left_bytes"]).as_py() or 0
    return _User(days, _user_row(found, left, snapshot, prices), [*_notes(found), *snapshot.notes])


def day_table(found: Trace, unfolded: Mapping[str, int]) -> pa.Table:
    """One trace by day, in ``DAY_SCHEMA``; ``unfolded`` are bytes by day."""
    told = Lives(found)
    stands = told.in_log_order(told.stands)
    moot = told.in_log_order(told.orphans) | (found.op == OTHER)
    again = np.where(_repeated(found, np.ones(len(found), bool)), found.content, 0)
    twice = np.where(_repeated(found, stands), found.content, 0)

    def by_day(values: Any) -> Any:
        return np.bincount(found.day, values, len(found.days)).astype(np.int64)

    nbytes = by_day(found.nbytes) + found.spare
    parts = {
        "no_event_bytes": found.spare,
        "no_effect_bytes": by_day(np.where(moot, found.nbytes, 0)),
        "superseded_bytes": by_day(np.where(stands | moot, 0, found.nbytes)),
        "duplicate_bytes": by_day(twice),
    }
    left = nbytes - sum(parts.values())
    columns = {
        "uid": [found.uid] * len(found.days),
        "day": list(found.days),
        "events": by_day(np.ones(len(found))),
        "bytes": nbytes,
        **parts,
        "left_bytes": left,
        "repeated_content_bytes": by_day(again),
        "unfolded_bytes": [unfolded.get(day, 0) for day in found.days],
        "compactable": 1 - left / np.maximum(nbytes, 1),
    }
    return pa.table(columns, schema=DAY_SCHEMA)


def _repeated(found: Trace, lines: Any) -> Any:
    """Which of some lines give a long content that an earlier one of them gave as well."""
    rows = np.flatnonzero(lines & (found.content >= LEAST))
    firsts = np.unique(found.key[rows], return_index=True)[1]
    marked = np.zeros(len(found), bool)
    marked[np.delete(rows, firsts)] = True
    return marked


class _Snapshot:
    """What checkpoints have made of one log."""

    def __init__(self, log: Log) -> None:
        self.notes: list[str] = []
        sizes = {day: segment_size(log.root, day) for day in segment_days(log.root)}
        self.records = self.folded = 0
        self.freed: int | None = None
        self.unfolded: dict[str, int] = sizes
        self.written = Amplification()
        last = max(sizes, default="")
        self.later = sum(size for day, size in sizes.items() if midnight(day) < midnight(last) - DAY)
        try:
            self._read(log, sizes)
        except MeshlabError as error:
            self.notes.append(f"Of the snapshot of {log.uid} nothing is known: {error.message}.")

    def _read(self, log: Log, sizes: dict[str, int]) -> None:
        snapshot = current(log.root, log.uid)
        if not isinstance(snapshot, Manifest):
            self.freed = 0
            return
        pieces = rest(log.root, snapshot)
        self.unfolded = {piece.segment: sizes.get(piece.segment, piece.start) - piece.start for piece in pieces}
        self.records = snapshot.records
        self.folded = sum(piece.stop - piece.start for piece in snapshot.folded)
        self.written = amplification(log.root, log.uid)
        self.freed = self._freed(log)

    def _freed(self, log: Log) -> int | None:
        """What a vacuum would delete now, as its dry run says; the lock that it needs is not made here."""
        if not (log.root / CHECKPOINT_LOCK).exists():
            self.notes.append(f"What a vacuum of {log.uid} would free is not known: it has no {CHECKPOINT_LOCK}.")
            return None
        try:
            return vacuum(log.root, log.uid).bytes_freed
        except MeshlabError as error:
            self.notes.append(f"What a vacuum of {log.uid} would free is not known: {error.message}.")
            return None


def _user_row(found: Trace, left: int, snapshot: _Snapshot, prices: Costs) -> dict[str, Any]:
    behind = found.events_in(snapshot.folded)
    events, contents = len(found) - behind, int(found.content[behind:].sum(dtype=np.int64))
    written, nbytes = snapshot.written, int(found.ends[-1]) + found.spare_bytes
    return {
        "uid": found.uid,
        "bytes": nbytes,
        "compactable": 1 - left / nbytes if nbytes else 0.0,
        "unfolded_bytes": sum(snapshot.unfolded.values()),
        "unfolded_events": events,
        "freed_now_bytes": snapshot.freed,
        "freed_later_bytes": snapshot.later,
        "written_bytes": written.written,
        "folded_bytes": written.folded,
        "write_amplification": written.ratio,
        "since_generation": written.since,
        "replay_seconds": float(prices.log(events, contents)),
        "open_seconds": prices.replay(events, contents, snapshot.records),
    }


def _notes(found: Trace) -> list[str]:
    """What a trace cannot tell."""
    told = []
    if not found.begun:
        told.append(
            f"The log of {found.uid} does not begin with the first event: updates of records from before are taken "
            "for such, and what deleted segments held is not counted."
        )
    if found.damage:
        told.append(
            f"The log of {found.uid} has {counted(found.damage, 'damaged or missing piece')}, "
            "whose events are not known."
        )
    return told
