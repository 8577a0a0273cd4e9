"""Migration: reading a bincode map, and moving users into the new layout, each in a process of its own."""

from __future__ import annotations

import gc
import json
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.inputs import Inputs
from benchmarks.measure import Figure, figure, tell
from benchmarks.report import SPEED, Bound, Row, rate, seconds
from benchmarks.verify import peak_memory
from meshlab.records import CONTENT_TYPES, MODES, VAULT_STATUSES
from meshlab.snapshot.entries import write_map
from meshlab.snapshot.layout import COMFORTS, FEELINGS, FLOATS
from meshlab.tables.schema import RECORD_FIELDS, RECORD_SCHEMA
from meshlab.times import DAY, format_time, midnight

READ_FLOOR, READ_AIM = Bound(80_000.0), Bound(150_000.0)
PEAK_FLOOR = Bound(1500.0, most=True)
SCALE_FLOOR, SCALE_AIM = Bound(1.2), Bound(1.7)
SHORT, LONG = 240, 1700
"""Characters of a content: as in the sample maps, and such that a million records make 2 GB."""

USERS = 2
_ROWS = 65_536


def measure(inputs: Inputs, rounds: int) -> list[Row]:
    folder = inputs.scratch("migrate")
    read = folder / "read.bin"
    count = max(1, inputs.events // 5)
    build_map(read, count, SHORT)
    rows = [_read_row(_in_child("read", read, rounds))]
    read.unlink()
    one = folder / "one" / "big" / "snapshot.bin"
    build_map(one, inputs.events, LONG)
    rows.append(_peak_row(_in_child("move", one.parent.parent, 1), one.stat().st_size))
    one.unlink()
    for number in range(USERS):
        build_map(folder / "many" / f"user{number}" / "snapshot.bin", max(1, inputs.events // 4), LONG, seed=number)
    told = [_in_child("move", folder / "many", jobs) for _ in range(max(1, rounds // 3)) for jobs in (1, USERS)]
    return [*rows, _scale_row(told[::2], told[1::2])]


# Maps


def build_map(path: Path, count: int, length: int, seed: int = 1) -> None:
    """Write a map of records whose contents have about ``length`` characters."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        write_map(file, _batches(count, length, seed), count)
    tell(f"  {path.name}: {count:,} records, {path.stat().st_size / 1e6:,.0f} MB")


def _batches(count: int, length: int, seed: int) -> Iterator[pa.RecordBatch]:
    source, numbers = random.Random(seed), np.random.RandomState(seed)
    words = ["".join(source.choices("abcdefghijklmnopqrstuvwxyzé", k=source.randint(2, 9))) for _ in range(4000)]
    text = " ".join(source.choices(words, k=60_000))
    for low in range(0, count, 8192):
        rows = min(8192, count - low)
        yield _batch(rows, lambda: _cut(text, length, source), source, numbers)


def _cut(text: str, length: int, source: random.Random) -> str:
    size = source.randint(length // 2, length * 3 // 2)
    start = source.randrange(len(text) - size)
    return text[start : start + size]


def _batch(rows: int, content: Callable[[], str], source: random.Random, numbers: Any) -> pa.RecordBatch:
    begin = midnight("20260101")
    times = [format_time(begin + source.randrange(DAY)) for _ in range(rows)]
    indicators = pa.array([["loss"] if source.random() < 0.1 else [] for _ in range(rows)], pa.list_(pa.string()))
    signature = [*(pa.array(numbers.rand(rows)) for _ in FEELINGS), indicators]
    comfort = [pa.array(numbers.rand(rows)) for _ in COMFORTS]
    columns: dict[str, Any] = {name: numbers.rand(rows) for name in FLOATS}
    columns |= {
        "id": [_uuid(source) for _ in range(rows)],
        "concept_id": [f"concept:{source.randrange(1000)}" for _ in range(rows)],
        "creation_time": times,
        "last_accessed": times,
        "access_count": numbers.randint(0, 100, rows).astype(np.uint64),
        "content": [content() for _ in range(rows)],
        "content_type": source.choices(CONTENT_TYPES, k=rows),
        "emotional_signature": pa.StructArray.from_arrays(signature, fields=list(_type("emotional_signature"))),
        "vault_status": source.choices(VAULT_STATUSES, k=rows),
        "mode": source.choices(MODES, k=rows),
        "comfort_metrics": pa.StructArray.from_arrays(comfort, fields=list(_type("comfort_metrics"))),
    }
    derived = {name: pa.nulls(rows, RECORD_SCHEMA.field(name).type) for name in RECORD_SCHEMA.names[-3:]}
    return pa.RecordBatch.from_pydict(columns | derived, schema=RECORD_SCHEMA)


def _type(name: str) -> Any:
    return RECORD_FIELDS.field(name).type


def _uuid(source: random.Random) -> str:
    digits = f"{source.getrandbits(128):032x}"
    return "-".join([digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]])


# What one would write by hand


def read_by_struct(path: Path) -> pa.Table:
    """A map to Arrow by a loop over its bytes: believes every length, variant and key."""
    data, at = path.read_bytes(), 8
    (total,) = struct.unpack_from("<Q", data)
    batches, rows = [], []
    for _ in range(total):
        record, at = _record(data, at)
        rows.append(record)
        if len(rows) == _ROWS:
            batches.append(pa.RecordBatch.from_pylist(rows, schema=RECORD_FIELDS))
            rows = []
    batches.append(pa.RecordBatch.from_pylist(rows, schema=RECORD_FIELDS))
    return pa.Table.from_batches(batches)


_U64, _U32, _SIX, _FOUR = struct.Struct("<Q"), struct.Struct("<I"), struct.Struct("<6d"), struct.Struct("<4d")
_FELT, _ENDS = struct.Struct("<3dQ"), struct.Struct("<II4d")


def _record(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    _, at = _text(data, at)
    id, at = _text(data, at)
    concept, at = _text(data, at)
    record = {"id": id, "concept_id": concept, **dict(zip(FLOATS, _SIX.unpack_from(data, at)))}
    record["creation_time"], at = _text(data, at + _SIX.size)
    record["last_accessed"], at = _text(data, at)
    (record["access_count"],) = _U64.unpack_from(data, at)
    record["content"], at = _text(data, at + 8)
    record["content_type"] = CONTENT_TYPES[_U32.unpack_from(data, at)[0]]
    *felt, count = _FELT.unpack_from(data, at + 4)
    at += 4 + _FELT.size
    indicators = []
    for _ in range(count):
        text, at = _text(data, at)
        indicators.append(text)
    record["emotional_signature"] = {**dict(zip(FEELINGS, felt)), "trauma_indicators": indicators}
    status, mode, *comforts = _ENDS.unpack_from(data, at)
    record |= {"vault_status": VAULT_STATUSES[status], "mode": MODES[mode]}
    record["comfort_metrics"] = dict(zip(COMFORTS, comforts))
    return record, at + _ENDS.size


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = at + 8 + _U64.unpack_from(data, at)[0]
    return data[at + 8 : end].decode(), end


# Processes of their own


def _in_child(what: str, path: Path, number: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.migrate", what, os.fspath(path), str(number)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(done.stdout)
    tell(f"  {what}, {number}: {told}")
    return told


def _read(path: Path, rounds: int) -> dict[str, Any]:
    """Records a second of both readers, in turn, on one core; they must find the same."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    from meshlab.snapshot.bincode import read_bincode

    def ours() -> Any:
        return pa.Table.from_batches(read_bincode(path, progress=False))

    found, expected = ours().select(RECORD_FIELDS.names), read_by_struct(path)
    if not found.equals(expected):
        raise SystemExit("read bincode: the two readers disagree")
    told: dict[str, list[float]] = {"ours": [], "loop": []}
    for _ in range(rounds):
        for name, work in (("ours", ours), ("loop", lambda: read_by_struct(path))):
            gc.collect()
            start = time.perf_counter()
            table = work()
            told[name].append(table.num_rows / (time.perf_counter() - start))
            del table
    return told


def _move(source: Path, jobs: int) -> dict[str, Any]:
    """Plan and apply; the seconds are those of apply alone."""
    from meshlab import migrate

    store = source.with_name(f"{source.name}-store-{time.monotonic_ns()}")
    plan = migrate.make_plan(source, store, progress=False)
    start = time.perf_counter()
    report = migrate.apply(plan, without_rehearsal=True, jobs=jobs, progress=False)
    elapsed = time.perf_counter() - start
    moved = [one for one in report.users if one.status == "migrated"]
    if len(moved) != len(plan.users) or not moved:
        raise SystemExit(f"migrate: not all users were moved: {plan.problems or report}")
    records = sum(one.records for one in moved)
    return {"seconds": elapsed, "records": records, "peak": peak_memory() / 1e6}


# Rows


def _read_row(told: dict[str, Any]) -> Row:
    ours, loop = figure(told["ours"]), figure(told["loop"])
    shown = f"struct.unpack loop to dicts, then Arrow {rate(loop)}"
    work = "read a bincode map to Arrow, checked, one core"
    return Row(work, rate(ours), shown, ours.median, "{:,.0f} records/s", READ_FLOOR, READ_AIM)


def _peak_row(told: dict[str, Any], nbytes: int) -> Row:
    work = f"migrate a map of {nbytes / 1e6:,.0f} MB: peak memory of plan and apply"
    shown = f"{told['seconds']:.1f} s, {told['records'] / told['seconds']:,.0f} records/s"
    return Row(work, shown, "-", told["peak"], "{:,.0f} MB", PEAK_FLOOR)


def _scale_row(one: list[dict[str, Any]], many: list[dict[str, Any]]) -> Row:
    slow, fast = _times(one), _times(many)
    work = f"migrate {USERS} users of {one[0]['records'] // USERS:,} records, jobs={USERS}"
    return Row(work, seconds(fast), f"jobs=1 {seconds(slow)}", slow.median / fast.median, SPEED, SCALE_FLOOR, SCALE_AIM)


def _times(told: list[dict[str, Any]]) -> Figure:
    return figure([one["seconds"] for one in told])


if __name__ == "__main__":
    task, place, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    print(json.dumps({"read": _read, "move": _move}[task](place, number)))
