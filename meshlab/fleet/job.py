"""What is done for one user: a few figures for the summary, and tables for those who look closer.

Jobs that read a log from one end to the other give a ``Reading``, which may be of a part
of it; what readings come to is told by ``join``.  All others do a user in one go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from meshlab.dialects import OPS
from meshlab.errors import MeshlabError
from meshlab.fleet.pieces import Emit, Reading, as_load, load_pieces, start_of, verify_pieces
from meshlab.fleet.place import ALL, LOG, VERIFIED, InBucket, Place, bucket_of, pieces_of
from meshlab.fleet.task import Unit
from meshlab.growth.growth import user_totals
from meshlab.growth.redundancy import DAY_SCHEMA, USER_SCHEMA, redundancy
from meshlab.remote.notes import Notes
from meshlab.remote.patience import PatientBucket, Traffic
from meshlab.remote.prove import ProvedUser, Prover
from meshlab.remote.pull import Puller
from meshlab.remote.transfer import Lanes
from meshlab.replay import replay, windows
from meshlab.snapshot.checkpoint import checkpoint
from meshlab.snapshot.hashing import state_hash
from meshlab.snapshot.vacuum import vacuum
from meshlab.tables.events import segments_of
from meshlab.tables.load import Log, Selection, select
from meshlab.tables.reports import reject_table
from meshlab.tables.schema import COLUMNS, REJECT_SCHEMA, SEGMENT_SCHEMA, TIME
from meshlab.tables.totals import REJECTS, TOTALS_SCHEMA, totals
from meshlab.timeline import deleted_segments, log_of
from meshlab.wal.chain import ORIGIN
from meshlab.wal.lines import DIALECTS
from meshlab.wal.paths import segment_days
from meshlab.wal.reader import Tally, resolve

EVENTS = "events"
"""The table that workers write themselves: it may be large."""

TALLY_SCHEMA = pa.schema(
    [("uid", pa.string()), ("segment", pa.string()), *((n, pa.int64()) for n in Tally._fields[1:])]
)
"""One row per segment that was verified."""

WINDOW_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("start", TIME),
        ("end", TIME),
        ("source", pa.string()),
        ("generations", pa.list_(pa.int64())),
        ("hole_before", pa.string()),
        ("hole_after", pa.string()),
    ]
)
"""One row per interval of moments that can be restored."""


_COUNTED = (*OPS, *(f"in {dialect}" for dialect in DIALECTS))
"""Events that are counted apart."""


class Call(NamedTuple):
    """One user to be done: where it is, what of it, how, and who takes events."""

    place: Place
    unit: Unit
    root: Path
    options: Mapping[str, Any]
    emit: Emit

    @property
    def uid(self) -> str:
        """Whose turn it is."""
        return self.unit.uid


class Found(NamedTuple):
    """What came of a user: figures by name, and tables."""

    figures: dict[str, Any]
    tables: Mapping[str, pa.Table] = MappingProxyType({})


class Job(NamedTuple):
    """A kind of work.

    ``speed`` is in bytes a second of one core, ``overhead`` in seconds a user; both were
    measured roughly, for tasks need to be large enough and no more.  ``reads`` is what of
    a user is needed, ``writes`` whether it changes the user, ``opens`` whether the worker
    brings the user to a directory first, ``resumes`` whether what an earlier run found of
    users who look the same is true still.
    """

    name: str
    figures: pa.Schema
    tables: dict[str, pa.Schema]
    speed: float
    overhead: float
    of_user: Callable[[Call], Found]
    of_pieces: Callable[[Call], Reading] | None = None
    join: Callable[[str, Reading, Mapping[str, Any]], Found] | None = None
    reads: str = ALL
    writes: bool = False
    opens: bool = True
    resumes: bool = True


def _schema(**columns: str) -> pa.Schema:
    return pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()])


_TYPES = {"int": pa.int64(), "text": pa.string(), "bool": pa.bool_(), "float": pa.float64(), "time": TIME}


# Verify


def _verify_pieces(call: Call) -> Reading:
    root, unit = call.root, call.unit
    if unit.pieces is None:
        return verify_pieces(root, pieces_of(segment_days(root), deleted_segments(root, call.uid)), ORIGIN)
    return verify_pieces(root, unit.pieces, start_of(root, unit))


def _join_verified(uid: str, reading: Reading, options: Mapping[str, Any]) -> Found:
    parts = [read.part for read in reading.reads]
    rejects = resolve(parts)
    tallies = pa.Table.from_pylist([{"uid": uid, **part.tally._asdict()} for part in parts], TALLY_SCHEMA)
    figures = {
        "segments": len(parts),
        **{name: sum(getattr(part.tally, name) for part in parts) for name in ("bytes", "events", "rejects")},
        "damage": sum(reject.kind != "torn" for reject in rejects),
        "last_seq": reading.end.seq,
    }
    return Found(figures, {"segments": tallies, "rejects": reject_table(uid, rejects)})


# Load


def _selection(options: Mapping[str, Any]) -> Selection:
    return select(**options)


def _load_pieces(call: Call) -> Reading:
    root, unit = call.root, call.unit
    log = log_of(root, unit.uid)
    if unit.pieces is not None:
        log = Log(root, unit.uid, unit.pieces, start_of(root, unit))
    return load_pieces(log, _selection(call.options), call.emit)


def _join_loaded(uid: str, reading: Reading, options: Mapping[str, Any]) -> Found:
    load = as_load(uid, reading, _selection(options))
    rejects, segments = load.rejects, segments_of(load)
    parts = load.report.parts
    figures = {
        "bytes": sum(part.tally.bytes for part in parts),
        "events": sum(part.tally.events for part in parts),
        "rejects": sum(part.tally.rejects for part in parts),
        "damage": sum(reject.kind != "torn" for reject in rejects),
    }
    return Found(figures, {"rejects": reject_table(uid, rejects), "segments": segments})


# All others


def _state(call: Call) -> Found:
    state = replay(call.root, call.uid, call.options.get("at"), progress=False)
    figures = {
        "live": len(state),
        "state_hash": state_hash(state.to_arrow()).hexdigest(),
        "orphans": state.orphans.num_rows,
        "last_seq": state.end.seq,
        "damage": state.damage,
    }
    return Found(figures)


def _growth(call: Call) -> Found:
    found = user_totals(log_of(call.root, call.uid))
    gone = found.table["deleted"]
    figures = {
        "bytes": pc.sum(pc.if_else(gone, 0, found.table["bytes"])).as_py() or 0,
        "events": pc.sum(pc.if_else(gone, 0, found.table["events"])).as_py() or 0,
        "deleted_bytes": pc.sum(pc.if_else(gone, found.table["bytes"], 0)).as_py() or 0,
        "damage": found.damage,
    }
    return Found(figures, {"totals": found.table})


def _stats(call: Call) -> Found:
    """What ``UserStore.stats`` says, of sealed segments from what stands beside their copies."""
    found = totals(log_of(call.root, call.uid))
    days = segment_days(call.root)
    rows = found.table.group_by(["op", "dialect"]).aggregate([("events", "sum"), ("bytes", "sum")]).to_pylist()
    events, nbytes = Counter[str](), Counter[str]()
    for row in rows:
        for name in {row["op"], f"in {row['dialect']}"}:
            events[name] += row["events_sum"]
        nbytes[row["op"]] += row["bytes_sum"]
    figures = {
        "first_day": days[0] if days else None,
        "last_day": days[-1] if days else None,
        "days": len(days),
        "bytes": sum(nbytes.values()),
        "events": sum(events[op] for op in OPS),
        **{name: events[name] for name in _COUNTED},
        "rejects": events[REJECTS],
        "reject_bytes": nbytes[REJECTS],
        "damage": found.damage,
    }
    return Found(figures)


def _redundancy(call: Call) -> Found:
    found = redundancy(log_of(call.root, call.uid))
    (figures,) = found.users.to_pylist()
    del figures["uid"]
    return Found({**figures, "notes": " ".join(found.notes)}, {"days": found.table})


def _windows(call: Call) -> Found:
    found = windows(call.root, call.uid)
    rows = [{"uid": call.uid, **window._asdict()} for window in found]
    figures = {
        "windows": len(found),
        "start": found[0].start if found else None,
        "end": found[-1].end if found else None,
        "hole": next((hole for one in found if (hole := one.hole_before)), None),
    }
    return Found(figures, {"windows": pa.Table.from_pylist(rows, WINDOW_SCHEMA)})


def _prove(call: Call) -> Found:
    """As ``Remote.prove``, with one client for all users of a process and no more listings than needed."""
    place, images = call.place, call.unit.images
    url, mark = (place.url, "") if isinstance(place, InBucket) else (call.options["remote"], call.options["mark"])
    bucket = PatientBucket(bucket_of(url).inner)  # which counts what this user asks for
    with Lanes() as lanes:
        listed = {call.uid: images} if images is not None and images.keys else {}
        puller = Puller(bucket, call.root, lanes, listed=listed)
        proof = Prover(puller, Notes(call.root, mark) if mark else None).prove(call.uid)
    told = {name: getattr(proof, name) for name in ProvedUser.__struct_fields__ if name not in ("uid", "hint")}
    return Found({**told, "advice": proof.hint, "compared": ", ".join(proof.compared), **bucket.traffic._asdict()})


def _checkpoint(call: Call) -> Found:
    report = checkpoint(call.root, call.uid, progress=False, **call.options)._asdict()
    return Found({name: report[name] for name in CHECKPOINT.figures.names})


def _vacuum(call: Call) -> Found:
    report = vacuum(call.root, call.uid, **call.options)
    going = sum(fate.goes for fates in (report.segments, report.layers, report.history) for fate in fates)
    told = {"generation": report.generation, "files": going, "bytes_freed": report.bytes_freed}
    return Found({**told, "events": report.events, "applied": report.applied})


def _in_pieces(of_pieces: Callable[[Call], Reading], join: Callable[..., Found]) -> Callable[[Call], Found]:
    return lambda call: join(call.uid, of_pieces(call), call.options)


VERIFY = Job(
    "verify",
    _schema(segments="int", bytes="int", events="int", rejects="int", damage="int", last_seq="int"),
    {"segments": TALLY_SCHEMA, "rejects": REJECT_SCHEMA},
    300e6,
    0.005,
    _in_pieces(_verify_pieces, _join_verified),
    _verify_pieces,
    _join_verified,
    reads=VERIFIED,
)
LOAD = Job(
    "load",
    _schema(bytes="int", events="int", rejects="int", damage="int"),
    {EVENTS: COLUMNS, "rejects": REJECT_SCHEMA, "segments": SEGMENT_SCHEMA},
    50e6,
    0.01,
    _in_pieces(_load_pieces, _join_loaded),
    _load_pieces,
    _join_loaded,
    reads=LOG,
)
STATE = Job(
    "state",
    _schema(live="int", state_hash="text", orphans="int", last_seq="int", damage="int"),
    {},
    50e6,
    0.05,
    _state,
)
GROWTH = Job(
    "growth",
    _schema(bytes="int", events="int", deleted_bytes="int", damage="int"),
    {"totals": TOTALS_SCHEMA},
    100e6,
    0.01,
    _growth,
)
STATS = Job(
    "stats",
    pa.schema(
        [
            *((name, pa.string()) for name in ("first_day", "last_day")),
            *((name, pa.int64()) for name in ("days", "bytes", "events", *_COUNTED)),
            *((name, pa.int64()) for name in ("rejects", "reject_bytes", "damage")),
        ]
    ),
    {},
    100e6,
    0.01,
    _stats,
)
REDUNDANCY = Job(
    "redundancy",
    pa.schema([*list(USER_SCHEMA)[1:], pa.field("notes", pa.string())]),
    {"days": DAY_SCHEMA},
    50e6,
    0.03,
    _redundancy,
)
WINDOWS = Job(
    "windows",
    _schema(windows="int", start="time", end="time", hole="text"),
    {"windows": WINDOW_SCHEMA},
    5e9,
    0.001,
    _windows,
)
PROVE = Job(
    "prove",
    pa.schema(
        [
            *((name, pa.string()) for name in ("outcome", "reason", "advice", "image", "compared", "state_hash")),
            *((name, pa.int64()) for name in ("records", "bytes")),
            ("seconds", pa.float64()),
            *((name, pa.int64()) for name in Traffic._fields),
        ]
    ),
    {},
    20e6,
    0.1,
    _prove,
    opens=False,
    resumes=False,
)
CHECKPOINT = Job(
    "checkpoint",
    pa.schema(
        [
            *((name, pa.int64()) for name in ("generation", "events", "bytes_folded", "records", "changed", "gone")),
            *((name, pa.int64()) for name in ("orphans", "layers", "bytes_written", "bytes_of_change")),
            *((name, pa.int64()) for name in ("bytes_merged", "bytes_saved", "accepted")),
            ("state_hash", pa.string()),
            ("seconds", pa.float64()),
            ("dry_run", pa.bool_()),
        ]
    ),
    {},
    20e6,
    0.1,
    _checkpoint,
    writes=True,
    resumes=False,
)
VACUUM = Job(
    "vacuum",
    _schema(generation="int", files="int", bytes_freed="int", events="int", applied="bool"),
    {},
    100e6,
    0.02,
    _vacuum,
    writes=True,
    resumes=False,
)

JOBS = {job.name: job for job in (VERIFY, LOAD, STATE, GROWTH, STATS, REDUNDANCY, WINDOWS, PROVE, CHECKPOINT, VACUUM)}


def schema_of(job: Job, table: str, options: Mapping[str, Any]) -> pa.Schema:
    """The columns of a table of a job; of events those that were asked for."""
    if table == EVENTS:
        return pa.schema([COLUMNS.field(name) for name in _selection(options).columns])
    return job.tables[table]


def can_be_cut(job: Job, options: Mapping[str, Any]) -> bool:
    """Whether large users may be read in pieces: rows are chosen along a whole log."""
    return job is VERIFY or (job is LOAD and _selection(options).whole)


def job_named(name: str) -> Job:
    """A job.  Raises ``MeshlabError``."""
    if name not in JOBS:
        raise MeshlabError(f"there is no job {name!r}", hint=f"choose from {', '.join(JOBS)}")
    return JOBS[name]
