"""The front door: what a store promises, the functions of phase 1, and the gateway's day through all of it."""

import errno
import json
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

import meshlab
from meshlab.errors import BadEvent, BadUserId, MeshlabError, NotFound, StorageError, WalPoisoned, WriteFailed
from meshlab.testing import FailingFiles
from meshlab.times import midnight
from meshlab.wal.writer import Writer

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
EXPECTED = json.loads((Path(__file__).parents[1] / "data" / "phase1-expected.json").read_text(encoding="utf-8"))
(GATEWAY,) = (uid.name for uid in (SAMPLES / "gateway").iterdir())
UNKNOWN_ID = "ffffffff-0000-4000-8000-000000000000"
DELETED = [f"7d9f0c1e-0000-4000-8000-0000000000{number:02d}" for number in (9, 10)]


def insert(id, **fields):
    return {"Insert": {"id": id, **fields}}


def ids(store, uid="ann"):
    return [row["id"] for row in store[uid].events(progress=False) if row["op"] != "other"]


@pytest.fixture
def store(tmp_path):
    with meshlab.open(tmp_path / "store") as store:
        yield store


@pytest.fixture
def default(tmp_path, monkeypatch):
    """The default store by ``$MESH_STORE``; nothing is there yet."""
    path = tmp_path / "default"
    monkeypatch.setenv("MESH_STORE", str(path))
    yield path
    meshlab.phase1._default_store().close()


@pytest.fixture
def failing(monkeypatch):
    """Let the writers of stores fail once; returns the files, to count the faults."""

    def fail(kind, nth, **fault):
        files = FailingFiles(kind=kind, nth=nth, name="wal-*", **fault)
        monkeypatch.setattr(
            "meshlab.store.store.Writer", lambda root, **given: Writer(root, **{**given, "files": files})
        )
        return files

    return fail


# Opening and looking


def test_opening_touches_nothing_and_the_first_append_creates_store_and_user(tmp_path):
    store = meshlab.open(tmp_path / "deep" / "store")
    user = store["ann"]
    assert repr(store).endswith("not created yet>")
    assert repr(user) == "<UserStore ann: not created yet>"
    assert "ann" not in store
    assert list(tmp_path.iterdir()) == []
    assert user.append(insert("m1")).first_seq == 1
    assert store.users() == list(store) == ["ann"]
    assert ("ann" in store, "bob" in store, 7 in store, len(store)) == (True, False, False, 1)
    store.close()


READS = {
    "events": lambda user: user.events(),
    "state": lambda user: user.state(),
    "verify": lambda user: user.verify(),
    "stats": lambda user: user.stats(),
    "seal": lambda user: user.seal(),
    "repair": lambda user: user.repair(user.store.path.with_name("copy")),
    "events of the store": lambda user: user.store.events("ann"),
    "sql": lambda user: user.store.sql("select 1 from events", users="ann"),
}


