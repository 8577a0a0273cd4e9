"""What a lookup says of a place is what a replay up to there comes to."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

import meshlab
from meshlab.events import encode_event
from meshlab.snapshot.state import json_forms
from meshlab.testing import LogBuilder, strategies
from meshlab.times import DAY, day_of, midnight
from meshlab.widgets.chapters import Chapters
from meshlab.widgets.lookup import CUT

LONG = "a content that is long enough to be kept apart, " * 8
MISFIT = b'{"Update":{"id":"m1","amplitude":"loud","theme":{"dark":true}}}'


def lengthened(event):
    """The same event with a content that is kept apart."""
    fields = json.loads(encode_event(event))
    for record in fields.values() if isinstance(fields, dict) else ():
        if isinstance(record, dict) and isinstance(record.get("content"), str):
            record["content"] += LONG
    return json.dumps(fields).encode()


entries = st.one_of(strategies.events(), strategies.events().map(lengthened), st.just(MISFIT))
histories = st.lists(st.lists(st.lists(entries, min_size=1, max_size=3), max_size=4), min_size=1, max_size=4)


def live_through(user, history, checkpoints):
    """A day of the log for every list of frames, and a checkpoint behind the days named."""
    log = LogBuilder("20250701")
    user.root.mkdir(parents=True)
    for number, frames in enumerate(history):
        day = day_of(midnight("20250701") + number * DAY)
        for frame in frames:
            log.frame(frame, day=day)
        if frames:
            (user.root / f"wal-{day}.log").write_bytes(log.bytes(day))
        if number in checkpoints:
            user.checkpoint(progress=False)


def records_at(stop):
    lookup = stop.chapter.lookup
    return {row["id"]: bits(row) for row in json_forms(lookup.records(lookup.latest(stop.place, 1 << 30), stop.place))}


def state_at(user, stop):
    return {id: bits(row) for id, row in whole(user, stop).items()}


def bits(row):
    """A record as comparable text, its content cut."""
    content = row.get("content")
    return repr(row | ({"content": content[:CUT]} if isinstance(content, str) else {}))


@settings(max_examples=20)
@given(histories, st.sets(st.integers(0, 3)), st.integers(0, 1 << 30))
def test_records_and_changes_at_any_places_are_those_of_a_replay(history, checkpoints, seed):
    with TemporaryDirectory() as folder:
        user = meshlab.open(folder)["ann"]
        live_through(user, history, checkpoints)
        stops = Chapters(user, progress=False)
        pick = Random(seed)
        chosen = [stops[pick.randrange(len(stops))] for _ in range(2)]
        for stop in chosen:
            found = records_at(stop)
            assert found == state_at(user, stop)
            assert len(found) == stop.chapter.lookup.live(stop.place)
        before, after = chosen
        lookup = before.chapter.lookup
        assert counts(lookup.changes(before.place, after.place)) == differences(user, before, after)


def counts(changes):
    return dict(zip(("added", "removed", "changed"), changes[:3], strict=True))


def differences(user, before, after):
    """The counts of a diff, also from before the first event, of which there is no moment."""
    ours, theirs = (whole(user, stop) for stop in (before, after))
    both = ours.keys() & theirs.keys()
    return {
        "added": len(theirs.keys() - both),
        "removed": len(ours.keys() - both),
        "changed": sum(repr(ours[id]) != repr(theirs[id]) for id in both),
    }


def whole(user, stop):
    """What a replay says lives at a stop."""
    if stop.moment is None:
        return {}
    return {row["id"]: row for row in user.state(stop.lsn or stop.moment, progress=False).to_pylist()}


def test_counts_of_changes_are_those_of_a_diff():
    user = meshlab.open(Path(__file__).parents[2] / "data" / "samples" / "store")["bela"]
    stops = Chapters(user, progress=False)
    for one, other in ((100, 300), (300, 100), (440, 448)):
        changes = stops[one].chapter.lookup.changes(one, other)
        assert counts(changes) == user.diff(stops[one].name, stops[other].name, progress=False).counts
        assert len(changes.codes) == sum(changes[:3])


def test_the_latest_are_those_whose_last_event_comes_last(tmp_path):
    user = meshlab.open(tmp_path)["ann"]
    live_through(user, [[[{"Insert": {"id": id}}] for id in "abcd"], [[{"Update": {"id": "b", "mode": "Dark"}}]]], {0})
    (chapter,) = Chapters(user, progress=False).chapters
    lookup = chapter.lookup
    assert lookup.records(lookup.latest(5, 3), 5)["id"].to_pylist() == ["b", "d", "c"]
    assert lookup.records(lookup.latest(2, 3), 2)["id"].to_pylist() == ["b", "a"]
    assert lookup.live(0) == 0


def test_a_life_holds_every_event_of_a_memory_and_of_no_other(tmp_path):
    user = meshlab.open(tmp_path)["ann"]
    live_through(user, [[[{"Insert": {"id": "a"}}, {"Insert": {"id": "b"}}], [{"Delete": "a"}]]], set())
    lookup = Chapters(user, progress=False)[0].chapter.lookup
    assert lookup.life("a")["op"].to_pylist() == ["insert", "delete"]
    assert lookup.life("never").num_rows == 0


def test_of_a_content_of_a_megabyte_only_the_beginning_is_kept(tmp_path):
    user = meshlab.open(tmp_path)["ann"]
    live_through(user, [[[{"Insert": {"id": "a", "content": "x" * 1_000_000}}]]], set())
    lookup = Chapters(user, progress=False)[1].chapter.lookup
    assert lookup._rows.nbytes + lookup._places.nbytes < 10_000
    assert lookup.records(lookup.latest(1, 1), 1)["content"].to_pylist() == ["x" * CUT]
