"""Sealed copies: the same rows as the log, and never used when they might not be."""

from __future__ import annotations

import contextlib
import hashlib
import os
import timeit
from pathlib import Path
from random import Random

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meshlab.errors import StorageError
from meshlab.tables import seal as sealing
from meshlab.tables.events import load_user
from meshlab.tables.schema import COLUMNS, EVENT_SCHEMA
from meshlab.tables.seal import seal
from meshlab.tables.sealed import (
    VERSION,
    description_path,
    look_at_source,
    pack,
    read_description,
    sealed_path,
    unpack,
)
from meshlab.testing import (
    FailingFiles,
    ForgetfulFiles,
    LogBuilder,
    PowerCut,
    RecordingFiles,
    WrappedFiles,
    build_store,
)
from meshlab.times import midnight

from .logs import DAYS, HOUR, mixed_log


@pytest.fixture
def root(tmp_path):
    return mixed_log(tmp_path / "u1")


def load(root: Path, **chosen):
    return load_user(root, "u1", progress=False, **chosen)


def sealed_days(root: Path, **chosen) -> list[str]:
    rows = load(root, **chosen).segments.to_pylist()
    return [row["segment"] for row in rows if row["sealed"]]


def test_every_segment_but_the_newest_is_sealed_once(root):
    done = seal(root, "u1")
    assert [(file.segment, file.bytes) for file in done] == [
        (day, (root / f"wal-{day}.log").stat().st_size) for day in DAYS[:2]
    ]
    assert [file.sealed_bytes for file in done] == [sealed_path(root, day).stat().st_size for day in DAYS[:2]]
    assert seal(root, "u1") == []
    assert sealed_days(root) == list(DAYS[:2])


@pytest.mark.parametrize("group_rows", [5, 1 << 20])
def test_sealed_rows_rejects_and_tallies_equal_those_of_the_log(root, monkeypatch, group_rows):
    monkeypatch.setattr(sealing, "GROUP_ROWS", group_rows)
    raw = load(root)
    raw.to_arrow()
    before = (raw.rejects, raw.segments.drop_columns("sealed"))
    seal(root, "u1")
    sealed = load(root)
    assert sealed.to_arrow().schema == EVENT_SCHEMA
    assert sealed.to_arrow().to_pylist() == raw.to_arrow().to_pylist()
    assert (sealed.rejects, sealed.segments.drop_columns("sealed")) == before


@pytest.mark.parametrize(
    "columns",
    [["op"], ["uid", "segment"], ["given", "content_key"], ["emotional_signature", "ts"], COLUMNS.names[::-1]],
)
def test_columns_and_rows_are_chosen_as_from_the_log(root, monkeypatch, columns):
    monkeypatch.setattr(sealing, "GROUP_ROWS", 3)
    noon = midnight(DAYS[1]) + 3 * HOUR
    choices = [
        {},
        {"since": noon},
        {"until": noon},
        {"since": noon, "until": noon + HOUR, "ops": "update"},
        {"ids": "m0-0"},
    ]
    raw = [load(root, columns=columns, **chosen).to_arrow().to_pylist() for chosen in choices]
    seal(root, "u1")
    assert [load(root, columns=columns, **chosen).to_arrow().to_pylist() for chosen in choices] == raw


def since_log(root: Path) -> Path:
    """Six days, long enough that ``since`` leaves segments out; frames alone."""
    log = LogBuilder("20250701")
    for number in range(6):
        log.frame([{"Delete": f"gone-{number}"}], day=f"2025070{number + 1}", time=midnight(f"2025070{number + 1}"))
    return log.write(root)


def test_a_load_that_starts_in_the_middle_uses_the_copy_of_its_first_segment(tmp_path):
    root, since = since_log(tmp_path / "u1"), midnight("20250704")
    raw = load(root, since=since)
    before = (raw.to_arrow().to_pylist(), raw.rejects, raw.segments.drop_columns("sealed"))
    seal(root, "u1")
    sealed = load(root, since=since)
    assert (sealed.to_arrow().to_pylist(), sealed.rejects, sealed.segments.drop_columns("sealed")) == before
    assert sealed_days(root, since=since) == ["20250702", "20250703", "20250704", "20250705"]