@pytest.mark.parametrize("read", READS)
def test_reading_a_store_that_is_not_there_is_not_found_and_creates_nothing(read, tmp_path):
    with pytest.raises(NotFound, match=r"store .* does not exist"):
        READS[read](meshlab.open(tmp_path / "store")["ann"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("read", READS)
def test_reading_a_user_that_is_not_there_is_not_found_and_creates_nothing(read, tmp_path):
    (tmp_path / "store").mkdir()
    with pytest.raises(NotFound, match="user 'ann' is not in"):
        READS[read](meshlab.open(tmp_path / "store")["ann"])
    assert list(tmp_path.rglob("*")) == [tmp_path / "store"]


@pytest.mark.parametrize("look", [lambda store: store.users(), len, list, lambda store: store.events()])
def test_the_users_of_a_store_that_is_not_there_are_not_found(look, tmp_path):
    with pytest.raises(NotFound):
        look(meshlab.open(tmp_path / "store"))
    assert list(tmp_path.iterdir()) == []


def test_reprs_count_users_and_days_without_opening_a_segment(tmp_path):
    for day in ("20250701", "20250703"):
        (tmp_path / "ann" / f"wal-{day}.log").mkdir(parents=True)
    store = meshlab.open(tmp_path)
    assert repr(store) == f"<Store {tmp_path}: 1 user>"
    assert repr(store["ann"]) == "<UserStore ann: 2 days, 20250701 to 20250703>"
    (tmp_path / "bob").mkdir()
    assert repr(store["bob"]) == "<UserStore bob: no segments>"
    with pytest.raises(StorageError):
        store["ann"].verify(progress=False)


def test_reading_writes_nothing(store):
    store["ann"].append(insert("m1"))
    store.close()
    before = {path: path.stat().st_mtime_ns for path in store.path.rglob("*")}
    user = store["ann"]
    for read in (user.events, user.state, user.verify, user.stats):
        read(progress=False)
    store.sql("select count(*) from events", progress=False)
    assert {path: path.stat().st_mtime_ns for path in store.path.rglob("*")} == before


# Appending


def test_an_event_that_is_not_valid_is_refused_with_its_batch_and_makes_nothing(tmp_path):
    store = meshlab.open(tmp_path / "store")
    for refused in (
        lambda: store["ann"].append({"Insert": {"content": "no id"}}),
        lambda: store["ann"].append({"Insert": {"id": "m1", "amplitude": float("nan")}}),
        lambda: store["ann"].append_many([insert("m1"), {"Delete": 7.5}, insert("m2")]),
        lambda: store["ann"].append_many([]),
    ):
        with pytest.raises(BadEvent):
            refused()
    assert list(tmp_path.iterdir()) == []


def test_threads_of_one_store_lose_and_mix_nothing(store):
    def work(name):
        for number in range(20):
            store["ann"].append(insert(f"{name}-{number}"))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = ids(store)
    assert sorted(found) == sorted(f"{name}-{number}" for name in range(8) for number in range(20))
    for name in range(8):
        assert [id for id in found if id.startswith(f"{name}-")] == [f"{name}-{number}" for number in range(20)]


def test_a_key_is_kept_with_each_event_of_its_batch_so_that_a_caller_can_look_for_it(store):
    store["ann"].append_many([insert("m1"), insert("m2")], key="visit-7")
    store.close()
    store["ann"].append(insert("m3"))
    found = store["ann"].events(columns=("id", "key"), progress=False).to_arrow().to_pylist()
    assert [(row["id"], row["key"]) for row in found] == [("m1", "visit-7"), ("m2", "visit-7"), ("m3", None)]


def test_a_closed_store_can_be_closed_again_and_used_again(store):
    store["ann"].append(insert("m1"))
    store.close()
    store.close()
    assert store["ann"].append(insert("m2")).last_seq == 2
    assert ids(store) == ["m1", "m2"]


def test_two_stores_on_one_path_take_turns(store):
    with meshlab.open(store.path) as other:
        seqs = [user["ann"].append(insert(str(number))).last_seq for number, user in enumerate([store, other] * 3)]
    assert seqs == [1, 2, 3, 4, 5, 6]
    assert store["ann"].verify(progress=False).rejects == []


@pytest.mark.parametrize("kind", ["write", "sync"])
def test_after_a_failed_write_closing_the_store_is_how_to_go_on(store, failing, kind):
    files = failing(kind, 3)
    store["ann"].append(insert("m1"))
    store["ann"].append(insert("m2"))
    with pytest.raises(WriteFailed):
        store["ann"].append(insert("unknown"))
    for _ in range(2):
        with pytest.raises(WalPoisoned):
            store["ann"].append(insert("refused"))
    store.close()
    store["ann"].append(insert("m3"))
    assert files.hits == 1
    found = ids(store)
    assert [id for id in found if id != "unknown"] == ["m1", "m2", "m3"]
    assert found.count("unknown") <= 1
    assert not store["ann"].verify(progress=False).damage


def test_a_log_that_failed_does_not_stop_the_other_users(store, failing):
    failing("sync", 1)
    with pytest.raises(WriteFailed):
        store["ann"].append(insert("unknown"))
    assert store["bob"].append(insert("m1")).last_seq == 1
    with pytest.raises(WalPoisoned):
        store["ann"].append(insert("refused"))


# The functions of phase 1


def test_append_to_wal_and_replay_wal_use_the_store_of_the_environment(default):
    meshlab.append_to_wal("ann", insert("m2", amplitude=0.5))
    meshlab.append_to_wal("ann", insert("m1"))
    meshlab.append_to_wal("ann", {"Update": {"id": "m2", "amplitude": 0.75}})
    assert meshlab.replay_wal("ann") == {"m1": {"id": "m1"}, "m2": {"id": "m2", "amplitude": 0.75}}
    assert meshlab.user_root("ann") == default / "ann"
    assert meshlab.open().users() == ["ann"]


def test_the_default_store_follows_the_environment_and_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.delenv("MESH_STORE", raising=False)
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        assert meshlab.append_to_wal("ann", insert(place)).last_seq == 1
        meshlab.phase1._default_store().close()
    assert list(meshlab.replay_wal("ann")) == ["two"]
    monkeypatch.setenv("MESH_STORE", str(tmp_path / "one" / "mesh_store"))
    assert list(meshlab.replay_wal("ann")) == ["one"]


@pytest.mark.parametrize("kind", ["write", "sync"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_append_to_wal_opens_the_log_anew_after_a_failed_write(default, failing, kind, error):
    files = failing(kind, 2, error=error)
    meshlab.append_to_wal("ann", insert("m1"))
    with pytest.raises(WriteFailed):
        meshlab.append_to_wal("ann", insert("unknown"))
    meshlab.append_to_wal("ann", insert("m2"))
    assert files.hits == 1
    assert set(meshlab.replay_wal("ann")) - {"unknown"} == {"m1", "m2"}
    assert not meshlab.open()["ann"].verify(progress=False).damage


def test_the_functions_refuse_and_miss_without_creating_anything(default, tmp_path):
    with pytest.raises(NotFound):
        meshlab.replay_wal("ann")
    with pytest.raises(BadUserId):
        meshlab.append_to_wal("../ann", insert("m1"))
    with pytest.raises(BadEvent):
        meshlab.append_to_wal("ann", {"Insert": {}})
    assert meshlab.user_root("ann") == default / "ann"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uid", sorted(EXPECTED))
def test_replay_wal_gives_the_records_of_phase_1_by_id(uid, monkeypatch):
    monkeypatch.setenv("MESH_STORE", str(SAMPLES / "phase1"))
    assert meshlab.replay_wal(uid) == EXPECTED[uid]


# The gateway's day


@pytest.fixture(scope="module")
def gateway():
    return meshlab.open(SAMPLES / "gateway")[GATEWAY]


@pytest.fixture(scope="module")
def rows(gateway):
    return gateway.events(progress=False).to_arrow().to_pylist()


def test_the_gateways_day_loads_as_53_events_without_a_reject(gateway, rows):
    events = gateway.events(progress=False)
    assert len(events) == len(rows) == 53
    assert events.rejects.num_rows == 0
    assert gateway.verify(progress=False).rejects == []
    assert {row["dialect"] for row in rows} == {"gateway"}
    assert [row["line"] for row in rows] == list(range(1, 54))


def test_the_gateways_events_are_counted_by_what_they_do(gateway, rows):
    assert Counter(row["op"] for row in rows) == {"insert": 12, "update": 33, "delete": 2, "other": 6}
    stats = gateway.stats(progress=False)
    assert (stats["events"], stats["other"], stats["in gateway"], stats["rejects"]) == (53, 6, 53, 0)


def test_the_gateways_free_form_events_are_there_as_written(rows):
    free = [row for row in rows if row["op"] == "other"]
    assert [json.loads(row["raw"]) for row in free] == [
        *({"type": "page_view", "path": "/vault", "ms": ms} for ms in (14, 21, 28, 35)),
        "plain string event",
        42,
    ]
    assert all(row["id"] is None and row["ts"] is not None for row in free)


def test_the_gateways_unknown_field_is_there_in_events_and_state(gateway, rows):
    themed = [row for row in rows if row["extra"] is not None]
    assert len(themed) == 22
    assert {tuple(json.loads(row["extra"])) for row in themed} == {("theme",)}
    state = gateway.state(progress=False)
    assert {record["id"] for record in state.to_pylist() if "theme" in record} == {
        row["id"] for row in themed if row["id"] not in DELETED
    }


def test_the_gateways_deletes_name_their_memory_in_an_object(rows):
    assert sorted(row["id"] for row in rows if row["op"] == "delete") == DELETED


def test_the_gateways_day_leaves_10_memories_and_3_orphans_two_of_them_after_a_delete(gateway):
    state = gateway.state(progress=False)
    assert len(state) == 10
    assert not set(DELETED) & {record["id"] for record in state.to_pylist()}
    assert sorted(state.orphans["id"].to_pylist()) == [*DELETED, UNKNOWN_ID]
    assert {orphan["id"]: orphan["line"] for orphan in state.orphans.to_pylist()} == {
        DELETED[1]: 35,
        UNKNOWN_ID: 43,
        DELETED[0]: 53,
    }


def test_sql_sees_the_gateways_day(gateway):
    query = "select op, count(*) as n, count(raw) as raws, count(extra) as extras from events group by op order by op"
    found = gateway.store.sql(query, progress=False).to_arrow().to_pylist()
    assert [(row["op"], row["n"], row["raws"], row["extras"]) for row in found] == [
        ("delete", 2, 0, 0),
        ("insert", 12, 0, 0),
        ("other", 6, 6, 0),
        ("update", 33, 0, 22),
    ]


@pytest.mark.parametrize("days", [-1, 1.5, True, 10**12, "7"])
def test_a_retention_that_is_no_number_of_days_is_refused_and_touches_nothing(tmp_path, days):
    with meshlab.open(tmp_path / "store") as store:
        store["ann"].append({"Insert": {"id": "m1"}})
        with pytest.raises(MeshlabError, match="a retention of"):
            store["ann"].checkpoint(retain=days, progress=False)
        assert not (store["ann"].root / "snapshot.bin").exists()


def test_events_after_a_folded_segment_was_lost_count_on_and_are_applied(tmp_path):
    root = tmp_path / "store" / "ann"
    for day in ("20250701", "20250702"):
        writer = Writer(root, clock=partial(midnight, day))
        writer.append({"Insert": {"id": day}})
        writer.close()
    with meshlab.open(tmp_path / "store") as store:
        store["ann"].checkpoint(progress=False)
        (root / "wal-20250702.log").unlink()
        (root / "wal.lock").unlink()
        assert store["ann"].append({"Insert": {"id": "later"}}).last_seq == 3
        assert [record["id"] for record in store["ann"].state(progress=False).to_pylist()] == [
            "20250701", "20250702", "later",
        ]  # fmt: skip
