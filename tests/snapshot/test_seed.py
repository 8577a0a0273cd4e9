"""A user made of records from elsewhere: what it is, what is refused, and what a crash leaves."""

from __future__ import annotations

import math
from itertools import count

import pyarrow as pa
import pytest

import meshlab
from meshlab.errors import MeshlabError, NotFound, NotRestorable, SnapshotError
from meshlab.replay import replay, windows
from meshlab.snapshot import seed as module
from meshlab.snapshot.base import Base
from meshlab.snapshot.checkpoint import locked
from meshlab.snapshot.hashing import state_hash
from meshlab.snapshot.manifest import CONTENTS, current, history
from meshlab.snapshot.seed import seed
from meshlab.tables.schema import RECORD_SCHEMA
from meshlab.tables.times import to_timestamps
from meshlab.testing import FailingFiles
from meshlab.times import DAY, to_datetime
from scoreboard.stories import LONG, NOON, Shop, insert, killed, names, state, temporary, update

ROWS = [
    {"id": "m2", "content": LONG, "last_accessed": "2025-07-05T00:00:00Z", "amplitude": -0.0},
    {"id": "m1", "content": LONG, "last_accessed": "soon", "extra": '{"mode":5,"theme":null}'},
    {"id": "ψ", "content": "short", "emotional_signature": {"trauma_indicators": []}},
]


def batch(*rows):
    made = pa.RecordBatch.from_pylist(list(rows), schema=RECORD_SCHEMA)
    for name, text in (("creation_ts", "creation_time"), ("last_accessed_ts", "last_accessed")):
        made = made.set_column(made.schema.get_field_index(name), RECORD_SCHEMA.field(name), to_timestamps(made[text]))
    return made


def sow(root, *batches, **options):
    return seed(root, "u", batches, clock=lambda: NOON, progress=False, **options)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "mesh").mkdir()
    return tmp_path / "mesh" / "u"


def ids(root):
    return [record["id"] for record in replay(root, "u", progress=False).to_pylist()]


def test_the_layers_hold_the_records_and_the_first_generation_says_so(root):
    report = sow(root, batch(*ROWS[:2]), batch(ROWS[2]))
    manifest = current(root, "u")
    assert (report.generation, report.records, report.changed, report.events) == (1, 3, 3, 0)
    assert (manifest.generation, manifest.parent, manifest.records, manifest.seq) == (1, "", 3, 0)
    expected = pa.Table.from_batches([batch(*ROWS)]).sort_by("id")
    assert replay(root, "u", progress=False).to_arrow().equals(expected)
    assert report.state_hash == manifest.state_hash == state_hash(expected).hexdigest()
    assert sum(layer.rows for layer in manifest.of_kind(CONTENTS)) == 1, "a long content that comes twice is kept once"
    assert history(root, "u") == []


def test_the_user_goes_on_like_any_other(root):
    sow(root, batch(*ROWS))
    shop = Shop(root)
    shop.append(update("m1", amplitude=0.5), {"Delete": "m2"}, insert("m3"), durability="os")
    assert shop.checkpoint().generation == 2
    assert ids(root) == ["m1", "m3", "ψ"]
    assert [entry.generation for entry in history(root, "u")] == [1]
    shop.vacuum()
    assert ids(root) == ["m1", "m3", "ψ"]


def test_no_record_at_all_is_a_user_without_memories(root):
    assert sow(root).records == 0
    assert ids(root) == []


def test_moments_before_the_newest_access_are_not_restorable(root):
    sow(root, batch(*ROWS))
    (window,) = windows(root, "u")
    assert (window.start.isoformat(), window.end, window.source) == ("2025-07-05T00:00:00+00:00", None, "checkpoint 1")
    assert window.hole_before == "what the user began with is of 2025-07-05T00:00:00.000000Z"
    with pytest.raises(NotRestorable, match="2025-07-05T00:00:00"):
        replay(root, "u", "2025-07-04T23:59:59Z", progress=False)
    assert len(replay(root, "u", "2025-07-05T00:00:00Z", progress=False)) == 3


@pytest.mark.parametrize(("given", "start"), [(None, NOON), (NOON - DAY, NOON - DAY)])
def test_records_without_a_time_are_of_the_moment_given_or_of_now(root, given, start):
    sow(root, batch({"id": "m1"}), base_time=given)
    assert windows(root, "u")[0].start == to_datetime(start)


def test_the_windows_stay_sensible_when_the_log_goes_on(root):
    sow(root, batch(*ROWS))
    shop = Shop(root)
    shop.append(insert("m3"))
    shop.checkpoint()
    (window,) = windows(root, "u")
    assert (window.start.isoformat(), window.generations) == ("2025-07-05T00:00:00+00:00", (1, 2))
    assert "m3" not in replay(root, "u", NOON - 1, progress=False)


def test_what_json_has_no_number_for_is_named_wherever_json_is_given(root):
    sow(root, batch({"id": "m1", "amplitude": math.nan, "stability": 0.5, "comfort_metrics": {"flux": -math.inf}}))
    user = meshlab.open(root.parent, durability="os")["u"]
    user.append({"Update": {"id": "m1", "amplitude": 0.5, "comfort_metrics": {"flux": 1.0}}})
    before = {"id": "m1", "amplitude": "NaN", "stability": 0.5, "comfort_metrics": {"flux": "-Infinity"}}
    assert user.history("m1", progress=False).before == before
    changes = user.diff(to_datetime(NOON), progress=False).to_pylist()
    assert [(row["before"], row["after"]) for row in changes] == [("NaN", 0.5), ({"flux": "-Infinity"}, {"flux": 1.0})]
    assert user.state(to_datetime(NOON), progress=False).to_pylist() == [before]