def test_a_load_that_starts_in_the_middle_refuses_a_copy_behind_another_frame(tmp_path):
    root, since = since_log(tmp_path / "u1"), midnight("20250704")
    seal(root, "u1")
    (root / "wal-20250701.log").write_bytes((root / "wal-20250706.log").read_bytes())
    assert "20250702" not in sealed_days(root, since=since)


def append(root: Path, day: str, data: bytes) -> None:
    with open(root / f"wal-{day}.log", "ab") as file:
        file.write(data)


def test_a_copy_is_refused_when_its_segment_has_grown(root):
    seal(root, "u1")
    append(root, DAYS[1], b'{"Delete":"late"}\n')
    assert sealed_days(root) == [DAYS[0]]
    assert "late" in load(root).to_arrow().column("id").to_pylist()
    assert [file.segment for file in seal(root, "u1")] == [DAYS[1]]


@pytest.mark.parametrize("place", [10, -10])
def test_a_copy_is_refused_when_head_or_tail_changed_under_the_same_size_and_time(root, place):
    seal(root, "u1")
    path = root / f"wal-{DAYS[0]}.log"
    status, data = path.stat(), bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert DAYS[0] not in sealed_days(root)


def test_a_copy_is_refused_when_the_time_stamp_changed(root):
    seal(root, "u1")
    os.utime(root / f"wal-{DAYS[0]}.log", ns=(1, 1))
    assert sealed_days(root) == [DAYS[1]]


def test_a_copy_is_refused_when_the_log_before_it_changed(tmp_path):
    log = LogBuilder("20250701")
    for day in ("20250701", "20250702", "20250703"):
        log.frame([{"Delete": f"gone-{day}"}], day=day)
    root = log.write(tmp_path / "u1")
    seal(root, "u1")
    (root / "wal-20250701.log").unlink()
    events = load(root)
    assert events.segments.column("sealed").to_pylist() == [False, False]
    assert events.rejects.column("class").to_pylist() == ["chain-gap"]


def test_a_newer_segment_taken_away_makes_the_newest_one_read_from_the_log(root):
    seal(root, "u1")
    (root / f"wal-{DAYS[2]}.log").unlink()
    assert sealed_days(root) == [DAYS[0]]


def test_a_damaged_page_is_an_error_that_says_what_to_delete(root):
    seal(root, "u1")
    path = sealed_path(root, DAYS[0])
    column = pq.read_metadata(path).row_group(0).column(0)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(StorageError, match="delete it"):
        load(root).to_arrow()


def test_no_bit_flip_in_a_copy_goes_unnoticed(tmp_path):
    log = LogBuilder("20250701")
    log.frame([{"Insert": {"id": "m1", "amplitude": 0.5, "content": "text"}}, {"Delete": "memory-1"}])
    log.frame([{"Delete": "memory-2"}], day="20250702")
    root = log.write(tmp_path / "u1")
    expected = load(root).to_arrow().to_pylist()
    seal(root, "u1")
    for path in (sealed_path(root, "20250701"), description_path(root, "20250701")):
        good = path.read_bytes()
        for place in range(0, len(good), 19):
            path.write_bytes(good[:place] + bytes([good[place] ^ 1 << place % 8]) + good[place + 1 :])
            with contextlib.suppress(StorageError):
                assert load(root).to_arrow().to_pylist() == expected, f"{path.name}: bit {place % 8} of byte {place}"
        path.write_bytes(good)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"nothing like Parquet", None])
def test_a_file_that_is_no_copy_is_not_used(root, data):
    path = sealed_path(root, DAYS[0])
    path.parent.mkdir()
    if data is None:
        pq.write_table(pa.table({"a": [1]}), path)
    else:
        path.write_bytes(data)
    assert sealed_days(root) == []
    assert len(seal(root, "u1")) == 2


def test_a_copy_without_its_description_or_with_another_one_is_not_used(root):
    seal(root, "u1")
    first, second = (description_path(root, day) for day in DAYS[:2])
    second.write_bytes(first.read_bytes())
    assert sealed_days(root) == [DAYS[0]]
    first.unlink()
    assert sealed_days(root) == []


