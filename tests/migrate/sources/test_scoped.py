"""Scoped logs: the order of their files, what entries mean, and what comes back."""

from __future__ import annotations

import gzip
import json
import math
import tracemalloc

import pytest

from meshlab.errors import DamageFound, MeshlabError
from meshlab.migrate.sources import scoped as module
from meshlab.migrate.sources.entries import Entries
from meshlab.migrate.sources.folded import live_records
from meshlab.migrate.sources.notes import Notes
from meshlab.migrate.sources.source import find_sources
from meshlab.replay import replay
from meshlab.store import open as open_store
from meshlab.times import midnight

from .older import NOON, SAMPLES, built, changed, entry, given_back, hashed, one, records, write_checkpoint, write_lines

SEA = {"name": "sea", "description": "salt", "category": "place", "importance": 0.5, "embedding": None, "metadata": {}}


def log(tmp_path, *entries, name="ada.wal"):
    write_lines(tmp_path / "old" / name, *entries)
    return tmp_path / "old"


def of(tmp_path, *entries):
    return one(log(tmp_path, *entries))


# What entries mean


def test_a_concept_becomes_a_memory(tmp_path):
    source = of(tmp_path, entry(1, "add_concept", SEA))
    assert records(source) == {
        "sea": {
            "id": "sea",
            "concept_id": "sea",
            "content": "salt",
            "name": "sea",
            "category": "place",
            "importance": 0.5,
            "embedding": None,
            "metadata": {},
        }
    }
    assert source.notes() == []


@pytest.mark.parametrize(
    ("data", "record"),
    [
        ({"id": "a", "name": "n"}, {"id": "a", "concept_id": "a", "name": "n"}),
        ({"concept_id": "a", "name": "n"}, {"id": "a", "concept_id": "a", "name": "n"}),
        ({"id": "a", "concept_id": "b"}, {"id": "a", "concept_id": "b"}),
        ({"id": None, "name": "n"}, {"id": "n", "concept_id": "n", "name": "n"}),
        ({"id": "a", "concept_id": None}, {"id": "a"}),
        (
            {"id": "a", "description": "d", "content": "c"},
            {"id": "a", "concept_id": "a", "content": "c", "description": "d"},
        ),
        ({"id": "a", "description": "d", "content": None}, {"id": "a", "concept_id": "a", "description": "d"}),
        ({"id": "a", "description": 5}, {"id": "a", "concept_id": "a", "description": 5}),
        (
            {"id": "a", "amplitude": 0.5, "mode": "Dark"},
            {"id": "a", "concept_id": "a", "amplitude": 0.5, "mode": "Dark"},
        ),
        ({"id": "a", "position": [1, 2]}, {"id": "a", "concept_id": "a", "concept.position": [1, 2]}),
    ],
)
def test_fields_of_a_concept(data, record, tmp_path):
    source = of(tmp_path, entry(1, "add_concept", data))
    assert records(source) == {record["id"]: record}
    built(source, tmp_path / "store")


@pytest.mark.parametrize(
    "change",
    [
        {"id": "sea", "updates": {"description": "waves", "importance": 1}},
        {"concept_id": "sea", "updates": {"description": "waves", "importance": 1, "id": "x"}},
        {"id": "sea", "description": "waves", "importance": 1},
        {"concept_id": "sea", "description": "waves", "importance": 1},
    ],
)
def test_updates_nested_or_flat(change, tmp_path):
    source = of(tmp_path, entry(1, "add_concept", SEA), entry(2, "update_concept", change))
    found = records(source)["sea"]
    assert (found["content"], found["importance"], found["category"], found["concept_id"]) == (
        "waves",
        1,
        "place",
        "sea",
    )


def test_a_second_add_by_name_is_ignored_and_one_by_id_counts(tmp_path):
    again = [entry(3, "add_concept", {"name": "sea", "x": 1}), entry(4, "add_concept", {"id": "c", "x": 1})]
    source = of(tmp_path, entry(1, "add_concept", SEA), entry(2, "add_concept", {"id": "c", "y": 1}), *again)
    assert "x" not in records(source)["sea"]
    assert records(source)["c"] == {"id": "c", "concept_id": "c", "x": 1}
    kept, ignored = source.notes()
    assert kept.startswith("1 operation is kept as an event")
    assert ignored.endswith(": 1 (sea (ada.wal:330))")


