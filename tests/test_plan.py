"""Any moment of a log is restored exactly, or refused with the nearest that can be."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import meshlab
from meshlab.errors import NotRestorable, SnapshotError
from meshlab.replay import plan, replay, windows
from meshlab.snapshot.bincode import write_bincode
from meshlab.snapshot.fold import FOLD_COLUMNS, Fold
from meshlab.snapshot.manifest import HISTORY, LAYERS, Manifest, current, history_path
from meshlab.tables.events import load_user
from meshlab.tables.load import Piece
from meshlab.testing import LogBuilder
from meshlab.timeline import log_of
from meshlab.times import DAY, format_time, midnight
from meshlab.wal.paths import SNAPSHOT, segment_name

DAYS = ("20250701", "20250702", "20250703", "20250704", "20250705")
HOUR = DAY // 24
LATE = b'{"timestamp":"2025-07-01T01:00:00Z","event":{"Insert":{"id":"late-%d"}}}\n'


def at(day: str, hour: float = 0) -> int:
    return midnight(day) + int(hour * HOUR)


def moment(micros: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


class Story:
    """A user whose log grows day by day, with a checkpoint behind each day unless told otherwise."""

    def __init__(self, store: Path, checkpoints: tuple[str, ...] = DAYS) -> None:
        self.root = store / "ann"
        self.user = meshlab.open(store)["ann"]
        log = LogBuilder(DAYS[0])
        for day in DAYS:
            for hour in (3, 9, 15):
                events = [{"Insert": {"id": f"{day}-{hour}"}}, {"Update": {"id": f"{DAYS[0]}-3", "access_count": hour}}]
                log.frame(events, day=day, time=at(day, hour))
            self.root.mkdir(parents=True, exist_ok=True)
            (self.root / segment_name(day)).write_bytes(log.bytes(day))
            if day in checkpoints:
                self.user.checkpoint(progress=False)

    def state(self, when=None) -> list[dict]:
        return self.user.state(when, progress=False).to_pylist()

    def drop(self, day: str) -> None:
        (self.root / segment_name(day)).unlink()


@pytest.fixture
def story(tmp_path):
    return Story(tmp_path)


def plain(root: Path, when: int, order=None) -> list[dict]:
    """The state at a moment by folding the events up to it, with no snapshot."""
    fold = Fold()
    for batch in load_user(root, "ann", order, columns=FOLD_COLUMNS, until=when, progress=False).to_batches():
        fold.add(batch)
    table = fold.finish().state
    return meshlab.snapshot.state.State(
        "ann", table, orphans=None, rejects=None, segments=None, counts=None
    ).to_pylist()  # fmt: skip


def test_every_moment_is_that_of_a_plain_replay(story):
    for day in DAYS:
        for hour in (0, 3, 4, 9, 9.5, 15, 23):
            assert story.state(at(day, hour)) == plain(story.root, at(day, hour))


def test_a_moment_may_be_given_in_every_form(story):
    when = at(DAYS[2], 9)
    forms = [when, moment(when), format_time(when), f"{DAYS[2]}:{story.user.events().to_pylist()[15]['offset']}"]
    assert len({len(story.state(form)) for form in forms}) == 1
    assert len(story.state(when)) == 8


def test_a_place_counts_to_its_line_even_inside_a_frame_and_at_the_end_of_a_checkpoint(story):
    for number, row in enumerate(story.user.events(progress=False).to_pylist()):
        state = story.user.state(f"{row['segment']}:{row['offset']}", progress=False)
        assert len(state) == number // 2 + 1
        assert (state.get(f"{DAYS[0]}-3").get("access_count") is not None) == (number > 0)
    last = f"{DAYS[3]}:{story.user.events(progress=False).to_pylist()[23]['offset']}"
    assert plan(story.root, "ann", last).pieces == ()


def test_no_more_is_read_than_a_moment_needs(story):
    assert plan(story.root, "ann").pieces == ()
    there = plan(story.root, "ann", at(DAYS[2], 5))
    assert (there.start.generation, [piece.segment for piece in there.pieces]) == (2, [DAYS[2]])
    there = plan(story.root, "ann", at(DAYS[2], 15))
    assert (there.start.generation, there.pieces) == (3, ())


def test_one_window_spans_a_whole_log(story):
    (window,) = story.user.windows()
    assert window == (None, None, "the beginning of the log", (1, 2, 3, 4, 5), None, None)


def test_a_day_deleted_by_hand_is_a_hole_with_its_reason(story):
    story.drop(DAYS[2])
    reason = f"{segment_name(DAYS[2])} is missing"
    before, after = story.user.windows()
    assert (before.start, before.end, before.hole_after) == (None, moment(at(DAYS[2], 3) - 1), reason)
    assert (after.start, after.end, after.hole_before) == (moment(at(DAYS[2], 15)), None, reason)
    assert (before.generations, after.generations) == ((1, 2), (3, 4, 5))
    for hour in (3, 9, 14.9):
        with pytest.raises(NotRestorable, match=reason) as caught:
            story.state(at(DAYS[2], hour))
        assert format_time(at(DAYS[2], 3) - 1) in str(caught.value)
        assert format_time(at(DAYS[2], 15)) in str(caught.value)
    assert len(story.state(at(DAYS[2], 2))) == 6
    assert len(story.state(at(DAYS[2], 15))) == 9
    assert len(story.state()) == 15
    with pytest.raises(NotRestorable, match=reason):
        story.state(f"{DAYS[2]}:0")


def test_a_segment_cut_or_changed_behind_a_checkpoint_is_a_hole(story):
    path = story.root / segment_name(DAYS[1])
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    assert f"{path.name} has {len(data) - 10} bytes; {len(data)} were folded" == story.user.windows()[0].hole_after
    path.write_bytes(data[:-10] + b"x" * 10)
    before, after = story.user.windows()
    assert "differs" in before.hole_after
    assert after.end == moment(at(DAYS[4], 15))
    assert "differs" in after.hole_after
    with pytest.raises(NotRestorable, match="differs"):
        story.state()
    assert len(story.state(at(DAYS[4], 15))) == 15


def test_a_damaged_layer_takes_its_checkpoint_away_and_no_more(tmp_path):
    story = Story(tmp_path)
    manifest = current(story.root, "ann")
    (layer,) = {one.name for one in manifest.layers} - {
        one.name for one in _kept(story.root, 4).layers
    }  # that of checkpoint 5
    path = next((story.root / LAYERS).glob(f"{layer}*"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(SnapshotError, match="restorable are the moments from its beginning to now"):
        story.state()
    assert len(story.state(at(DAYS[4], 20))) == 15
    assert story.user.windows()[0].generations == (1, 2, 3, 4)
    path.unlink()
    story.drop(DAYS[4])
    (window,) = story.user.windows()
    assert window.end == moment(at(DAYS[4], 3) - 1)
    assert "missing" in window.hole_after


def _kept(root: Path, generation: int) -> Manifest:
    from meshlab.snapshot.manifest import read_manifest

    return read_manifest(history_path(root, generation), "ann")


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "newer"])
def test_a_bad_snapshot_leaves_what_the_others_and_the_log_give(story, damage):
    path = story.root / SNAPSHOT
    data = path.read_bytes()
    path.unlink()
    if damage != "gone":
        bad = {"cut": data[:-5], "flipped": data[:40] + b"?" + data[41:], "newer": data[:8] + b"\x09" + data[9:]}
        path.write_bytes(bad[damage])
    with pytest.raises(SnapshotError, match="restorable are the moments from its beginning to now"):
        story.state()
    assert story.user.windows()[0].generations == (1, 2, 3, 4)
    for day in DAYS:
        assert story.state(at(day, 10)) == plain(story.root, at(day, 10))


def test_without_earlier_checkpoints_moments_begin_with_the_one_in_force(story):
    story.drop(DAYS[0])
    shutil.rmtree(story.root / HISTORY)
    (window,) = story.user.windows()
    assert (window.start, window.end, window.source) == (moment(at(DAYS[4], 15)), None, "checkpoint 5")
    assert window.hole_before is not None
    with pytest.raises(NotRestorable, match=r"the nearest moments that can be: 2025-07-05T15:00:00.000000Z after it"):
        story.state(at(DAYS[0], 4))


def test_bytes_added_behind_a_fold_come_where_they_were_found(tmp_path):
    story = Story(tmp_path, checkpoints=DAYS[:3])
    size = (story.root / segment_name(DAYS[0])).stat().st_size
    with open(story.root / segment_name(DAYS[0]), "ab") as file:
        file.write(LATE % 1)
    assert "late-1" in {row["id"] for row in story.state()}
    assert "late-1" not in {row["id"] for row in story.state(at(DAYS[2], 14))}
    order = log_of(story.root, "ann").pieces
    assert [(piece.segment, piece.start) for piece in order] == [
        (DAYS[0], 0), (DAYS[1], 0), (DAYS[2], 0), (DAYS[0], size), (DAYS[3], 0), (DAYS[4], 0)
    ]  # fmt: skip
    for hour in (14, 15, 16, 30, 80):
        assert story.state(at(DAYS[2], hour)) == plain(story.root, at(DAYS[2], hour), order)
    before = story.user.events(progress=False).to_arrow()
    story.user.checkpoint(progress=False)
    assert story.user.events(progress=False).to_arrow().equals(before)
    assert story.state(at(DAYS[3], 4)) == plain(story.root, at(DAYS[3], 4), order)


def test_moments_before_a_phase_1_snapshot_are_refused_before_and_after_its_upgrade(tmp_path):
    story = Story(tmp_path, checkpoints=())
    since = at(DAYS[1], 4)
    record = {"id": "old", "last_accessed": format_time(since)}
    samples = Path(__file__).parent / "data" / "phase1-expected.json"
    whole = next(iter(next(iter(json.loads(samples.read_text()).values())).values()))
    (story.root / SNAPSHOT).write_bytes(write_bincode([whole | record]))
    for upgraded in (False, True):
        if upgraded:
            story.user.checkpoint(upgrade=True, progress=False)
        (window,) = story.user.windows()
        assert (window.start, window.end, window.source) == (moment(since), None, "the phase-1 snapshot")
        assert "phase-1 snapshot is of 2025-07-02T04" in window.hole_before
        with pytest.raises(NotRestorable, match=r"2025-07-02T04:00:00.000000Z after it"):
            story.state(since - 1)
        assert len(story.state(since)) == 1 + 4
        assert len(story.state(at(DAYS[3], 12))) == 1 + 11
        assert len(story.state()) == 1 + 15
        with pytest.raises(NotRestorable, match="older than the phase-1 snapshot"):
            story.state(f"{DAYS[0]}:0")


def test_an_empty_user_and_one_without_snapshots_are_restorable(tmp_path):
    (tmp_path / "ann").mkdir()
    assert windows(tmp_path / "ann", "ann")[0][:2] == (None, None)
    assert replay(tmp_path / "ann", "ann", at(DAYS[0]), progress=False).to_pylist() == []


def test_a_place_that_is_not_in_the_log_is_said_so(story):
    for place in (f"{DAYS[0]}:99999999", "20240101:0"):
        with pytest.raises(NotRestorable, match="there is no place"):
            story.state(place)


def test_a_reader_starts_over_when_a_vacuum_took_its_files(story, monkeypatch):
    real, calls = meshlab.replay.follow, []

    def follow(root, uid, plan, **rest):
        calls.append(plan)
        if len(calls) == 1:
            story.user.checkpoint(retain=3, progress=False)
            raise meshlab.errors.NotFound("a layer has gone")
        return real(root, uid, plan, **rest)

    monkeypatch.setattr(meshlab.replay, "follow", follow)
    assert len(story.state()) == 15
    assert len(calls) == 2


OPS = st.one_of(
    st.tuples(st.just("frame"), st.integers(0, 4), st.integers(1, 3), st.integers(0, 30)),
    st.tuples(st.just("bare"), st.integers(0, 4), st.integers(0, 4)),
    st.tuples(st.just("late"), st.integers(0, 4), st.integers(0, 4)),
    st.tuples(st.just("checkpoint")),
    st.tuples(st.just("checkpoint")),
    st.tuples(st.just("next day")),
    st.tuples(st.just("vacuum")),
    st.tuples(st.just("drop"), st.integers(0, 4)),
)


class History:
    """A random history in a store, and beside it all bytes there ever were, in log order."""

    def __init__(self, folder: Path) -> None:
        self.user = meshlab.open(folder / "store")["ann"]
        self.root, self.shadow = folder / "store" / "ann", folder / "shadow"
        for root in (self.root, self.shadow):
            root.mkdir(parents=True)
        self.log, self.day = LogBuilder(DAYS[0]), 0
        self.written: dict[str, int] = {}
        self.folded: dict[str, int] = {}
        self.order: list[Piece] = []

    def run(self, op: str, *rest: int) -> None:
        getattr(self, op.replace(" ", "_"))(*rest)
        for day in self.log.days():
            data, size = self.log.bytes(day), self.written.get(day, 0)
            if len(data) > size:
                for root in (self.root, self.shadow):
                    with open(root / segment_name(day), "ab") as file:
                        file.write(data[size:])
                self.written[day] = len(data)

    def frame(self, who: int, count: int, hour: int) -> None:
        day = DAYS[self.day]
        update = {"Update": {"id": f"m{who}", "access_count": hour}}
        self.log.frame([update, *({"Insert": {"id": f"m{n}"}} for n in range(count))], day=day, time=at(day, hour))

    def bare(self, who: int, count: int) -> None:
        self.log.raw(b'{"Insert":{"id":"m%d","access_count":%d}}\n' % (who, count), day=DAYS[self.day])

    def late(self, number: int, day: int) -> None:
        days = [name for name in self.log.days() if (self.root / segment_name(name)).exists()]
        if days:
            self.log.raw(LATE % number, day=days[min(day, len(days) - 1)])
            self.log.day = self.log.days()[-1]

    def checkpoint(self) -> None:
        with suppress(SnapshotError):
            self.user.checkpoint(retain=1, progress=False)
            self.order += self.rest()
            self.folded = dict(self.written)

    def rest(self) -> list[Piece]:
        ends = {day: self.folded.get(day, 0) for day in self.written}
        return [Piece(day, ends[day], size) for day, size in sorted(self.written.items()) if size > ends[day]]

    def next_day(self) -> None:
        self.day = min(self.day + 1, len(DAYS) - 1)

    def vacuum(self) -> None:
        self.user.vacuum(apply=True)

    def drop(self, day: int) -> None:
        """Delete a folded segment that is not the newest by hand."""
        name = DAYS[day]
        if name != max(self.written, default=name) and self.folded.get(name, -1) == self.written.get(name):
            (self.root / segment_name(name)).unlink(missing_ok=True)

    def expected(self, when: int) -> list[dict]:
        return plain(self.shadow, when, self.order + self.rest())

    def moments(self) -> list[int]:
        events = load_user(self.shadow, "ann", self.order + self.rest(), columns=["effective_ts"], progress=False)
        return sorted(set(events.to_arrow()["effective_ts"].cast("int64").to_pylist()))


@given(st.lists(OPS, min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_any_moment_of_any_history_is_restored_exactly_or_lies_in_a_hole(ops):
    with TemporaryDirectory() as folder:
        history = History(Path(folder))
        for op in ops:
            history.run(*op)
        windows = history.user.windows()
        assert windows[-1].end is None
        for when in {near for one in history.moments() for near in (one - 1, one)}:
            if any(covers(window, when) for window in windows):
                assert history.user.state(when, progress=False).to_pylist() == history.expected(when)
            else:
                with pytest.raises(NotRestorable):
                    history.user.state(when, progress=False)
        assert history.user.state(progress=False).to_pylist() == history.expected(1 << 60)
        gaps = {reject.segment for reject in history.user.verify(progress=False).damage}
        assert gaps <= {day for day in DAYS if any(DAYS[row[1]] < day for row in ops if row[0] == "drop")}


def covers(window, when: int) -> bool:
    start = -(1 << 63) if window.start is None else micros_of(window.start)
    return start <= when and (window.end is None or when <= micros_of(window.end))


def micros_of(when: datetime) -> int:
    return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def test_what_vacuum_deleted_is_no_gap_and_a_new_file_of_its_name_is_read_from_its_start(story):
    whole = story.user.events(progress=False).to_arrow()
    story.user.checkpoint(retain=1, progress=False)
    story.user.vacuum(apply=True)
    left = story.user.events(progress=False)
    assert sorted(path.name for path in story.root.glob("wal-*.log")) == [segment_name(DAYS[4])]
    assert left.to_arrow().to_pylist() == whole.slice(24).to_pylist()
    assert left.rejects.num_rows == story.user.stats(progress=False)["damage"] == 0
    assert story.user.verify(progress=False).damage == []
    window = story.user.windows()[-1]
    assert (window.start, window.end) == (moment(at(DAYS[3], 15)), None)
    assert window.hole_before == f"{segment_name(DAYS[3])} was deleted by vacuum"
    with pytest.raises(NotRestorable, match="deleted by vacuum"):
        story.state(at(DAYS[3], 10))
    (story.root / segment_name(DAYS[0])).write_bytes(LATE % 1)
    assert [piece[:2] for piece in log_of(story.root, "ann").pieces] == [(DAYS[4], 0), (DAYS[0], 0)]
    assert "late-1" in {row["id"] for row in story.state()}
    story.user.checkpoint(progress=False)
    assert "late-1" in {row["id"] for row in story.state()}
    assert "late-1" not in {row["id"] for row in story.state(at(DAYS[4], 14))}
    assert story.user.verify(progress=False).damage == []
