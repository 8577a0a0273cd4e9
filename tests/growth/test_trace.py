"""A trace holds what happened, to the byte, and nothing that was said."""

import pickle
from pathlib import Path

import numpy as np
import pytest

import meshlab
from meshlab.dialects import OPS
from meshlab.errors import MeshlabError
from meshlab.growth.lives import Lives
from meshlab.growth.trace import TRACE_COLUMNS, trace
from meshlab.tables.load import Log
from meshlab.testing import LogBuilder, build_store
from meshlab.timeline import log_of
from meshlab.times import DAY, SECOND, midnight
from meshlab.wal.paths import segment_days, segment_size

from .past import history, log_with, made

DAMAGED = Path(__file__).parents[2] / "data" / "samples" / "damaged"


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    path = tmp_path_factory.mktemp("trace") / "store"
    build_store(path, users=["ann"], days=4, events=1500)
    return meshlab.open(path)["ann"]


@pytest.fixture(scope="module")
def found(user):
    return trace(log_of(user.root, user.uid))


def arrays(found):
    return {name: value for name, value in vars(found).items() if isinstance(value, np.ndarray) and name != "ends"}


def test_it_says_of_each_event_what_the_table_does(user, found):
    table = user.events(columns=TRACE_COLUMNS, progress=False).to_arrow()
    assert found.nbytes.tolist() == table["nbytes"].to_pylist()
    assert found.payload.tolist() == table["payload_nbytes"].to_pylist()
    assert [size or None for size in found.content.tolist()] == table["content_nbytes"].to_pylist()
    assert [OPS[op] for op in found.op.tolist()] == table["op"].to_pylist()
    assert found.given.tolist() == table["given"].to_pylist()
    assert [found.days[day] for day in found.day.tolist()] == table["segment"].to_pylist()


def test_equal_ids_and_no_others_have_equal_codes(user, found):
    ids = user.events(columns=["id"], progress=False).to_arrow()["id"].to_pylist()
    assert len(set(zip(ids, found.id.tolist()))) == len(set(ids)) == len(set(found.id.tolist()))


def test_equal_contents_and_no_others_have_equal_keys(user, found):
    contents = user.events(columns=["content"], progress=False).to_arrow()["content"].to_pylist()
    pairs = {(text, key) for text, key in zip(contents, found.key.tolist()) if text}
    assert len(pairs) == len({text for text, _ in pairs}) == len({key for _, key in pairs})


def test_next_is_the_next_event_about_the_same_record(found):
    ids = found.id.tolist()
    for row in range(0, len(ids), 7):
        later = [other for other in range(row + 1, len(ids)) if ids[other] == ids[row]]
        assert found.next[row] == (later[0] if later else len(ids))


def test_no_content_is_read_and_little_is_kept(found):
    assert not {"content", "raw", "extra"} & set(TRACE_COLUMNS)
    assert sum(value.nbytes for value in arrays(found).values()) <= 60 * len(found)


def test_sealed_segments_give_the_same(tmp_path):
    root = log_with(tmp_path / "u", history(1))
    before = trace(log_of(root, "u"))
    meshlab.open(tmp_path)["u"].seal()
    after = trace(log_of(root, "u"))
    for name, values in arrays(before).items():
        assert np.array_equal(values, getattr(after, name)), name


def test_it_survives_a_trip_to_another_process(found):
    again = pickle.loads(pickle.dumps(found))
    assert all(np.array_equal(values, getattr(again, name)) for name, values in arrays(found).items())
    assert repr(again) == repr(found)


@pytest.mark.parametrize("root", sorted(DAMAGED.glob("*/ada")), ids=lambda root: root.parent.name)
def test_events_and_what_is_none_add_up_to_the_files(root):
    found = trace(log_of(root, root.name))
    sizes = {day: segment_size(root, day) for day in segment_days(root)}
    assert dict(zip(found.days, np.bincount(found.day, found.nbytes) + found.spare)) == sizes


def test_damage_is_counted(tmp_path):
    root = log_with(tmp_path / "u", [{"Insert": {"id": "a"}}, {"Insert": {"id": "b"}}])
    path = root / "wal-20250701.log"
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"x"'))
    found = trace(Log(root, "u"))
    assert (len(found), found.damage > 0, found.spare_bytes > 100) == (1, True, True)


def test_a_clock_that_jumps_back_does_not_turn_time_back(tmp_path):
    log = LogBuilder()
    for second in (10, 5, 3_000_000, 4):
        log.frame([{"Insert": {"id": "a"}}], time=midnight("20250701") + second * SECOND)
    found = trace(Log(log.write(tmp_path / "u"), "u"))
    assert (np.diff(found.time) >= 0).all()
    assert found.time[-1] <= midnight("20250701") + 2 * DAY


def test_an_empty_log_is_an_empty_trace(tmp_path):
    (tmp_path / "u").mkdir()
    found = trace(Log(tmp_path / "u", "u"))
    assert (len(found), found.span_days, found.days, repr(found)) == (0, 0.0, (), "<Trace of u: 0 events, 0 B, 0 days>")


# Where records come from


def test_a_log_from_the_first_event_on_has_begun_with_nothing(found):
    assert (found.begun, found.before) == (True, 0)


def test_behind_deleted_segments_records_are_presumed(tmp_path):
    root = log_with(tmp_path / "u", [{"Insert": {"id": f"m{n}"}} for n in range(100)], per_day=20)
    user = meshlab.open(tmp_path)["u"]
    user.append({"Update": {"id": "m3", "mode": "Dark"}})
    user.checkpoint(retain=0, progress=False)
    assert user.vacuum(apply=True).bytes_freed
    user.append({"Update": {"id": "m4", "mode": "Dark"}})
    found = trace(log_of(root, "u"))
    told = Lives(found)
    assert not found.begun
    assert not told.orphans.any()
    assert found.before + len(set(found.id.tolist())) == 100


# Scaling


def test_twice_the_users_are_twice_as_many_like_this_one(found):
    assert found.scaled(users=2).scaled(users=3).copies == 6
    assert found.scaled(users=2).nbytes is found.nbytes


def test_ten_times_the_recalls_repeats_each_between_its_neighbours():
    found = made([("insert", 0), ("update", 0), ("insert", 1), ("delete", 0), ("update", 0)])
    more = found.scaled(recalls=3)
    assert len(more) == 5 + 2 + 2
    first = [row for row in range(len(more)) if more.id[row] == 0]
    assert [OPS[more.op[row]] for row in first] == ["insert", *["update"] * 3, "delete", *["update"] * 3]
    assert (more.time[first][1:4] - found.time[0]).tolist() == [60 * SECOND, 100 * SECOND, 140 * SECOND]
    assert (np.diff(more.time) >= 0).all()
    assert Lives(more).alive.sum() == Lives(found).alive.sum() + 2


def test_scaling_makes_recalls_and_nothing_else(found):
    more = found.scaled(recalls=4)
    told, before = Lives(more), Lives(found)
    for kind in set(before.kind.tolist()) - {0}:
        assert (told.kind == kind).sum() == (before.kind == kind).sum()
    assert (told.kind == 0).sum() == 4 * (before.kind == 0).sum()
    assert told.orphans.sum() == 4 * before.orphans.sum()


@pytest.mark.parametrize("scale", [{"users": 0}, {"recalls": -1}])
def test_no_trace_is_scaled_away(found, scale):
    with pytest.raises(MeshlabError, match="scaled"):
        found.scaled(**scale)