def test_a_removed_concept_can_come_again(tmp_path):
    story = [entry(1, "add_concept", SEA), entry(2, "remove_concept", {"concept_id": "sea"})]
    assert records(of(tmp_path, *story)) == {}
    assert records(of(tmp_path, *story, entry(3, "add_concept", {"name": "sea"})))["sea"] == {
        "id": "sea",
        "concept_id": "sea",
        "name": "sea",
    }


def test_relations_and_unknown_operations_become_other_events(tmp_path):
    source = of(tmp_path, entry(1, "add_relation", {"source": "a"}), entry(2, "compact", [1]))
    root = built(source, tmp_path / "store")
    raw = [event["raw"] for event in open_store(root.parent)["ada"].events()]
    assert raw == ['{"operation":"add_relation","data":{"source":"a"}}', '{"operation":"compact","data":[1]}']


def test_operations_about_unknown_ids_are_noted(tmp_path):
    source = of(tmp_path, entry(1, "update_concept", {"concept_id": "concept_7", "updates": {"x": 1}}))
    assert source.notes()[0].endswith(": 1 (concept_7 (ada.wal:0))")


def test_floats_that_are_not_finite_become_texts(tmp_path):
    source = of(
        tmp_path, entry(1, "add_concept", {"id": "a", "embedding": [math.nan, -math.inf], "amplitude": math.inf})
    )
    assert records(source)["a"] == {
        "id": "a",
        "concept_id": "a",
        "embedding": ["NaN", "-Infinity"],
        "concept.amplitude": "Infinity",
    }
    assert any("tokens of Python" in note for note in source.notes())
    assert any("amplitude of a (ada.wal:0)" in note for note in source.notes())


def test_checksums_nobody_knows_are_noted(tmp_path):
    assert "ada.wal:0" in of(tmp_path, entry(1, "add_concept", SEA, checksum="abc")).notes()[0]


# Which entries, in which order


def test_rotated_files_come_by_their_times(tmp_path):
    log(tmp_path, entry(1, "add_concept", {"id": "a", "n": 1}), name="ada.wal.999")
    log(tmp_path, entry(2, "add_concept", {"id": "a", "n": 2}), name="ada.wal.1000")
    assert records(of(tmp_path, entry(3, "update_concept", {"id": "a", "m": 3})))["a"]["n"] == 2


@pytest.mark.parametrize("name", ["ada.checkpoint", "ada.checkpoint.gz"])
def test_entries_of_a_checkpoint_count_where_they_stand_nowhere_else(name, tmp_path):
    lost, known = entry(2, "add_concept", {"id": "lost"}), entry(1, "add_concept", {"id": "known", "x": math.nan})
    log(tmp_path, known, name="ada.wal.999")
    folder = log(tmp_path, entry(3, "remove_concept", {"id": "known"}))
    write_checkpoint(folder / name, known, lost)
    source = one(folder)
    assert list(records(source)) == ["lost"]
    assert any(note.startswith("1 entries stand in a checkpoint only") for note in source.notes())


def test_a_log_that_was_not_set_aside_after_its_checkpoint_is_not_read_twice(tmp_path):
    entries = [entry(1, "update_concept", {"id": "a", "x": 1}), entry(2, "add_concept", {"id": "a"})]
    folder = log(tmp_path, *entries)
    write_checkpoint(folder / "ada.checkpoint", *entries)
    assert records(one(folder)) == {"a": {"id": "a", "concept_id": "a"}}


def test_history_that_begins_late_is_noted(tmp_path):
    assert of(tmp_path, entry(5, "add_concept", SEA)).notes() == [
        "the history begins late: the first entry has the sequence 5"
    ]


def test_a_torn_last_line_of_the_current_file_is_a_note(tmp_path):
    folder = log(tmp_path, entry(1, "add_concept", {"id": "a"}))
    with open(folder / "ada.wal", "a") as file:
        file.write('{"sequence": 2, "time')
    source = one(folder)
    assert list(records(source)) == ["a"]
    assert source.notes() == ["ada.wal:110 (line 2): an unfinished write of 21 bytes, left out"]


def test_a_last_line_without_its_newline_counts(tmp_path):
    folder = log(tmp_path, entry(1, "add_concept", {"id": "a"}), entry(2, "add_concept", {"id": "b"}))
    (folder / "ada.wal").write_bytes((folder / "ada.wal").read_bytes()[:-1])
    assert list(records(one(folder))) == ["a", "b"]


