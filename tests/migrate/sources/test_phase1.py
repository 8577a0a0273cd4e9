"""Phase-1 users: map and log give the state that a replay gives, and come back as a map."""

from __future__ import annotations

import math
import shutil
import tempfile
from contextlib import nullcontext

import pyarrow as pa
import pytest

from meshlab.errors import DamageFound, MeshlabError, SnapshotError
from meshlab.migrate.sources.source import find_sources
from meshlab.replay import replay
from meshlab.snapshot import window
from meshlab.snapshot.hashing import state_hash
from meshlab.snapshot.manifest import current
from meshlab.snapshot.ranges import rest

from .older import EXPECTED, PHASE1, built, changed, given_back, hashed, one, records, whole, write_lines, write_map

LONG = "a content that is kept apart from its record, " * 10


def user(tmp_path, *lines, held=(), uid="ada", day="20250707"):
    """A phase-1 user with one day of log and, if any records are given, a map."""
    root = tmp_path / "old" / uid
    if held:
        write_map(root / "snapshot.bin", *held)
    write_lines(root / f"wal-{day}.log", *lines)
    return root


@pytest.mark.parametrize("uid", sorted(EXPECTED))
def test_the_sample_users_have_the_expected_records(uid):
    source = one(PHASE1 / uid)
    assert records(source) == EXPECTED[uid]
    assert source.notes() == []


@pytest.mark.parametrize("uid", sorted(EXPECTED))
def test_the_sample_users_come_to_what_a_replay_says(uid):
    state = replay(PHASE1 / uid, uid, progress=False)
    assert hashed(one(PHASE1 / uid).batches(progress=False)) == state_hash(state.to_arrow()).hexdigest()


STORIES = {
    "nothing but a log": ([], [{"Insert": whole("m1")}, {"Insert": {"id": "m2"}}, {"Delete": "m1"}]),
    "a log that is empty": ([whole("m1"), whole("m2", content=LONG)], []),
    "changes, deletions, new ones": (
        [whole(f"m{n}", content=LONG + str(n % 3)) for n in range(9)],
        [
            {"Update": {"id": "m1", "amplitude": 0.5}},
            {"Update": {"id": "m2", "content": LONG + "anew"}},
            {"Delete": "m3"},
            {"Delete": {"id": "m4"}},
            {"Insert": whole("m4", content="short")},
            {"Insert": {"id": "n1", "content": LONG + "1", "theme": "dark"}},
            {"Update": {"id": "m5", "mode": 7}},
        ],
    ),
    "orphans and other events": ([whole("m1")], [{"Update": {"id": "m9", "mode": "Dark"}}, {"relation": ["a", "b"]}]),
}


@pytest.mark.parametrize("story", STORIES)
def test_map_and_log_come_to_what_a_replay_says(story, tmp_path, monkeypatch):
    monkeypatch.setattr(window, "WINDOW", 2000)  # a few records at a time
    held, lines = STORIES[story]
    root = user(tmp_path, *lines, held=held)
    source = one(root)
    assert hashed(source.batches(progress=False)) == state_hash(replay(root, "ada").to_arrow()).hexdigest()
    built(source, tmp_path / "store")


def test_contents_that_stay_and_contents_that_come_again(tmp_path, monkeypatch):
    monkeypatch.setattr(window, "WINDOW", 2000)
    held = [whole(f"m{n}", content=LONG + str(n)) for n in range(6)]
    lines = [
        {"Update": {"id": "m0", "content": LONG + "5"}},  # that of another
        {"Update": {"id": "m1", "content": LONG + "1"}},  # its own
        {"Update": {"id": "m2", "amplitude": 0.5}},
        {"Update": {"id": "m3", "content": LONG + "new"}},
        {"Update": {"id": "m3", "content": LONG + "3"}},
        {"Delete": "m4"},
        {"Insert": {"id": "m4"}},
        {"Insert": {"id": "m6", "content": LONG + "5"}},
        {"Insert": {"id": "m7", "content": "\0" + LONG}},
        {"Insert": {"id": "m8", "content": "\0"}},
    ]
    root = user(tmp_path, *lines, held=held)
    source = one(root)
    assert hashed(source.batches(progress=False)) == state_hash(replay(root, "ada").to_arrow()).hexdigest()


def test_memory_does_not_hold_the_long_contents_of_a_log(tmp_path):
    root = user(tmp_path, *({"Insert": {"id": f"m{n % 20}", "content": f"{n:09}" * 5000}} for n in range(800)))
    batches = one(root).batches(progress=False)
    before = pa.total_allocated_bytes()
    assert next(batches).num_rows == 20
    assert pa.total_allocated_bytes() - before < 8 << 20
    assert next(batches, None) is None


