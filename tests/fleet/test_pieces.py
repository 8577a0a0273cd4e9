"""A log read in pieces is the log read in one go, whatever is in it."""

import shutil
from pathlib import Path

import pytest

import meshlab
from meshlab.fleet import fleet as front
from meshlab.fleet.fleet import Fleet
from meshlab.fleet.pieces import Reading, WrongGuess, joined
from meshlab.remote.bucket import MemoryBucket
from meshlab.testing.log import LogBuilder
from meshlab.timeline import deleted_segments
from meshlab.wal.chain import LONG_AGO, ORIGIN, Cursor
from scoreboard import sites

DAMAGED = Path(__file__).resolve().parents[2] / "data" / "samples" / "damaged"
DAYS = ("20250701", "20250702", "20250703", "20250704")


def late(builder):
    """A day with a time that the whole next day is earlier than, and no frame at its end."""
    builder.frame([{"Insert": {"id": "m1"}}], day=DAYS[0])
    builder.raw(b'{"timestamp":"2025-07-02T20:00:00Z","event":{"Delete":"m1"}}\n', day=DAYS[0])
    builder.frame([{"Insert": {"id": "m2"}}], day=DAYS[1])
    builder.frame([{"Insert": {"id": "m3"}}], day=DAYS[2])


def foreign(builder):
    """Days without any frame, between days with some."""
    builder.frame([{"Insert": {"id": "m1"}}, {"Insert": {"id": "m2"}}], day=DAYS[0])
    builder.raw(b'{"Delete":"m1"}\n\nno event\n', day=DAYS[1])
    builder.raw(b'{"Delete":"m2"}', day=DAYS[2])
    builder.frame([{"Insert": {"id": "m3"}}], day=DAYS[3])


def repeated(builder):
    """A segment that ends in a frame from long before: the end of it tells too low a seq."""
    first = builder.frame([{"Insert": {"id": "m1"}}], day=DAYS[0])
    for number in range(5):
        builder.frame([{"Insert": {"id": f"x{number}"}}], day=DAYS[1])
    builder.raw(first.data, day=DAYS[1])
    builder.frame([{"Insert": {"id": "m3"}}], day=DAYS[2])
    builder.raw(first.data, day=DAYS[3])


def torn(builder):
    """A torn end that no later day names, before a day that is empty."""
    builder.frame([{"Insert": {"id": "m1"}}], day=DAYS[0])
    frame = builder.frame([{"Insert": {"id": "m2"}}], day=DAYS[1])
    builder.raw(frame.data[:-10], day=DAYS[1])
    builder.raw(b"", day=DAYS[2])


MADE = {made.__name__: made for made in (late, foreign, repeated, torn)}


@pytest.fixture(params=sorted([*MADE, *(path.name for path in DAMAGED.iterdir() if path.is_dir()), "checkpoints"]))
def store(request, tmp_path):
    """A store of one user whose log is odd."""
    path, name = tmp_path / "odd", request.param
    if name in MADE:
        builder = LogBuilder()
        MADE[name](builder)
        builder.write(path / "ada")
    elif name == "checkpoints":
        site = sites.Site(path, MemoryBucket())
        for step in range(8):
            sites.grow(site, step)
        site.append(sites.insert("last"))
    else:
        shutil.copytree(DAMAGED / name, path)
    return meshlab.open(path)


def plain(table):
    return [{name: str(value) for name, value in row.items()} for row in table.to_pylist()]