# Damage


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{not json}", "expected an entry"),
        (b'{"sequence": 1}', "expected an entry"),
        (b'{"sequence":"1","timestamp":1,"operation":"x","data":{}}', "Expected `int`"),
        (b'{"sequence":1,"timestamp":1,"operation":"x","data":{},"more":1}', "more"),
        (b'{"sequence":1,"timestamp":1,"operation":"x","data":"\xff"}', "expected an entry"),
        (json.dumps(entry(2, "add_concept", {"description": "d"})).encode(), "expected a concept with an id"),
        (json.dumps(entry(2, "add_concept", {"id": 7})).encode(), "expected a text as id of a concept, found '7'"),
        (json.dumps(entry(2, "add_concept", [1])).encode(), "expected the fields of a concept, found list"),
        (json.dumps(entry(2, "remove_concept", {})).encode(), "expected a concept with an id"),
        (b'{"sequence":1,"timestamp":1,"operation":"x","data":' + b"[" * 300 + b"]" * 300 + b"}", "nested deeper"),
    ],
)
def test_bad_lines_are_damage_with_file_line_and_offset(line, told, tmp_path):
    folder = log(tmp_path, entry(1, "add_concept", {"id": "a"}))
    with open(folder / "ada.wal", "ab") as file:
        file.write(line + b"\n" + json.dumps(entry(3, "add_concept", {"id": "b"})).encode() + b"\n")
    with pytest.raises(DamageFound) as caught:
        list(one(folder).batches(progress=False))
    assert f"{folder / 'ada.wal'}: byte 110, line 2: " in caught.value.message
    assert told in caught.value.message


def test_a_bad_line_can_be_accepted_by_name(tmp_path):
    folder = log(tmp_path, entry(1, "add_concept", {"id": "a"}))
    with open(folder / "ada.wal", "ab") as file:
        file.write(b"\0\0\0\n" + json.dumps(entry(3, "add_concept", {"id": "b"})).encode() + b"\n")
    with pytest.raises(DamageFound) as caught:
        one(folder).notes()
    assert "--accept ada/ada.wal:110" in caught.value.hint
    source = one(folder, accept={"ada": ["ada.wal:110"]})
    assert list(records(source)) == ["a", "b"]
    assert "left out, as accepted" in source.notes()[0]
    root = built(source, tmp_path / "store")
    back, _ = given_back(source, root, tmp_path / "back")
    assert list(records(back)) == ["a", "b"]


def test_a_line_longer_than_a_frame_is_damage(tmp_path, monkeypatch):
    monkeypatch.setattr("meshlab.migrate.sources.entries.LONGEST", 200)
    folder = log(tmp_path, entry(1, "add_concept", {"id": "a"}), entry(2, "x", "y" * 999), entry(3, "add_concept", SEA))
    with pytest.raises(DamageFound, match="byte 110, line 2: expected an entry, found: longer than 200 bytes"):
        one(folder).notes()
    with pytest.raises(DamageFound, match="line 3: expected an entry, found: longer"):
        one(folder, accept={"ada": ["ada.wal:110"]}).notes()


@pytest.mark.parametrize("data", [b"\x1f\x8bgarbage", b"{}", b"[", b""])
def test_a_damaged_checkpoint_is_named(data, tmp_path):
    folder = log(tmp_path, entry(1, "add_concept", {"id": "a"}))
    (folder / "ada.checkpoint.gz").write_bytes(data)
    with pytest.raises(DamageFound, match=r"ada\.checkpoint\.gz: byte 0, expected a checkpoint"):
        one(folder).notes()
    assert list(records(one(folder, accept={"ada": ["ada.checkpoint.gz:0"]}))) == ["a"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"entries":[{"sequence":1}]}', "required field `timestamp`"),
        ('{"entries":[1]}', "Expected `object`"),
        ('{"entries":{}}', "expected a list under 'entries'"),
        ('{"entries":[]', "expected '}'"),
        ('{"entries":[],}', "expected a value"),
        ('{"entries":[]]', "expected '}'"),
        ('{"entries":[] 1}', "expected '}'"),
        ('{"entries":[],"entries":[]}', "expected"),
        ('{"entries":[]}x', "expected the end of the file"),
        ('{"scope":nan,"entries":[]}', "JSON is malformed"),
        ('{"scope":"us', "the end of the file: it is cut"),
        ('{"scope":"user","entries":[5', "the end of the file: it is cut"),
        ("[]", "expected a JSON object"),
        ("{" + '"a":1,' * 100 + '"entries":[]}', "at most 64 members"),
    ],
)
@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_what_is_no_checkpoint_is_told(text, told, pack, tmp_path):
    folder = log(tmp_path, entry(1, "add_concept", {"id": "a"}))
    (folder / "ada.checkpoint.gz").write_bytes(pack(text.encode()))
    with pytest.raises(DamageFound) as caught:
        one(folder).notes()
    assert caught.value.message.startswith(f"{folder / 'ada.checkpoint.gz'}: byte 0, expected a checkpoint of a")
    assert told in caught.value.message
    assert list(records(one(folder, accept={"ada": ["ada.checkpoint.gz:0"]}))) == ["a"]