def test_the_description_survives_packing_and_refuses_a_changed_byte(root):
    seal(root, "u1")
    description = read_description(description_path(root, DAYS[1]))
    assert unpack(pack(description)) == description
    assert description.part.tally.rejects == 2
    data = bytearray(pack(description))
    data[50] ^= 1
    with pytest.raises(ValueError, match="damaged"):
        unpack(bytes(data))


def as_version_1(path: Path) -> None:
    """What is said of a copy, in the words of the first version: it had no totals."""
    told = read_description(path)
    body = msgspec.msgpack.encode((1, *told[1:-1]))
    path.write_bytes(hashlib.sha256(body).digest() + body)


def as_another_version(path: Path) -> None:
    """The words of this version under another number."""
    path.write_bytes(pack(read_description(path)._replace(version=VERSION + 1)))


@pytest.mark.parametrize("rewrite", [as_version_1, as_another_version])
def test_copies_of_another_version_are_not_used_and_made_again(root, rewrite):
    expected = load(root).to_arrow().to_pylist()
    seal(root, "u1")
    for day in DAYS[:2]:
        rewrite(description_path(root, day))
    assert sealed_days(root) == []
    assert load(root).to_arrow().to_pylist() == expected
    assert [file.segment for file in seal(root, "u1")] == list(DAYS[:2])
    assert sealed_days(root) == list(DAYS[:2])


def test_a_description_stays_small_and_is_read_at_once(tmp_path):
    """A day of steady traffic: 24 hours, three ops, all fields."""
    build_store(tmp_path / "store", users=["ann"], days=2, events=4000, seed=5)
    root = tmp_path / "store" / "ann"
    days = [row.segment for row in seal(root, "ann")]
    for day in days:
        data = description_path(root, day).read_bytes()
        told = unpack(data)
        assert len(told.sizes.groups) > 24 * 8
        assert len(data) < 24 * 24 * 16 + 4096
    seconds = timeit.timeit(lambda: unpack(data), number=600)
    print(f"{seconds * 1000:.1f} ms for 600 days")
    assert seconds < 2


def test_the_segment_is_synced_before_its_copy_and_the_copy_before_its_name(root):
    files = RecordingFiles()
    seal(root, "u1", files=files)
    synced = [step.path.name for step in files.operations if step.name.startswith("sync")]
    assert synced[:2] == [f"wal-{DAYS[0]}.log", "u1"]
    assert synced[2].startswith(f".wal-{DAYS[0]}.parquet.")
    assert synced[3].startswith(f".wal-{DAYS[0]}.seal.")
    assert synced[4:6] == ["sealed", f"wal-{DAYS[1]}.log"]


@pytest.mark.parametrize("kind", ["write", "sync", "sync_directory", "mkdir", "open", "close", "rename"])
def test_a_failure_anywhere_leaves_no_half_copy_and_no_leftovers(tmp_path, kind):
    expected = load(mixed_log(tmp_path / "0")).to_arrow().drop_columns("uid").to_pylist()
    for nth in range(1, 30):
        root = mixed_log(tmp_path / str(nth))
        files = FailingFiles(kind=kind, nth=nth)
        with contextlib.suppress(StorageError):
            seal(root, "u1", files=files)
            assert files.hits == 0
            return
        assert not list(root.glob("sealed/.*"))
        assert load(root).to_arrow().drop_columns("uid").to_pylist() == expected


CRASHES = {
    "clean cut": {},
    "torn": {"keep_torn": True},
    "torn, holes, names by chance": {"keep_torn": True, "holes": True, "keep_names": True},
    "bytes there, names by chance": {"keep": "*", "keep_names": True},
}


def cut_points(tmp_path, crash, prepare=lambda root: None):
    """Cut the power at every step of a sealing in turn; yields the log after each cut, and its disk.

    Of the many writes of a Parquet file every tenth will do.
    """
    first = mixed_log(tmp_path / "0" / "u1")
    prepare(first)
    diary = RecordingFiles()
    seal(first, "u1", files=diary)
    names = [step.name for step in diary.operations if step.name != "close"]
    for point in [number for number, name in enumerate(names) if name != "write" or number % 10 == 0] + [len(names)]:
        root = mixed_log(tmp_path / str(point + 1) / "u1")
        prepare(root)
        disk = ForgetfulFiles()
        files = FailingFiles(disk, "any", point + 1, error=PowerCut(), forever=True)
        with contextlib.suppress(PowerCut):
            seal(root, "u1", files=files)
        assert bool(files.hits) == (point < len(names))
        disk.crash(root, rng=Random(point), **crash)
        yield root, disk