def compare_with_one_go(store, cut):
    """The two ways to verify and to load, by figures and tables."""
    (uid,) = store.users()
    whole = store[uid].verify(progress=False)
    run = Fleet(store.path, 1, split=cut, progress=False).verify()
    assert run.failed.to_pylist() == []
    (row,) = run.to_pylist()
    assert [row[name] for name in ("segments", "bytes", "events", "damage", "last_seq")] == [
        len(whole.tallies), whole.bytes, whole.events, len(whole.damage), whole.end.seq
    ]  # fmt: skip
    assert run.table("segments").to_pylist() == [{"uid": uid, **tally._asdict()} for tally in whole.tallies]
    found = [(r["segment"], r["line"], r["offset"], r["nbytes"], r["class"], r["reason"], r["raw"])
             for r in run.table("rejects").to_pylist()]  # fmt: skip
    assert found == [tuple(reject) for reject in whole.rejects]
    events = store.events(progress=False)
    loaded = Fleet(store.path, 1, split=cut, progress=False).load()
    assert loaded.table("events").to_pylist() == events.to_arrow().to_pylist()
    assert loaded.table("rejects").to_pylist() == events.rejects.to_pylist()
    assert loaded.table("segments").to_pylist() == events.segments.to_pylist()
    return run


def test_pieces_make_the_whole(store):
    run = compare_with_one_go(store, 0)
    days = len(store.events(progress=False).segments)
    assert run.course.tasks == (days + 1 if days > 1 else 1)


def test_with_sealed_copies_too(store):
    (uid,) = store.users()
    if not deleted_segments(store[uid].root, uid):
        store[uid].seal()
    compare_with_one_go(store, 0)


@pytest.mark.parametrize("name", ["late", "repeated"])
def test_a_wrong_guess_that_nobody_checked_would_show(tmp_path, monkeypatch, name):
    """The twin: without the check of the seams the result is another."""

    def unchecked(readings):
        reads = [read for reading in readings for read in reading.reads]
        return Reading(readings[0].start, reads)

    builder = LogBuilder()
    MADE[name](builder)
    builder.write(tmp_path / "odd" / "ada")
    store = meshlab.open(tmp_path / "odd")
    compare_with_one_go(store, 0)
    monkeypatch.setattr(front, "joined", unchecked)
    with pytest.raises(AssertionError):
        compare_with_one_go(store, 0)


def made(path, make):
    """A store whose one user has a log made by hand."""
    builder = LogBuilder()
    make(builder)
    builder.write(path / "ada")
    return meshlab.open(path)


def test_a_later_run_takes_what_was_read_from_the_true_start_and_not_the_wrong_guess(tmp_path):
    store, out = made(tmp_path / "odd", late), tmp_path / "out"
    fleet = Fleet(store.path, 1, split=0, progress=False)
    first = fleet.load(out=out)
    told = {path.name: path.stat().st_mtime_ns for path in first.parts("events")}
    for _ in range(2):
        again = fleet.load(out=out)
        assert again.table("events").to_pylist() == store.events(progress=False).to_arrow().to_pylist()
        assert again.to_arrow().equals(first.to_arrow())
        assert {path.name: path.stat().st_mtime_ns for path in again.parts("events")} == told


def empty(builder):
    """A day with nothing in it between others, and one behind it."""
    builder.frame([{"Insert": {"id": "m1"}}], day=DAYS[0])
    builder.raw(b"", day=DAYS[1])
    builder.frame([{"Insert": {"id": "m2"}}], day=DAYS[2])
    builder.frame([{"Insert": {"id": "m3"}}], day=DAYS[3])


def test_an_empty_segment_in_a_bucket_tells_nothing_and_stops_nobody(tmp_path):
    store = made(tmp_path / "odd", empty)
    (tmp_path / "bucket").mkdir()
    store.remote(f"file://{tmp_path}/bucket").push(progress=False)
    there = Fleet(f"file://{tmp_path}/bucket", 1, split=0, scratch=tmp_path, progress=False).verify()
    here = Fleet(store.path, 1, split=0, progress=False).verify()
    assert there.failed.to_pylist() == [] and there.course.tasks == here.course.tasks > 3
    assert there.to_arrow().equals(here.to_arrow()) and there.table("segments").equals(here.table("segments"))


def test_a_piece_that_starts_elsewhere_is_told_with_the_true_start():
    first = Reading(ORIGIN, [])
    with pytest.raises(WrongGuess) as told:
        joined([first, Reading(Cursor(7, b"0" * 16, LONG_AGO), [])])
    assert (told.value.place, told.value.start) == (1, ORIGIN)
