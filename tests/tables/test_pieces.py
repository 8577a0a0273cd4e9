"""A log read piece by piece is the same log, and pieces are read in the order they are given."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlab.tables.events import load_user
from meshlab.tables.load import Piece
from meshlab.tables.seal import seal
from meshlab.testing import LogBuilder
from meshlab.times import midnight
from meshlab.wal.chain import ORIGIN, Cursor
from meshlab.wal.paths import segment_days, segment_name
from meshlab.wal.reader import resolve, scan_segment
from meshlab.wal.verify import verify

from .logs import DAYS, HOUR, mixed_log

BARE = b'{"Insert":{"id":"bare"}}\n'
LATE = b'{"timestamp":"2025-07-08T20:00:00Z","event":{"Delete":"m0-0"}}\n'

UNITS = st.one_of(
    st.integers(1, 3),  # a frame of so many lines
    st.sampled_from([BARE, LATE, b'{"odd":1}\n', b"\n", b" \r\n", b"no JSON\n", b'{"a":1}{"Delete":"x"}\n', bytes(5)]),
    st.sampled_from(["gap", "again", "half"]),
)


class Cuttable:
    """A log, and the places where it may be cut: behind lines and frames that are events."""

    def __init__(self, units: list[list[int | bytes | str]]) -> None:
        self.log = LogBuilder(DAYS[0])
        self.cuts: dict[str, set[int]] = {}
        for day, these in zip(DAYS, units, strict=False):
            self.log.raw(b"", day=day)
            for unit in these:
                self._add(unit)

    def _add(self, unit: int | bytes | str) -> None:
        if unit == "gap":
            self.log.seq += 2
        elif unit == "again":
            self.log.raw(self.log.frames[-1].data if self.log.frames else b"")
        elif unit == "half":
            self.log.raw(b'{"timestamp":"2025-07-07T00:00:00.000000Z","event":{"Del')
        elif isinstance(unit, bytes):
            self.log.raw(unit)
        else:
            self.log.frame([{"Delete": f"m{row}"} for row in range(int(unit))])
        data = self.log.bytes(self.log.day)
        if isinstance(unit, int) or unit in (BARE, LATE):
            line = data[:-1].rpartition(b"\n")[2] + b"\n"
            if isinstance(unit, int) or line == unit:
                self.cuts.setdefault(self.log.day, set()).add(len(data))

    def pieces(self, kept: float, draw) -> list[Piece]:
        pieces = []
        for day in self.log.days():
            data = self.log.bytes(day)
            ends = [cut for cut in sorted(self.cuts.get(day, ())) if draw(st.floats(0, 1)) < kept]
            starts = [0, *ends]
            stops = [*ends, None]
            pieces += [
                Piece(day, a, b, data[:a].count(b"\n") + 1) for a, b in zip(starts, stops, strict=True) if a != b
            ]
        return pieces


@given(st.lists(st.lists(UNITS, max_size=8), min_size=1, max_size=3), st.data())
@settings(max_examples=40, deadline=None)
def test_a_log_cut_into_pieces_loads_as_the_whole_one(units, data):
    cuttable = Cuttable(units)
    pieces = cuttable.pieces(data.draw(st.floats(0, 1)), data.draw)
    with TemporaryDirectory() as folder:
        root = cuttable.log.write(Path(folder) / "u1")
        whole = load_user(root, "u1", progress=False)
        cut = load_user(root, "u1", pieces, progress=False)
        assert cut.to_arrow().equals(whole.to_arrow())
        assert cut.rejects.equals(whole.rejects)
        assert cut.segments.equals(whole.segments)
        assert cut.end == whole.end


@pytest.fixture
def root(tmp_path):
    return mixed_log(tmp_path / "u1")


def rows(root, pieces=None, **chosen):
    return load_user(root, "u1", pieces, progress=False, **chosen).to_arrow().to_pylist()


def test_pieces_are_read_in_the_order_given_and_time_never_falls(root):
    first, path = DAYS[0], root / segment_name(DAYS[0])
    size, lines = path.stat().st_size, path.read_bytes().count(b"\n")
    path.write_bytes(path.read_bytes() + LATE)
    late = [Piece(first, 0, size), Piece(DAYS[1]), Piece(first, size, None, lines + 1), Piece(DAYS[2])]
    events = load_user(root, "u1", late, progress=False)
    table = events.to_arrow()
    moments = table["effective_ts"].to_pylist()
    assert moments == sorted(moments)
    told = [row for row in table.to_pylist() if row["segment"] == first and row["offset"] >= size]
    assert [(row["line"], row["offset"], row["op"]) for row in told] == [(lines + 1, size, "delete")]
    assert table["segment"].to_pylist().index(DAYS[2]) == table.to_pylist().index(told[0]) + 1
    assert events.segments["segment"].to_pylist() == list(DAYS)
    assert events.segments["bytes"].to_pylist() == [(root / segment_name(day)).stat().st_size for day in DAYS]


@pytest.mark.parametrize("since", [midnight(DAYS[1]) + 47 * HOUR, midnight(DAYS[2]) + 40 * HOUR])
def test_choosing_by_time_among_pieces_equals_choosing_late(root, since):
    path = root / segment_name(DAYS[0])
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + LATE)
    pieces = [Piece(DAYS[0], 0, size), Piece(DAYS[1]), Piece(DAYS[2]), Piece(DAYS[0], size)]
    whole = [row for row in rows(root, pieces) if row["effective_ts"].timestamp() * 1e6 >= since]
    assert rows(root, pieces, since=since) == whole


def test_the_cursor_goes_on_from_where_it_is_told_to_stand(root):
    whole = load_user(root, "u1", progress=False)
    before = load_user(root, "u1", [Piece(DAYS[0])], progress=False)
    after = load_user(root, "u1", [Piece(DAYS[1]), Piece(DAYS[2])], before.end, progress=False)
    assert before.to_arrow().to_pylist() + after.to_arrow().to_pylist() == whole.to_arrow().to_pylist()
    assert before.rejects.num_rows + after.rejects.num_rows == whole.rejects.num_rows
    assert after.end == whole.end
    assert after.parts[0].start == 0


def test_a_sealed_copy_stands_for_a_whole_segment_only(root):
    seal(root, "u1")
    path = root / segment_name(DAYS[0])
    size, cut = path.stat().st_size, path.read_bytes().index(b"\n", 0) + 1
    cut = path.read_bytes().index(b"\n", cut) + 1  # behind the first frame, of two lines
    parts = [Piece(DAYS[0], 0, cut), Piece(DAYS[0], cut, None, 3), Piece(DAYS[1])]
    events = load_user(root, "u1", parts, progress=False)
    assert events.segments["sealed"].to_pylist() == [False, True]
    events = load_user(root, "u1", [Piece(DAYS[0], 0, size), Piece(DAYS[1])], progress=False)
    assert events.segments["sealed"].to_pylist() == [True, True]


def test_only_the_end_of_the_newest_segment_can_be_open(tmp_path):
    log = LogBuilder("20250707")
    log.frame([{"Delete": "a"}])
    whole = len(log.bytes())
    log.raw(b'{"timestamp":"20')
    root = log.write(tmp_path / "u1")
    size = len(log.bytes())

    def open_tail(**place) -> int:
        scan = scan_segment(root, "20250707", newest=True, **place)
        list(scan)
        assert [reject.kind for reject in resolve([scan.part])] == ["torn"] * (scan.part.tally.rejects)
        return scan.part.tally.open_tail_bytes

    (root / "wal.lock").write_bytes(b"")
    with open(root / "wal.lock", "rb") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        assert open_tail() == size - whole
        assert open_tail(offset=whole, line=2) == size - whole
        assert open_tail(stop=whole) == 0
        assert open_tail(stop=size) == 0


def test_segments_deleted_on_purpose_leave_no_gap(tmp_path):
    log = LogBuilder("20250701")
    ends = {}
    for day in ("20250701", "20250702", "20250703", "20250704"):
        log.frame([{"Delete": "a"}], day=day)
        ends[day] = (log.seq, log.prev)
    root = log.write(tmp_path / "u1")
    gone = ("20250701", "20250703")
    for day in gone:
        (root / segment_name(day)).unlink()
    assert [reject.kind for reject in verify(root).rejects] == ["chain-gap", "chain-gap"]
    assert verify(root, gone={day: ends[day] for day in gone}).rejects == []
    pieces = [Piece("20250702", after=ends["20250701"]), Piece("20250704", after=ends["20250703"])]
    events = load_user(root, "u1", pieces, progress=False)
    assert events.rejects.num_rows == 0
    assert events.end[:2] == ends["20250704"]
    assert load_user(root, "u1", pieces, Cursor(9, *ORIGIN[1:]), progress=False).rejects.num_rows == 2
    assert segment_days(root) == ["20250702", "20250704"]