@pytest.mark.parametrize("ending", ["read to its end", "let go", "damaged"])
def test_the_temporary_file_goes(ending, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    root = user(tmp_path, {"Insert": {"id": "m1", "content": LONG}})
    if ending == "damaged":
        with open(root / "wal-20250707.log", "ab") as file:
            file.write(b"{]\n")
    batches = one(root).batches(progress=False)
    with pytest.raises(DamageFound) if ending == "damaged" else nullcontext():
        assert next(batches).num_rows == 1
        assert len(list(temporary.glob("meshlab-*/texts.arrow"))) == 1
        if ending == "read to its end":
            assert next(batches, None) is None
    batches.close()
    assert list(temporary.iterdir()) == []


def test_a_temporary_directory_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    source = one(user(tmp_path, {"Insert": {"id": "m1", "content": LONG}}))
    with pytest.raises(MeshlabError, match="nowhere"):
        list(source.batches(progress=False))


def test_orphans_other_events_and_floats_are_noted(tmp_path):
    held, lines = STORIES["orphans and other events"]
    notes = one(user(tmp_path, *lines, held=[*held, whole("m2", width=math.inf)])).notes()
    assert len(notes) == 3
    assert "m9 (wal-20250707.log:0)" in " ".join(notes) and "m2 width Infinity" in " ".join(notes)


def test_a_torn_tail_is_a_note(tmp_path):
    root = user(tmp_path, {"Insert": {"id": "m1"}})
    with open(root / "wal-20250707.log", "ab") as file:
        file.write(b'{"Insert":{"id":"m2"')
    source = one(root)
    assert list(records(source)) == ["m1"]
    (note,) = source.notes()
    assert note.startswith("wal-20250707.log:25 (line 2): torn") and "20 bytes left out" in note
    root = built(source, tmp_path / "store")
    assert rest(root, current(root, "ada")) == []
    assert (root / "wal-20250707.log").read_bytes() == b'{"Insert": {"id": "m1"}}\n'


def test_a_log_that_is_nothing_but_torn_is_a_user_without_memories(tmp_path):
    root = user(tmp_path)
    (root / "wal-20250707.log").write_bytes(b'{"Ins')
    (root / "wal-20250706.log").write_bytes(b"")
    (root / "wal-20250705.log").write_bytes(b'\n{"Ins')
    root = built(one(root), tmp_path / "store")
    assert rest(root, current(root, "ada")) == []


def test_damage_stops_until_it_is_accepted_by_name(tmp_path):
    root = user(tmp_path, {"Insert": {"id": "m1"}})
    with open(root / "wal-20250707.log", "ab") as file:
        file.write(b'{"Insert":{"id":"m2"\xff}}\n{"Insert":{"id":"m3"}}\n')
    with pytest.raises(DamageFound) as caught:
        list(one(root).batches(progress=False))
    assert f"{root}: 1 damaged place: wal-20250707.log:25 (line 2): not-utf8" in caught.value.message
    assert "--accept ada/wal-20250707.log:25" in caught.value.hint
    assert caught.value.places == ("wal-20250707.log:25",)

    source = one(root, accept={"ada": ["wal-20250707.log:25"]})
    assert list(records(source)) == ["m1", "m3"]
    assert "left out, as accepted" in source.notes()[0]
    built(source, tmp_path / "store")


def test_a_damaged_map_stops_a_user_at_once(tmp_path):
    root = user(tmp_path, held=[whole("m1")])
    data = (root / "snapshot.bin").read_bytes()
    (root / "snapshot.bin").write_bytes(data[:-3])
    (problem,) = find_sources(root).problems
    assert problem.where == str(root) and "snapshot.bin: byte" in problem.what


def test_a_map_damaged_behind_its_first_record_stops_the_reading(tmp_path):
    root = user(tmp_path, {"Insert": {"id": "m3"}}, held=[whole("m1"), whole("m2")])
    data = (root / "snapshot.bin").read_bytes()
    (root / "snapshot.bin").write_bytes(data.replace(b"m2", b"m9", 1))
    with pytest.raises(SnapshotError, match="expected the key to be the id 'm2'"):
        list(one(root).batches(progress=False))


@pytest.mark.parametrize("uid", sorted(EXPECTED)[:1])
def test_the_sample_comes_back_as_a_map_and_no_log(uid, tmp_path):
    source = one(PHASE1 / uid)
    root = built(source, tmp_path / "store")
    dead, kept = sorted(EXPECTED[uid])[:2]
    changed(root, {"Delete": dead}, {"Update": {"id": kept, "amplitude": 0.125}}, {"Insert": whole("new")})
    back, left = given_back(source, root, tmp_path / "back")
    assert left == []
    assert [path.name for path in back.paths] == ["snapshot.bin"]
    expected = EXPECTED[uid] | {"new": whole("new"), kept: EXPECTED[uid][kept] | {"amplitude": 0.125}}
    del expected[dead]
    assert records(back) == expected
    phase1 = tmp_path / "phase1"  # as a program of that time finds it
    shutil.copytree(tmp_path / "back", phase1)
    assert {record["id"]: record for record in replay(phase1, uid).to_pylist()} == expected


def test_other_events_of_all_times_are_left_over(tmp_path):
    source = one(user(tmp_path, {"Insert": whole("m1")}, {"relation": 1}, day="20250701"))
    root = built(source, tmp_path / "store")
    changed(root, {"relation": 2})
    _, left = given_back(source, root, tmp_path / "back")
    assert [one.json for one in left] == ['{"relation": 1}', '{"relation":2}']
    assert left[0].id.startswith("20250701:")


def test_the_old_log_stays_readable_in_the_new_layout(tmp_path):
    source = one(user(tmp_path, {"Insert": whole("m1")}, {"Delete": "m1"}, day="20250701"))
    root = built(source, tmp_path / "store")
    assert (root / "wal-20250701.log").read_bytes() == source.paths[0].read_bytes()
    assert replay(root, "ada", "20250701:0").to_pylist() == [whole("m1")]
    assert current(root, "ada").records == 0