def test_a_vault_leaves_alone_what_is_no_number(root):
    sow(root, batch({"id": "m1", "amplitude": math.nan, "stability": 0.5}))
    vault = meshlab.open(root.parent, durability="os")["u"].vault()
    assert vault.get("m1") == {"id": "m1", "amplitude": "NaN", "stability": 0.5}
    memory = vault.recall("m1")
    assert (memory["amplitude"], memory["stability"], memory["access_count"]) == ("NaN", 1.005 * 0.5, 1)


@pytest.mark.parametrize("apart", [1, 2])
def test_an_id_that_comes_twice_is_refused_and_nothing_is_left(root, apart):
    rows = [{"id": "m1"}, {"id": "m2"}, {"id": "m1"}]
    with pytest.raises(SnapshotError, match="record 'm1': expected an id of its own"):
        sow(root, *([batch(*rows)] if apart == 1 else [batch(row) for row in rows]))
    assert names(root) == []


def test_an_id_that_comes_twice_is_found_across_layers(root):
    with pytest.raises(SnapshotError, match="record 'm1'"):
        sow(root, *(batch({"id": f"m{n}"}, {"id": "m1" if n == 8 else f"n{n}"}) for n in range(9)))
    assert names(root) == []


def test_equal_hashes_are_not_equal_ids(root, monkeypatch):
    monkeypatch.setattr(module, "hash", lambda text: 7, raising=False)
    assert sow(root, batch(*ROWS)).records == 3


@pytest.mark.parametrize("bad", [None, ""])
def test_a_record_without_an_id_is_refused(root, bad):
    with pytest.raises(SnapshotError, match="record 5: expected an id"):
        sow(root, batch(*ROWS), batch({"id": "m7"}, {"id": bad}))
    assert names(root) == []


def test_batches_of_something_else_are_refused(root):
    with pytest.raises(SnapshotError, match="expected the schema of records"):
        sow(root, pa.RecordBatch.from_pylist([{"id": "m1"}]))


@pytest.mark.parametrize(
    "there", ["snapshot.bin", "layers/ab.parquet", "history/00000001.bin", "wal-20250707.log"], ids=str
)
def test_a_directory_in_use_is_refused_and_stays_as_it_was(root, there):
    path = root / there
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{}\n")
    with pytest.raises(SnapshotError, match=there):
        sow(root, batch(*ROWS))
    assert [item.relative_to(root).as_posix() for item in root.rglob("*") if item.is_file()] == [there]


def test_a_user_that_was_seeded_is_not_seeded_again(root):
    sow(root, batch(*ROWS))
    before = names(root)
    with pytest.raises(SnapshotError, match=r"found snapshot\.bin"):
        sow(root, batch({"id": "m9"}))
    assert names(root) == before


def test_who_comes_second_is_refused(root):
    root.mkdir()
    with locked(root, Shop(root).files), pytest.raises(MeshlabError, match="under way"):
        sow(root, batch(*ROWS))


def test_a_parent_that_is_not_there_and_a_wrong_uid_are_said_so(tmp_path):
    with pytest.raises(NotFound, match="nowhere"):
        sow(tmp_path / "nowhere" / "u", batch(*ROWS))
    with pytest.raises(MeshlabError, match="not allowed"):
        seed(tmp_path / "u", "../u", [])


def sown(shop, files):
    seed(shop.root, "u", [batch(*ROWS[:2]), batch(ROWS[2])], files=files, clock=lambda: NOON, progress=False)


def test_a_seed_killed_at_any_operation_is_no_user_or_the_whole_one(tmp_path, root):
    (tmp_path / "made" / "u").mkdir(parents=True)
    sow(root, batch(*ROWS))
    expected, ends = state(root), set()
    for point, shop in killed(tmp_path / "made" / "u", tmp_path, sown):
        ends.add(_end(shop, expected, point))
    assert ends == {"nothing", "refused", "whole"}


def _end(shop, expected, point):
    """What a killed seed left: a whole user, layers that every reader refuses, or nothing, which can be sown anew."""
    try:
        found = current(shop.root, "u")
    except SnapshotError as error:
        assert "snapshot.bin beside the files in layers/" in error.message
        with pytest.raises(SnapshotError, match="delete it and begin anew"):
            sown(shop, shop.files)
        return "refused"
    if found is None:
        sown(shop, shop.files)
        assert temporary(shop.root) == [], point
    assert state(shop.root) == expected, point
    shop.crash(point)
    assert state(shop.root) == expected, f"what a seed made is durable, {point}"
    return "nothing" if found is None else "whole"


def test_a_seed_on_a_full_disk_leaves_nothing_and_can_be_done_again(root):
    for nth in count(1):
        try:
            sow(root, batch(*ROWS), files=FailingFiles(kind="any", nth=nth))
        except MeshlabError:
            if current(root, "u") is None:
                assert names(root) == [], nth
                continue
        break
    assert nth > 10
    assert Base.open(root, current(root, "u")).state().num_rows == 3