def damaged_pages(root):
    """A first segment whose copy must be made anew: a page of it is damaged."""
    seal(root, "u1")
    path = sealed_path(root, DAYS[0])
    data = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(0)
    data[column.data_page_offset + column.total_compressed_size - 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("crash", CRASHES)
def test_a_power_cut_at_any_operation_leaves_a_good_copy_or_none_that_is_used(tmp_path, crash):
    expected = load(mixed_log(tmp_path / "u1")).to_arrow().to_pylist()
    used = []
    for root, disk in cut_points(tmp_path, CRASHES[crash]):
        assert load(root).to_arrow().to_pylist() == expected
        used.append(len(sealed_days(root)))
        seal(root, "u1", files=disk)
        disk.crash(root)
        assert sealed_days(root) == list(DAYS[:2])
        assert load(root).to_arrow().to_pylist() == expected
    assert (used[0], used[-1], len(used) > 20) == (0, 2, True)


@pytest.mark.parametrize("crash", CRASHES)
def test_a_power_cut_while_a_damaged_copy_is_replaced_leaves_the_old_or_the_new_one(tmp_path, crash):
    expected = load(mixed_log(tmp_path / "u1")).to_arrow().to_pylist()
    outcomes = set()
    for root, _ in cut_points(tmp_path, CRASHES[crash], damaged_pages):
        try:
            assert load(root).to_arrow().to_pylist() == expected
            outcomes.add("good")
        except StorageError as error:
            assert "delete it" in error.hint
            outcomes.add("as damaged as before")
    assert outcomes == {"good", "as damaged as before"}


@pytest.mark.parametrize("skipped", ["sync", "sync_directory"])
def test_a_sealing_that_skips_a_sync_leaves_nothing_that_is_used(root, skipped):
    disk = ForgetfulFiles()
    files = WrappedFiles(disk)
    setattr(files, skipped, lambda _: None)
    assert len(seal(root, "u1", files=files)) == 2
    assert sealed_days(root) == list(DAYS[:2])
    disk.crash(root)
    assert sealed_days(root) == []


def test_a_segment_that_changes_while_it_is_sealed_is_left_alone(root, monkeypatch):
    states = [look_at_source(root / f"wal-{DAYS[0]}.log")._replace(mtime_ns=number) for number in range(4)]
    monkeypatch.setattr(sealing, "look_at_source", lambda path: states.pop())
    assert seal(root, "u1") == []
    assert os.listdir(root / "sealed") == []


def test_leftovers_of_a_killed_sealing_are_deleted_and_young_ones_stay(root):
    folder = root / "sealed"
    folder.mkdir()
    old, young = (folder / f".wal-{DAYS[0]}.parquet.{pid}.tmp" for pid in (1, 2))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    seal(root, "u1")
    assert (old.exists(), young.exists()) == (False, True)


def test_too_many_reject_bytes_are_not_sealed(root, monkeypatch):
    monkeypatch.setattr(sealing, "_MOST_RAW", 10)
    assert [file.segment for file in seal(root, "u1")] == [DAYS[0]]


def test_sealing_again_replaces_a_copy_whose_pages_are_damaged(tmp_path):
    build_store(tmp_path / "store", users=["ann"], days=3, events=300, seed=5)
    root = tmp_path / "store" / "ann"
    copies = {row.segment for row in seal(root, "ann")}
    day = min(copies)
    path = root / "sealed" / f"wal-{day}.parquet"
    data = bytearray(path.read_bytes())
    status = path.stat()
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert [row.segment for row in seal(root, "ann")] == [day]
    assert load_user(root, "ann", progress=False).to_arrow().num_rows == 300
    assert seal(root, "ann") == []