def test_entries_before_the_damage_of_a_checkpoint_do_not_count_either(tmp_path):
    folder = log(tmp_path, entry(2, "add_concept", {"id": "a"}))
    written = json.dumps({"scope": "user", "entries": [entry(1, "add_concept", {"id": "lost"}), 5]})
    (folder / "ada.checkpoint").write_text(written)
    assert list(records(one(folder, accept={"ada": ["ada.checkpoint:0"]}))) == ["a"]


def test_what_two_checkpoints_hold_counts_once(tmp_path):
    entries = [entry(1, "add_concept", {"id": "a"}), entry(2, "remove_concept", {"id": "a"})]
    folder = log(tmp_path)
    for name in ("ada.checkpoint", "ada.checkpoint.gz"):
        write_checkpoint(folder / name, *entries)
    (folder / "ada.wal").write_text("")
    assert [held.sequence for held in Entries("ada", list(folder.iterdir()), ())] == [1, 2]


def test_a_checkpoint_that_unpacks_to_very_much_is_read_in_little_memory(tmp_path):
    held = json.dumps(entry(1, "x", {"id": "a"})).encode()
    (tmp_path / "ada.checkpoint.gz").write_bytes(gzip.compress(b'{"entries":[' + held + (b"," + held) * 40_000 + b"]}"))
    tracemalloc.start()
    try:
        found = list(Entries("ada", [tmp_path / "ada.checkpoint.gz"], ()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found) == 1
    assert peak < 12 << 20


def test_an_entry_of_very_many_values_is_damage(tmp_path, monkeypatch):
    monkeypatch.setattr("meshlab.migrate.sources.entries.VALUES", 100)
    folder = log(tmp_path, entry(1, "add_concept", {"id": "a", "content": '[,{"' * 100}))
    assert list(records(one(folder))) == ["a"]
    write_checkpoint(folder / "ada.checkpoint.gz", entry(2, "x", [[]] * 100))
    with pytest.raises(DamageFound, match=r"ada\.checkpoint\.gz: byte 0.* more than 100 values"):
        one(folder).notes()
    log(tmp_path, entry(1, "x", [[]] * 100))
    with pytest.raises(DamageFound, match=r"line 1: .* more than 100 values"):
        one(folder, accept={"ada": ["ada.checkpoint.gz:0"]}).notes()


def test_a_checkpoint_that_unpacks_to_too_much_is_damage(tmp_path, monkeypatch):
    monkeypatch.setattr("meshlab.migrate.sources.entries.MOST", 1000)
    folder = log(tmp_path, entry(1, "add_concept", {"id": "a"}))
    write_checkpoint(folder / "ada.checkpoint.gz", *[entry(2, "x", 0)] * 20)
    with pytest.raises(DamageFound, match=r"ada\.checkpoint\.gz: byte 0.* more than 1000 bytes when unpacked"):
        one(folder).notes()


FORMS = {
    "sequence": "1",
    "timestamp": "1751875200.5",
    "operation": '"add_concept"',
    "data": '{"id":"m9"}',
    "checksum": "null",
}
HUGE = "9" * 400
ODD = [
    *("null", "true", '""', '"text"', "[]", "{}", "-1", "0.5", "-0.0", "1e308", "1e999", HUGE, f"-{HUGE}", "9" * 5000),
    *(
        "NaN",
        "-Infinity",
        '"\\ud800"',
        '"\\udc00\\ud800"',
        '"\\u0000"',
        '"\x7f"',
        "18446744073709551616",
        "[" * 200 + "]" * 200,
    ),
    *("[" * 5000 + "]" * 5000, '{"":{}}', '{"a":1,"a":2}', '[NaN,"NaN",{"id":Infinity}]', "01", "'", '"\\', "\ufeff1"),
]
ODDEST = ["null", "0.5", HUGE, "NaN", '"text"', '"\\ud800"', "[[{}]]", '{"a":1,"a":2}']
CONCEPTS = ["id", "concept_id", "name", "updates", "description", "content", "access_count", "mode", "creation_time"]
CONCEPTS += ["amplitude", "comfort_metrics", "emotional_signature"]


def hostile_lines():
    yield from ("", "{}", "[]", "null", "{", '"', "\0", "NaN", "[" * 100_000, '{"a":' * 1000 + "1" + "}" * 1000)
    for name in FORMS:
        for odd in ODD:
            yield "{" + ",".join(f'"{key}":{value}' for key, value in (FORMS | {name: odd}).items()) + "}"
        for odd in ODDEST:  # a name twice
            yield "{" + ",".join(f'"{key}":{value}' for key, value in (*FORMS.items(), (name, odd))) + "}"
    for name in CONCEPTS:
        for odd in ODDEST:
            for operation, data in (("add", f'"{name}":{odd}'), ("update", f'"updates":{{"{name}":{odd}}}')):
                yield f'{{"sequence":2,"timestamp":1,"operation":"{operation}_concept","data":{{"id":"a",{data}}}}}'


def test_no_line_whatever_it_says_ends_in_anything_but_an_error_of_the_house(tmp_path):
    folder = log(tmp_path, entry(1, "add_concept", {"id": "a"}))
    first = (folder / "ada.wal").read_bytes()
    source, outcomes = one(folder), {True: 0, False: 0}
    for line in hostile_lines():
        (folder / "ada.wal").write_bytes(first + line.encode("utf-8", "surrogatepass") + b"\n")
        try:
            outcomes[bool(records(source))] += 1
        except MeshlabError:
            outcomes[False] += 1
    assert min(outcomes.values()) > 50


def test_a_time_beyond_all_floats_is_no_time(tmp_path):
    folder = log(tmp_path, entry(1, "add_concept", {"id": "a"}), entry(2, "add_concept", {"id": "b"}, time=10**400))
    source = one(folder)
    assert list(records(source)) == ["a", "b"]
    assert source.notes() == ["entries without a usable time, which get that of the entry before: 1 (ada.wal:110)"]


# The new layout


def test_every_event_has_the_time_of_its_entry(tmp_path):
    noon = midnight("20250707") / 1e6 + 43_200
    times = [noon + 0.25, noon + 0.5, noon + 0.5, noon + 90_000, noon - 400_000, math.nan]
    entries = [entry(n, "add_concept", {"id": f"c{n}"}, time=time) for n, time in enumerate(times, 1)]
    root = built(of(tmp_path, *entries), tmp_path / "store")
    events = open_store(root.parent)["ada"].events(columns=["id", "ts", "segment"]).to_pylist()
    assert [event["ts"].timestamp() for event in events] == [*times[:5], times[4]]
    assert [event["segment"] for event in events] == ["20250707"] * 3 + ["20250708"] * 3
    assert len(replay(root, "ada", "2025-07-07T12:00:00.5Z")) == 3


def test_no_event_is_later_than_the_migration(tmp_path):
    root = built(of(tmp_path, entry(1, "add_concept", SEA, time=4e9)), tmp_path / "store")
    (event,) = open_store(root.parent)["ada"].events(columns=["ts"]).to_pylist()
    assert event["ts"].timestamp() == NOON / 1e6


def test_entries_of_one_time_share_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_TOGETHER", 3)
    source = of(tmp_path, *[entry(n, "add_concept", {"id": f"c{n}"}, time=1751875200.0) for n in range(1, 8)])
    root = built(source, tmp_path / "store")
    (segment,) = root.glob("wal-*.log")
    assert segment.read_bytes().count(b'"sum":') == 3


def test_a_log_without_an_entry_that_counts_is_a_user_without_memories(tmp_path):
    folder = log(tmp_path)
    (folder / "ada.wal").write_text('{"sequence": 1')
    root = built(one(folder), tmp_path / "store")
    assert replay(root, "ada").to_pylist() == []


# And back


@pytest.mark.parametrize("uid", ["ada", "bela"])
def test_the_samples_go_there_and_back(uid, tmp_path):
    source = next(one for one in find_sources(SAMPLES / "scoped").sources if one.uid == uid)
    root = built(source, tmp_path / "store")
    back, left = given_back(source, root, tmp_path / "back")
    assert left == []
    assert sorted(path.name for path in back.paths) == sorted(path.name for path in source.paths)
    assert hashed(back.batches(progress=False)) == hashed(source.batches(progress=False))
    for old, new in zip(sorted(source.paths), sorted(back.paths), strict=True):
        assert old.read_bytes().startswith(new.read_bytes())


def test_what_changed_since_is_appended_to_the_old_log(tmp_path):
    source = of(tmp_path, *[entry(n, "add_concept", SEA | {"name": f"c{n}"}) for n in range(1, 5)])
    root = built(source, tmp_path / "store")
    changed(
        root,
        {"Delete": "c1"},
        {"Update": {"id": "c2", "amplitude": 0.5, "description": "its own"}},
        {"Insert": {"id": "c3", "theme": "dark"}},
        {"Insert": {"id": "new", "description": "no content"}},
        {"operation": "add_relation", "data": {"source": "new", "target": "c2"}},
        {"operation": "add_concept", "data": {"name": "a trap"}},
        {"note": 1},
    )
    back, left = given_back(source, root, tmp_path / "back")
    assert [one.json for one in left] == ['{"operation":"add_concept","data":{"name":"a trap"}}', '{"note":1}']
    assert hashed(back.batches(progress=False)) == hashed(live_records(root, "ada"))
    data = back.paths[0].read_bytes()
    assert data.startswith(source.paths[0].read_bytes())
    added = [json.loads(line) for line in data.splitlines()[4:]]
    assert [(one["sequence"], one["operation"]) for one in added] == [
        (5, "remove_concept"),
        (6, "update_concept"),
        (7, "remove_concept"),
        (8, "add_concept"),
        (9, "add_concept"),
        (10, "add_relation"),
    ]
    assert {one["checksum"] for one in added} == {None}
    assert len({one["timestamp"] for one in added}) == 1
    assert added[1]["data"] == {"id": "c2", "updates": {"amplitude": 0.5, "description": "its own", "content": "salt"}}


def test_a_torn_tail_does_not_come_back(tmp_path):
    folder = log(tmp_path, entry(1, "add_concept", {"id": "a"}))
    with open(folder / "ada.wal", "a") as file:
        file.write('{"sequence": 2, "time')
    source = one(folder)
    root = built(source, tmp_path / "store")
    changed(root, {"Insert": {"id": "b"}})
    back, _ = given_back(source, root, tmp_path / "back")
    assert sorted(records(back)) == ["a", "b"]
    assert back.notes() == []


def test_a_current_file_is_made_where_there_was_none(tmp_path):
    source = one(log(tmp_path, entry(1, "add_concept", {"id": "a"}), name="ada.wal.999"))
    root = built(source, tmp_path / "store")
    changed(root, {"Insert": {"id": "b"}})
    back, _ = given_back(source, root, tmp_path / "back")
    assert [path.name for path in back.paths] == ["ada.wal", "ada.wal.999"]
    assert sorted(records(back)) == ["a", "b"]


def test_entries_can_be_read_again(tmp_path):
    folder = log(tmp_path, entry(1, "add_concept", {"id": "a"}))
    entries = Entries("ada", [folder / "ada.wal"], (), Notes())
    assert list(entries) == list(entries)


def test_the_example_of_the_format_page_is_what_it_says(tmp_path):
    page = (SAMPLES.parents[1] / "docs" / "format.md").read_text(encoding="utf-8")
    lines = page.split("```jsonl\n")[1].split("```")[0]
    folder = log(tmp_path)
    (folder / "ada.wal").write_text(lines, encoding="utf-8")
    source = one(folder)
    assert records(source) == {
        "sea": {"id": "sea", "concept_id": "sea", "content": "salt", "name": "sea", "importance": 0.75}
    }
    raw = [event["raw"] for event in open_store(built(source, tmp_path / "store").parent)["ada"].events(ops="other")]
    assert raw == ['{"operation":"add_relation","data":{"source":"sea","target":"salt"}}']
    assert [json.dumps(json.loads(line)) for line in lines.splitlines()] == lines.splitlines()
