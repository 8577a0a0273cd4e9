"""Totals: every byte of a log in one row, the same from the log and from what stands beside sealed copies."""

from __future__ import annotations

import fcntl
import os
import pickle
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlab.dialects import OTHER, parse_event
from meshlab.errors import StorageError
from meshlab.tables import sealed, segment, sizes, totals
from meshlab.tables.events import load_user
from meshlab.tables.load import Log, Piece
from meshlab.tables.seal import seal
from meshlab.tables.totals import (
    BLANKS,
    FIELD_TOTALS_SCHEMA,
    ID_TOTALS_SCHEMA,
    OPEN_TAIL,
    REJECTS,
    TOTALS_SCHEMA,
    field_totals,
    id_totals,
)
from meshlab.testing import LogBuilder, build_store, strategies
from meshlab.testing.samples import DISASTERS, UID, build_disaster
from meshlab.times import HOUR, midnight
from meshlab.wal.writer import Writer

from .logs import DAYS, mixed_log
from .test_structure import expected_sizes

PLACE = ("segment", "offset", "nbytes", "effective_ts", "op", "dialect", "id")


def sizes_on_disk(root: Path) -> dict[str, int]:
    return {path.stem[4:]: path.stat().st_size for path in sorted(root.glob("wal-2*.log")) if path.stat().st_size}


def by_day(table: pa.Table) -> dict[str, int]:
    grouped = table.group_by("day").aggregate([("bytes", "sum")])
    return dict(sorted(zip(grouped["day"].to_pylist(), grouped["bytes_sum"].to_pylist(), strict=True)))


def rows(table: pa.Table) -> list[tuple]:
    """The rows in an order of their own; no two tell of the same."""
    found = sorted((tuple(row.values()) for row in table.to_pylist()), key=repr)
    keys = Counter(row[: -3 if "deleted" in table.schema.names else -1] for row in found)
    assert not [key for key, count in keys.items() if count > 1]
    return found


def expected(root: Path, uid: str = "u1") -> tuple[Counter, Counter, Counter, Counter]:
    """Events and bytes by group, and bytes by group and field, one event after the other."""
    events = load_user(root, uid, progress=False, columns=(*PLACE, "payload_nbytes")).to_arrow().to_pylist()
    counts, nbytes, fields, ids = Counter(), Counter(), Counter(), Counter()
    held = {day: (root / f"wal-{day}.log").read_bytes() for day in sizes_on_disk(root)}
    for row in events:
        hour = row["effective_ts"].replace(minute=0, second=0, microsecond=0)
        group = (row["segment"], hour, row["op"], row["dialect"])
        counts[group] += 1
        nbytes[group] += row["nbytes"]
        ids[row["id"]] += row["nbytes"]
        for name, size in _fields(held[row["segment"]], row):
            fields[(*group, name)] += size
    return counts, nbytes, fields, ids


def _fields(data: bytes, row: dict) -> list[tuple[str, int]]:
    """Sizes of the fields of an event, found in the bytes of its line by another reader."""
    line = data[row["offset"] : row["offset"] + row["nbytes"]].strip()
    start = 0 if row["dialect"] in ("bare", "other") else line.index(b'"event":') + len(b'"event":')
    payload = line[start:].lstrip()[: row["payload_nbytes"]]
    if parse_event(payload).op == OTHER or payload.startswith(b'{"Delete":"'):
        return []
    return expected_sizes(payload)


def check(root: Path, uid: str = "u1") -> None:
    """All three tables are what one event after the other adds up to, and tile the files."""
    counts, nbytes, fields, ids = expected(root, uid)
    log = Log(root, uid)
    table, by_field, by_id = totals.totals(log).table, field_totals(log).table, id_totals(log).table
    assert (table.schema, by_field.schema, by_id.schema) == (TOTALS_SCHEMA, FIELD_TOTALS_SCHEMA, ID_TOTALS_SCHEMA)
    assert by_day(table) == sizes_on_disk(root)
    told = [row for row in table.to_pylist() if not row["op"].startswith("(")]
    groups = {(row["day"], row["hour"], row["op"], row["dialect"]): (row["events"], row["bytes"]) for row in told}
    assert len(groups) == len(told)
    assert groups == {group: (count, nbytes[group]) for group, count in counts.items()}
    names = ("day", "hour", "op", "dialect", "field")
    assert {tuple(row[name] for name in names): row["bytes"] for row in by_field.to_pylist()} == fields
    assert dict(zip(by_id["id"].to_pylist(), by_id["bytes"].to_pylist(), strict=True)) == ids
    assert pc.sum(by_id["events"]).as_py() == sum(counts.values()) or not counts
    assert set(table["uid"].to_pylist()) <= {uid}


