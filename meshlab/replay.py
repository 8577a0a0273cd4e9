"""Replay: what a user's log, over a snapshot or nothing, comes to, now or at any moment.

>>> import tempfile
>>> root = Path(tempfile.mkdtemp())
>>> lines = ['{"Insert":{"id":"m1","amplitude":0.5}}', '{"Update":{"id":"m1","mode":"Dark"}}', ""]
>>> _ = (root / "wal-20250707.log").write_text("\\n".join(lines))
>>> state = replay(root, "u1", progress=False)
>>> state
<State of u1: 1 live memory>
>>> state.to_pylist()
[{'id': 'm1', 'amplitude': 0.5, 'mode': 'Dark'}]
>>> replay(root, "u1", "20250707:0", progress=False).to_pylist()
[{'id': 'm1', 'amplitude': 0.5}]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from meshlab.errors import MeshlabError, NotRestorable
from meshlab.plan import Lsn, Plan, Planner, Window, moment_of
from meshlab.snapshot.contents import digests_in, each_once, encode_batch
from meshlab.snapshot.fold import FOLD_COLUMNS, ORPHAN_SCHEMA, Fold
from meshlab.snapshot.manifest import in_force
from meshlab.snapshot.ranges import undeleted
from meshlab.snapshot.state import State
from meshlab.tables.events import Events, load_user
from meshlab.tables.load import Moment
from meshlab.times import format_time
from meshlab.wal.reader import settled_ends

T = TypeVar("T")

_ATTEMPTS = 5
"""How often a reader starts over when files go away under its hands."""


def replay(root: Path, uid: str, at: Moment | Lsn | None = None, *, progress: bool = True) -> State:
    """The state of the user whose directory is ``root``: at a moment, or (None) after the last event.

    ``at`` is a time, inclusive, or the place of a line (``20250707:1234``), which counts.
    A phase-1 ``snapshot.bin`` is older than the whole log.  Damage in the log does not
    stop a replay; it stands in ``State.rejects`` and shows in the repr.

    Raises ``NotRestorable`` with the nearest moments that can be restored,
    ``SnapshotError`` for a snapshot that cannot be read or has gone, and ``NotFound`` or
    ``StorageError`` for files that cannot be read.
    """
    moment = moment_of(at)

    def work() -> State:
        return follow(root, uid, Planner(root, uid, past=moment is not None).plan(moment), progress=progress)

    return steadily(root, work)


def windows(root: Path, uid: str) -> list[Window]:
    """The intervals of restorable moments of a user, oldest first, and why there are holes."""
    return steadily(root, lambda: Planner(root, uid).windows())


def plan(root: Path, uid: str, at: Moment | Lsn | None = None) -> Plan:
    """How to restore a state, or ``NotRestorable`` with the nearest moments that can be."""
    moment = moment_of(at)
    return steadily(root, lambda: Planner(root, uid, past=moment is not None).plan(moment))


def follow(root: Path, uid: str, plan: Plan, *, progress: bool = True) -> State:
    """Do what a plan says."""
    base = plan.start.base()
    fold = Fold(plan.start.table(progress=progress) if base is None else base.coded())
    texts = _Texts()
    events = load_user(
        root, uid, plan.pieces, plan.start.cursor, columns=FOLD_COLUMNS, until=plan.until, progress=progress
    )
    moment = None
    for batch in _up_to(events, plan.last):
        if base is not None:  # as the layers have them: long contents are looked up at the end
            batch, found = encode_batch(batch)
            texts.add(found, fold)
        fold.add(batch)
        moment = batch["effective_ts"][-1]
    if plan.last is not None and moment is not None and moment.cast(pa.int64()).as_py() < plan.start.since:
        raise NotRestorable(
            f"the state at {plan.last} is older than {plan.start.name}, which is of {format_time(plan.start.since)}"
        )
    state, orphans, counts = fold.finish()
    if base is not None:
        whole = base.contents.decode_column(state["content"], texts.table())
        state = state.set_column(state.schema.get_field_index("content"), "content", whole)
    orphans = pa.concat_tables([_orphans_before(plan), orphans])
    reports = {"rejects": events.rejects, "segments": events.segments}
    folded = plan.start.manifest.folded_ends if plan.start.manifest is not None and plan.start.path is None else {}
    if plan.start.manifest is not None:
        folded |= {day: piece.stop for day, piece in undeleted(root, plan.start.manifest).items()}
    ends = folded | settled_ends(events.parts)
    return State(uid, state, orphans=orphans, counts=counts, ends=ends, end=events.end, **reports)


_MOST_TEXTS = 256 << 20
"""Bytes of long contents after which those that were replaced since are let go."""


class _Texts:
    """Long contents that events bring, as far as the state still needs them."""

    def __init__(self) -> None:
        self._held: list[pa.Table] = []
        self._nbytes, self._most = 0, _MOST_TEXTS

    def add(self, texts: pa.Table, fold: Fold) -> None:
        """Take contents; ``fold``, which has not seen their events, tells now and then which are still needed."""
        if self._nbytes > self._most:
            used = [digests_in(chunk).drop_null() for chunk in fold.finish().state["content"].chunks]
            table = self.table()
            self._held = [table.filter(pc.is_in(table["digest"], pc.unique(pa.chunked_array(used, pa.binary(32)))))]
            self._nbytes = self._held[0].nbytes
            self._most = max(_MOST_TEXTS, 2 * self._nbytes)
        self._held.append(texts)
        self._nbytes += texts.nbytes

    def table(self) -> pa.Table:
        """The contents, each once."""
        return each_once(self._held)


def _orphans_before(plan: Plan) -> pa.Table:
    """The last orphans that a checkpoint remembers."""
    manifest = plan.start.manifest
    told = [] if manifest is None or plan.start.path is not None else manifest.last_orphans
    rows = [{**orphan, "effective_ts": orphan["effective"]} for orphan in told]
    columns = {name: [row[name] for row in rows] for name in ORPHAN_SCHEMA.names}
    columns = {name: pa.array(values, _plain(ORPHAN_SCHEMA.field(name).type)) for name, values in columns.items()}
    return pa.table(columns).cast(ORPHAN_SCHEMA)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _up_to(events: Events, last: Lsn | None) -> Iterator[pa.RecordBatch]:
    """The events up to the line at a place, inclusive; the segment it is in comes last."""
    for batch in events.to_batches():
        if last is not None and batch["segment"][0].as_py() == last.segment:
            batch = batch.filter(pc.less_equal(batch["offset"], last.offset))
        if batch.num_rows:
            yield batch


def steadily(root: Path, work: Callable[[], T]) -> T:
    """What ``work`` gives, done again when a checkpoint or vacuum took away what it was reading.

    Readers take no lock: when files vanish or do not fit together, and another snapshot
    has come into force since, the reading starts over.
    """
    for _ in range(_ATTEMPTS - 1):
        before = in_force(root)
        try:
            result = work()
        except (MeshlabError, OSError):
            if in_force(root) == before:
                raise
        else:
            return result
    return work()