@pytest.fixture
def root(tmp_path):
    return mixed_log(tmp_path / "u1")


def test_every_byte_of_a_log_is_in_one_row(root):
    check(root)
    table = totals.totals(Log(root, "u1")).table
    odd = {row["op"]: row for row in table.to_pylist() if row["op"].startswith("(") and row["day"] == DAYS[1]}
    assert {name: row["events"] for name, row in odd.items()} == {REJECTS: 2, BLANKS: 2}
    assert all(row["op"] == row["dialect"] and row["hour"] is None for row in odd.values())


def test_sealed_segments_tell_the_same(root):
    before = [rows(ask(Log(root, "u1")).table) for ask in (totals.totals, field_totals, id_totals)]
    damage = totals.totals(Log(root, "u1")).damage
    assert len(seal(root, "u1")) == 2
    assert [rows(ask(Log(root, "u1")).table) for ask in (totals.totals, field_totals, id_totals)] == before
    assert totals.totals(Log(root, "u1")).damage == damage == 2
    check(root)


@pytest.mark.parametrize("ask", [totals.totals, field_totals])
def test_sealed_segments_are_not_opened(root, monkeypatch, ask):
    seal(root, "u1")
    read: list[str] = []
    scan = segment.scan_segment
    monkeypatch.setattr(sealed.pq, "ParquetFile", lambda *args, **kwargs: pytest.fail("a copy was opened"))
    monkeypatch.setattr(
        segment, "scan_segment", lambda root, day, *a, **k: read.append(day) or scan(root, day, *a, **k)
    )
    ask(Log(root, "u1"))
    assert read == [DAYS[2]]


def test_contents_are_not_read_to_tell_ids(root, monkeypatch):
    seal(root, "u1")
    columns: list[str] = []
    read = sealed._read_group
    monkeypatch.setattr(
        sealed, "_read_group", lambda file, i, names, n: columns.extend(names) or read(file, i, names, n)
    )
    id_totals(Log(root, "u1"))
    assert set(columns) == {"id", "nbytes"}


def test_a_copy_that_does_not_stand_for_its_segment_is_not_believed(root):
    seal(root, "u1")
    with open(root / f"wal-{DAYS[0]}.log", "ab") as file:
        file.write(b'{"Insert":{"id":"late","mode":"Dark"}}\n')
    check(root)
    assert "late" in id_totals(Log(root, "u1")).table["id"].to_pylist()


def test_a_copy_behind_another_log_is_not_believed(tmp_path):
    log = LogBuilder("20250701")
    for day in ("20250701", "20250702", "20250703"):
        log.frame([{"Delete": f"gone-{day}"}], day=day)
    root = log.write(tmp_path / "u1")
    seal(root, "u1")
    (root / "wal-20250701.log").unlink()
    assert totals.totals(Log(root, "u1")).damage == 1  # the gap
    check(root)


TOO_LONG = "long-line"
"""64 MiB, and each look at it takes a second: one will do."""


def test_a_line_too_long_for_any_frame_adds_up(tmp_path):
    build_disaster(TOO_LONG, tmp_path)
    assert by_day(totals.totals(Log(tmp_path / UID, UID)).table) == sizes_on_disk(tmp_path / UID)


@pytest.mark.parametrize("name", [name for name in DISASTERS if name != TOO_LONG])
def test_damaged_logs_add_up_to_their_files(tmp_path, name):
    build_disaster(name, tmp_path)
    root = tmp_path / UID
    raw = [rows(ask(Log(root, UID)).table) for ask in (totals.totals, field_totals)]
    seal(root, UID)
    check(root, UID)
    assert [rows(ask(Log(root, UID)).table) for ask in (totals.totals, field_totals)] == raw


def hostile_log(root: Path) -> Path:
    """Two days of what no writer should leave: NULs, repeated and fused frames, tails of all kinds."""
    log = LogBuilder("20250707")
    log.frame([{"Insert": {"id": "m1", "content": "sea"}}, {"Update": {"id": "m1", "theme": None, "mode": "Dark"}}])
    repeated = log.bytes()
    log.raw(bytes(5000) + b"\n\n \t \r\n")
    log.raw(repeated)
    log.raw(b'{"Insert":{"id":"f1"}}{"Update": { "id" : "f1", "width" : 1 } }\n')
    log.raw(b'\xff\xfe{"Delete":"x"}\n{"timestamp":"soon","event":{"Delete":{"id":"m1"}}}\n')
    log.raw(b'{"timestamp":"1969-12-31T23:59:59Z","event":{"Update":{"id":"m1","n":1}}}\n', day="20250708")
    log.raw(b'{"timestamp":"2999-01-01T00:00:00Z","event":[1,{"id":2}]}\n{"Update":{"id":"m2","\\u006dode":"x"}}')
    return log.write(root)


@pytest.mark.parametrize("tail", [b"", b"\n", b'\n{"Insert":{"id":', b"\x00" * 700, b'\n{"timestamp":"2025'])
def test_what_no_writer_should_leave_adds_up(tmp_path, tail):
    root = hostile_log(tmp_path / "u1")
    with open(root / "wal-20250708.log", "ab") as file:
        file.write(tail)
    check(root)
    (root / "wal-20250710.log").write_bytes(b"")
    seal(root, "u1")
    check(root)


def test_an_open_tail_beside_a_writer_has_a_row_of_its_own(tmp_path):
    root = LogBuilder("20250707")
    root.frame([{"Delete": "m1"}])
    root.raw(b'{"timestamp":"2025-07-07T00:00')
    folder = root.write(tmp_path / "u1")
    with open(folder / "wal.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        table = totals.totals(Log(folder, "u1")).table
    assert {row["op"]: (row["events"], row["bytes"]) for row in table.to_pylist()}[OPEN_TAIL] == (0, 30)
    assert by_day(table) == sizes_on_disk(folder)


@settings(max_examples=10)
@given(st.lists(strategies.batches(), min_size=1, max_size=5))
def test_whatever_is_written_adds_up(tmp_path_factory, batches):
    root = tmp_path_factory.mktemp("u1")
    now = midnight(DAYS[0])
    for number, batch in enumerate(batches):
        writer = Writer(root, durability="os", clock=lambda at=now + number * 11 * HOUR: at)
        writer.append_many(batch)
        writer.close()
    check(root)
    seal(root, "u1")
    check(root)


def test_a_log_in_pieces_tells_each_group_once(tmp_path):
    """As when a segment was folded up to somewhere, and other segments stand between that and the rest."""
    log = LogBuilder("20250707")
    for number in range(6):
        log.frame([{"Update": {"id": f"m{number}", "theme": number}}], day=f"2025070{7 + number // 4}")
        log.raw(b"no event\n")
    root = log.write(tmp_path / "u1")
    whole = [rows(ask(Log(root, "u1")).table) for ask in (totals.totals, field_totals)]
    assert len(whole[0]) == 4
    cut = (root / "wal-20250708.log").read_bytes().index(b"no event\n")
    pieces = [Piece("20250707"), Piece("20250708", 0, cut), Piece("20250708", cut, None, 2)]
    assert [rows(ask(Log(root, "u1", pieces)).table) for ask in (totals.totals, field_totals)] == whole


def test_an_empty_log_has_no_rows(tmp_path):
    (tmp_path / "u1").mkdir()
    log = Log(tmp_path / "u1", "u1")
    for ask, schema in (
        (totals.totals, TOTALS_SCHEMA),
        (field_totals, FIELD_TOTALS_SCHEMA),
        (id_totals, ID_TOTALS_SCHEMA),
    ):
        assert ask(log).table.equals(schema.empty_table())
        assert ask(log).damage == 0


def test_names_beyond_many_share_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "MOST_NAMES", 20)
    log = LogBuilder("20250707")
    log.frame([{"Update": {"id": "x", f"name-{number}": 1}} for number in range(10)])
    root = log.write(tmp_path / "u1")
    told = {row["field"]: row["bytes"] for row in field_totals(Log(root, "u1")).table.to_pylist()}
    assert told == {"id": 70, "name-0": 9, "name-1": 9, "name-2": 9, sizes.OTHER_FIELDS: 63}


def test_users_are_told_of_by_other_processes(tmp_path):
    build_store(tmp_path / "store", users=["ann", "bo"], days=2, events=60, seed=3)
    logs = [Log(tmp_path / "store" / uid, uid) for uid in ("ann", "bo")]
    pickle.loads(pickle.dumps(totals.totals(logs[0])))
    with ProcessPoolExecutor(1) as pool:
        for ask in (totals.totals, field_totals, id_totals):
            assert [told.table for told in pool.map(ask, logs)] == [ask(log).table for log in logs]


def test_many_ids_are_held_once_each(tmp_path):
    log = LogBuilder("20250707")
    for number in range(40):
        log.frame([{"Update": {"id": f"m{number % 7}", "access_count": number}}])
    root = log.write(tmp_path / "u1")
    table = id_totals(Log(root, "u1")).table
    assert sorted(table["id"].to_pylist()) == [f"m{number}" for number in range(7)]
    assert pc.sum(table["events"]).as_py() == 40


def test_a_segment_that_cannot_be_read_is_an_error(root):
    path = root / f"wal-{DAYS[2]}.log"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StorageError):
        totals.totals(Log(root, "u1"))
