"""The vault: its formulas, its log, and many who use it at once, killed or not."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import meshlab
from meshlab.errors import BadEvent, DamageFound, NotFound, WalPoisoned, WriteFailed
from meshlab.events import Delete, Insert, SolitonMemory, Update
from meshlab.records import FIELDS, EmotionalSignature
from meshlab.testing import FailingFiles, strategies
from meshlab.times import DAY, format_time, midnight
from meshlab.vault import SolitonVault
from meshlab.wal import follow
from meshlab.wal.files import Files
from meshlab.wal.paths import segment_days, segment_name
from meshlab.wal.writer import Writer

PACKAGE = Path(meshlab.__file__).parent.parent
TODAY = "20250707"
NOON = midnight(TODAY) + DAY // 2


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, now=NOON):
        self.now = now

    def __call__(self):
        return self.now


class Unsynced(Files):
    """Real files without the syncs: for tests that lose no power."""

    def sync(self, fd):
        pass

    def sync_directory(self, path):
        pass


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def user(tmp_path, clock):
    return user_at(tmp_path, clock)


def user_at(path, clock, files=None):
    """A user of a store whose clock is ours."""
    store = meshlab.open(path / "store")
    store._writers["ann"] = Writer(path / "store" / "ann", clock=clock, files=files or Unsynced())
    return store["ann"]


def open_vault(user, clock, **options):
    return SolitonVault(user, clock=clock, **options)


@pytest.fixture
def vault(user, clock):
    return open_vault(user, clock)


def log_of(user, day=TODAY):
    return user.root / segment_name(day)


def add_bytes(user, data, day=TODAY):
    with log_of(user, day).open("ab") as file:
        file.write(data)


def exact(memories):
    """Bytes that tell -0.0 from 0.0, 1 from 1.0 and one order of names from another."""
    return [msgspec.json.encode(memory) for memory in memories]


def assert_agrees(vault):
    """The vault holds what the log means."""
    state = vault.user.state(progress=False)
    expected = state.to_pylist()
    assert exact(vault) == exact(expected)
    assert len(vault) == len(expected)
    assert all(vault.get(memory["id"]) == memory and memory["id"] in vault for memory in expected)


# What a memory is


def test_a_new_memory_has_the_values_of_the_formulas(vault):
    id = vault.store_memory("concept:sea", "sixteen letters.", 0.25)
    time = "2025-07-07T12:00:00.000000Z"
    assert vault.get(id) == {
        "id": id,
        "concept_id": "concept:sea",
        "phase_tag": 2 * math.pi * 0xA2E124B7 / 0xFFFFFFFF,  # md5 of the concept: a2e124b7...
        "amplitude": 0.5,
        "frequency": 1.0,
        "width": 0.25,
        "position": 0.0,
        "stability": 0.8,
        "creation_time": time,
        "last_accessed": time,
        "access_count": 0,
        "content": "sixteen letters.",
        "content_type": "Conversation",
        "emotional_signature": {"valence": 0.0, "arousal": 0.0, "dominance": 0.0, "trauma_indicators": []},
        "vault_status": "Active",
        "mode": "Bright",
        "comfort_metrics": {"energy": 1.0, "stress": 0.0, "flux": 0.0, "perturbation": 0.0},
    }
    assert tuple(vault.get(id)) == FIELDS


def test_what_is_said_of_a_new_memory_is_kept(vault):
    details = {
        "content_type": "UserReflection",
        "emotional_signature": EmotionalSignature(valence=-0.5),
        "comfort_metrics": {"stress": 1},
        "position": 3,
        "mode": "Dark",
        "extra": {"theme": ["blue"]},
    }
    assert vault.store_memory("c", "🌊", 4, id="m1", **details) == "m1"
    memory = vault.get("m1")
    assert (memory["amplitude"], memory["width"], memory["position"]) == (2.0, 1.0, 3.0)
    assert memory["emotional_signature"]["valence"] == -0.5
    assert memory["emotional_signature"]["arousal"] == 0.0
    assert memory["comfort_metrics"] == {"energy": 1.0, "stress": 1.0, "flux": 0.0, "perturbation": 0.0}
    assert (memory["content_type"], memory["mode"], memory["theme"]) == ("UserReflection", "Dark", ["blue"])


def test_a_recall_strengthens_up_to_the_bounds(vault, clock):
    id = vault.store_memory("c", "x", 3.96)
    clock.now += 1_500_000
    amplitude, stability = math.sqrt(3.96), 0.8
    for count in range(1, 50):
        amplitude, stability = min(1.01 * amplitude, 2.0), min(1.005 * stability, 1.0)
        memory = vault.recall(id)
        found = (memory["amplitude"], memory["stability"], memory["access_count"])
        assert found == (amplitude, stability, count)
    assert (amplitude, stability) == (2.0, 1.0)
    assert memory["last_accessed"] == "2025-07-07T12:00:01.500000Z"
    assert memory["creation_time"] == "2025-07-07T12:00:00.000000Z"
    assert memory == vault.get(id)


def test_a_recall_of_a_memory_that_lacks_numbers_leaves_them_out(user, vault, clock):
    user.append({"Insert": {"id": "m1"}})
    add_bytes(user, b'{"Insert":{"id":"m2","amplitude":"loud","access_count":-3}}\n')
    add_bytes(user, b'{"Insert":{"id":"m3","access_count":18446744073709551615}}\n')
    time = format_time(clock.now)
    assert vault.recall("m1") == {"id": "m1", "last_accessed": time, "access_count": 1}
    assert vault.recall("m2") == {"id": "m2", "amplitude": "loud", "last_accessed": time, "access_count": 1}
    assert vault.recall("m3")["access_count"] == 18446744073709551615
    assert_agrees(vault)


def test_update_seal_unseal_and_delete(vault):
    id = vault.store_memory("c", "before")
    assert vault.update(id, content="after", extra={"b": 1, "a": None})["content"] == "after"
    assert list(vault.get(id))[-2:] == ["a", "b"]
    assert vault.seal(id)["vault_status"] == "UserSealed"
    assert vault.unseal(id)["vault_status"] == "Active"
    vault.update(id, vault_status="Quarantine")
    for act in (vault.seal, vault.unseal):
        with pytest.raises(BadEvent, match="is Quarantine"):
            act(id)
    vault.delete(id)
    assert (id in vault, vault.get(id), len(vault), list(vault)) == (False, None, 0, [])
    assert vault.store_memory("c", "again", id=id) == id


def test_an_update_of_all_fields_keeps_the_unknown_ones(vault):
    vault.store_memory("c", "text", id="m1", extra={"theme": "dark"})
    fields = {name: value for name, value in vault.get("m1").items() if name in FIELDS and name != "id"}
    vault.update("m1", **fields | {"content": "new"})
    assert (vault.get("m1")["content"], vault.get("m1")["theme"]) == ("new", "dark")
    assert_agrees(vault)


def test_memories_are_found_by_id_and_by_concept(user, vault, clock):
    for number in (3, 1, 2):
        vault.store_memory("odd" if number % 2 else "even", "x" * number, id=f"m{number}")
    for one in (vault, open_vault(user, clock)):
        assert [memory["id"] for memory in one] == ["m1", "m2", "m3"]
        assert [memory["id"] for memory in one.by_concept("odd")] == ["m1", "m3"]
        assert (len(one), "m2" in one, "m4" in one, 7 in one, one.get(7)) == (3, True, False, False, None)
        assert one.by_concept("none") == one.by_concept(7) == []
    vault.update("m1", concept_id="even")
    assert [memory["id"] for memory in one.by_concept("even")] == ["m1", "m2"]
    assert repr(one) == "<SolitonVault of ann: 3 memories>"


def test_what_is_handed_out_is_the_callers_own(user, vault, clock):
    vault.store_memory("c", "x", id="m1", extra={"deep": {"list": [1]}})
    for one in (vault, open_vault(user, clock)):
        before = one.get("m1")
        for memory in (one.get("m1"), next(iter(one)), one.by_concept("c")[0]):
            memory["deep"]["list"].append(2)
            memory["emotional_signature"]["trauma_indicators"].append("loss")
            memory.clear()
        assert one.get("m1") == before


# What is refused, before anything is written

BAD = [
    ({"concept_id": ""}, "concept_id is empty"),
    ({"concept_id": 7}, "concept_id is a int"),
    ({"concept_id": "\ud800"}, "not valid Unicode"),
    ({"content": ""}, "content is empty"),
    ({"content": b"x"}, "content is a bytes"),
    ({"content": "\ud800"}, "not valid Unicode"),
    ({"importance": -0.1}, "expected 0 to 4"),
    ({"importance": 4.1}, "expected 0 to 4"),
    ({"importance": math.nan}, "expected 0 to 4"),
    ({"importance": math.inf}, "expected 0 to 4"),
    ({"importance": "high"}, "expected a number"),
    ({"importance": True}, "expected a number"),
    ({"importance": None}, "expected a number"),
    ({"id": ""}, "empty"),
    ({"id": 7}, "id"),
    ({"content_type": "Rumour"}, "expected one of Conversation"),
    ({"vault_status": "Open"}, "expected one of Active"),
    ({"mode": None}, "expected one of Bright"),
    ({"position": math.nan}, "position"),
    ({"position": "here"}, "position"),
    ({"emotional_signature": {"joy": 1.0}}, "joy"),
    ({"emotional_signature": [1.0]}, "emotional_signature is a list"),
    ({"comfort_metrics": {"flux": "high"}}, "flux"),
    ({"extra": {"content": "x"}}, "extra"),
    ({"extra": {"theme": math.nan}}, "nan"),
]


@pytest.mark.parametrize(("fault", "message"), BAD, ids=[f"{next(iter(f.items()))}" for f, _ in BAD])
def test_a_bad_memory_touches_nothing(vault, fault, message):
    with pytest.raises(BadEvent, match=message):
        vault.store_memory(**{"concept_id": "c", "content": "x", "importance": 1.0} | fault)
    assert not vault.user.root.parent.exists()


def test_a_change_that_cannot_be_writes_nothing(vault):
    vault.store_memory("c", "x", id="m1")
    size = log_of(vault.user).stat().st_size
    for act in (vault.recall, vault.seal, vault.unseal, vault.delete):
        for id in ("m2", "", 7):
            with pytest.raises(NotFound, match="has no memory"):
                act(id)
    with pytest.raises(NotFound):
        vault.update("m2", content="y")
    with pytest.raises(BadEvent, match="lives already"):
        vault.store_memory("c", "x", id="m1")
    for fields in (
        {},
        {"contents": "y"},
        {"content": None},
        {"amplitude": "high"},
        {"mode": "Dim"},
        {"amplitude": math.inf},
    ):
        with pytest.raises(BadEvent):
            vault.update("m1", **fields)
    assert log_of(vault.user).stat().st_size == size


# Together with others


def test_vaults_of_two_stores_see_each_other(tmp_path, user, vault, clock):
    other = open_vault(user_at(tmp_path, clock), clock)
    id = vault.store_memory("c", "x")
    assert other.get(id) == vault.get(id)
    for _ in range(5):
        vault.recall(id)
        other.recall(id)
    assert vault.get(id)["access_count"] == other.get(id)["access_count"] == 10
    other.delete(id)
    assert id not in vault
    with pytest.raises(NotFound):
        vault.recall(id)


def test_lines_of_other_programs_count_before_a_recall(user, vault):
    vault.store_memory("c", "x", id="m1")
    add_bytes(user, b'{"Update":{"id":"m1","amplitude":0.5,"access_count":41}}\n')
    assert vault.recall("m1")["access_count"] == 42
    assert vault.get("m1")["amplitude"] == 0.505
    add_bytes(user, b'{"Update":{"id":"m1","access_count":99}}')  # and no newline
    assert vault.recall("m1")["access_count"] == 100
    add_bytes(user, b'{"timestamp":"2025-07-07T12:30:00Z","event":{"Delete":"m1"}}\n')
    with pytest.raises(NotFound):
        vault.recall("m1")
    assert_agrees(vault)


def test_a_line_glued_to_one_without_newline_is_read_with_it(user, vault):
    vault.store_memory("c", "x", id="m1")
    add_bytes(user, b'{"timestamp":"2025-07-07T12:30:00Z","event":{"Delete":"m1"}}')
    assert "m1" not in vault
    add_bytes(user, b"and more\n")
    with pytest.raises(DamageFound):
        _ = "m1" in vault
    vault.accept(reject_places(user))
    assert_agrees(vault)


def reject_places(user):
    return [f"{segment_name(r['segment'])}:{r['offset']}" for r in user.state(progress=False).rejects.to_pylist()]


def test_a_frame_half_written_is_not_seen_and_the_next_change_names_it(user, vault):
    vault.store_memory("c", "x", id="m1")
    add_bytes(user, b'{"timestamp":"2025-07-07T12:00:00.000000Z","event":{"Update":{"id":"m1","access_c')
    assert vault.get("m1")["access_count"] == 0
    assert vault.recall("m1")["access_count"] == 1
    assert vault.recall("m1")["access_count"] == 2
    assert user.state(progress=False).rejects["class"].to_pylist() == ["torn"]
    assert_agrees(vault)
    assert_agrees(open_vault(user, vault._clock))


def test_a_frame_that_is_finished_later_is_seen_then(user, vault):
    vault.store_memory("c", "x", id="m1")
    whole = log_of(user).read_bytes()
    user.append_many([Update(SolitonMemory(id="m1", amplitude=0.25)), Insert(SolitonMemory(id="m2"))])
    data = log_of(user).read_bytes()
    for cut in range(len(whole), len(data), 37):
        log_of(user).write_bytes(data[:cut])
        vault = open_vault(user, vault._clock)
        assert [memory["id"] for memory in vault] == ["m1"]
        add_bytes(user, data[cut:])
        assert [memory["id"] for memory in vault] == ["m1", "m2"]
        assert_agrees(vault)


def test_a_new_day_goes_on_where_the_old_one_ended(tmp_path, user, vault, clock):
    other = open_vault(user_at(tmp_path, clock), clock)
    vault.store_memory("c", "x", id="m1")
    assert "m1" in other
    for _ in range(3):
        clock.now += DAY
        vault.recall("m1")
        other.recall("m1")
    assert segment_days(user.root) == ["20250707", "20250708", "20250709", "20250710"]
    assert vault.get("m1")["access_count"] == 6
    assert_agrees(other)
    add_bytes(user, b'{"timestamp":"2025-07-10T12:00:00Z","event":{"De', "20250710")
    clock.now += DAY
    assert other.recall("m1")["access_count"] == 7
    assert vault.recall("m1")["access_count"] == 8
    assert_agrees(vault)


def test_lines_added_to_an_earlier_day_are_applied_where_they_stand(user, vault, clock):
    vault.store_memory("c", "x", id="m1")
    clock.now += DAY
    vault.update("m1", mode="Dark")
    add_bytes(user, b'{"Update":{"id":"m1","mode":"Bright","content":"late"}}\n')
    assert (vault.recall("m1")["mode"], vault.get("m1")["content"]) == ("Dark", "late")
    assert_agrees(vault)


def test_an_empty_segment_and_one_that_went_cost_no_new_reading(user, vault, clock, monkeypatch):
    vault.store_memory("c", "x", id="m1")
    clock.now += 2 * DAY
    log_of(user, "20250708").touch()
    vault.recall("m1")
    user.checkpoint(progress=False)
    vault = open_vault(user, clock)
    monkeypatch.setattr(SolitonVault, "_open", None)
    for count in (2, 3):
        assert vault.recall("m1")["access_count"] == count
    log_of(user).unlink()
    vault.refresh()
    assert vault.recall("m1")["access_count"] == 4
    vault.refresh()
    assert not vault._log.has_changed(older=True)


def test_a_segment_that_was_replaced_is_read_anew(user, vault):
    for number in range(3):
        vault.store_memory("c", "x", id=f"m{number}")
    lines = log_of(user).read_bytes().splitlines(keepends=True)
    user.store.close()
    log_of(user).unlink()
    log_of(user).write_bytes(b"".join(lines[:2]))
    assert [memory["id"] for memory in vault] == ["m0", "m1"]
    assert_agrees(vault)


def test_a_checkpoint_changes_nothing_for_an_open_vault(tmp_path, user, vault, clock):
    other = open_vault(user_at(tmp_path, clock), clock)
    for number in range(5):
        vault.store_memory("c", "x" * 300, id=f"m{number}")
    user.checkpoint(progress=False)
    for one in (vault, other, open_vault(user, clock)):
        one.recall("m1")
        assert_agrees(one)
    user.checkpoint(progress=False)
    late = open_vault(user, clock)
    clock.now += DAY
    assert late.recall("m1")["access_count"] == vault.recall("m1")["access_count"] - 1 == 4
    assert_agrees(late)


# Damage


def test_opening_over_damage_names_the_places_until_they_are_accepted(user, vault, clock):
    vault.store_memory("c", "x", id="m1")
    places = []
    for junk in (b"junk\n", b"more junk\n"):
        places.append(f"wal-{TODAY}.log:{log_of(user).stat().st_size}")
        add_bytes(user, junk)
        vault.accept(places)
        vault.recall("m1")
    with pytest.raises(DamageFound) as found:
        open_vault(user, clock)
    assert all(place in str(found.value) for place in places)
    with pytest.raises(DamageFound) as found:
        open_vault(user, clock, accept=places[:1])
    assert places[1] in found.value.message and places[0] not in found.value.message
    again = open_vault(user, clock, accept=places)
    assert again.recall("m1")["access_count"] == 3
    assert_agrees(again)
    with pytest.raises(BadEvent, match="no place"):
        open_vault(user, clock, accept=["everything"])


def test_damage_met_later_stops_reads_and_changes_and_writes_nothing(user, vault):
    vault.store_memory("c", "x", id="m1")
    place = log_of(user).stat().st_size
    add_bytes(user, b"junk\n")
    user.append(Update(SolitonMemory(id="m1", mode="Dark")))
    size = log_of(user).stat().st_size
    for act in (vault.recall, vault.get, vault.refresh, lambda id: list(vault)):
        with pytest.raises(DamageFound, match=f"wal-{TODAY}.log:{place}"):
            act(*["m1"] if act != vault.refresh else [])
    assert log_of(user).stat().st_size == size
    vault.accept([f"wal-{TODAY}.log:{place}"])
    assert vault.recall("m1")["mode"] == "Dark"


def test_a_change_that_could_not_be_synced_fails_and_the_vault_goes_on_when_reopened(tmp_path, clock):
    user = user_at(tmp_path, clock, FailingFiles(kind="sync", nth=3, name="wal-*"))
    vault = open_vault(user, clock)
    vault.store_memory("c", "x", id="m1")
    vault.recall("m1")
    with pytest.raises(WriteFailed):
        vault.recall("m1")
    with pytest.raises(WalPoisoned):
        vault.recall("m1")
    assert vault.get("m1")["access_count"] == 2  # in the log, if not known to be on disk
    user.store.close()
    assert vault.recall("m1")["access_count"] == 3
    assert_agrees(vault)


# Threads and processes

RECALL = """
import sys, threading, meshlab
vault, count = meshlab.open(sys.argv[1])["ann"].vault(), int(sys.argv[2])
def work():
    for _ in range(count):
        vault.recall("m1")
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""

KILLED = """
import json, os, random, signal, sys, meshlab
import meshlab.vault, meshlab.replay, pyarrow.compute, tqdm.auto
rng, acked = random.Random(20250707), {}
def use(pipe):
    vault = meshlab.open(sys.argv[1])["ann"].vault()
    for id, count in acked.items():
        found = vault.get(id)
        assert found is not None and found["access_count"] >= count, (id, count, found)
    while True:
        id = vault.store_memory("c", "x" * rng.randrange(1, 2000))
        os.write(pipe, f"{id} 0\\n".encode())
        for _ in range(rng.randrange(5)):
            id = rng.choice([memory["id"] for memory in vault])
            os.write(pipe, f"{id} {vault.recall(id)['access_count']}\\n".encode())
for round in range(int(sys.argv[2])):
    out, pipe = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        try:
            use(pipe)
        except BaseException as error:
            os.write(2, repr(error).encode())
        os._exit(1)
    os.close(pipe)
    lines = open(out)
    said = [lines.readline() for _ in range(rng.randrange(1, 15))]
    os.kill(child, signal.SIGKILL)
    said += lines.readlines()
    lines.close()
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "the child failed"
    for line in said:
        if line.endswith("\\n"):
            id, count = line.split()
            acked[id] = max(acked.get(id, 0), int(count))
print(json.dumps(acked))
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
    )


def test_two_processes_of_four_threads_recall_one_memory_and_no_recall_is_lost(tmp_path):
    each = 20
    user = meshlab.open(tmp_path / "store")["ann"]
    vault = user.vault()
    vault.store_memory("c", "x", 0.25, id="m1")
    processes = [start(RECALL, tmp_path / "store", each) for _ in range(2)]
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    amplitude, stability = 0.5, 0.8
    for _ in range(8 * each):
        amplitude, stability = min(1.01 * amplitude, 2.0), min(1.005 * stability, 1.0)
    memory = vault.get("m1")
    assert (memory["access_count"], memory["amplitude"], memory["stability"]) == (8 * each, amplitude, stability)
    assert_agrees(vault)


def test_every_acknowledged_call_survives_kill_9(tmp_path):
    rounds = 10
    process = start(KILLED, tmp_path / "store", rounds)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    acked = json.loads(out)
    vault = meshlab.open(tmp_path / "store")["ann"].vault()
    assert acked and all(vault.get(id)["access_count"] >= count for id, count in acked.items())
    assert_agrees(vault)
    print(f"kills: {rounds} (seed 20250707), memories acknowledged: {len(acked)}, stored: {len(vault)}")


def test_readers_never_see_half_a_change(user, vault, clock):
    vault.store_memory("c", "0", id="m1", position=0.0)
    other = open_vault(user, clock)
    stop, seen, failures = threading.Event(), set(), []

    def read(one):
        try:
            while not stop.is_set():
                for memory in (one.get("m1"), next(iter(one)), one.by_concept("c")[0]):
                    assert memory["content"] == str(int(memory["position"])) == str(memory["extra"]["deep"][0])
                    assert memory["emotional_signature"]["valence"] == memory["position"]
                    seen.add(memory["content"])
        except Exception as error:
            failures.append(error)

    def change(one, first):
        for number in range(first, 120, 2):
            one.update("m1", **fields(number))

    def fields(number):
        signature = {"valence": float(number)}
        extra = {"extra": {"deep": [number]}}
        return {"content": str(number), "position": number, "emotional_signature": signature, "extra": extra}

    vault.update("m1", **fields(0))
    readers = [threading.Thread(target=read, args=(one,)) for one in (vault, other)]
    writers = [threading.Thread(target=change, args=pair) for pair in ((vault, 0), (other, 1))]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join(60)
    stop.set()
    for thread in readers:
        thread.join(60)
    assert failures == []
    assert len(seen) > 1
    assert_agrees(other)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_a_mutex_of_its_own(user, vault):
    vault.store_memory("c", "x", id="m1")
    with vault._mutex:  # as another thread of the parent may hold it
        child = os.fork()
        if child == 0:
            try:
                os._exit(int(vault.recall("m1")["access_count"] != 1))
            except BaseException:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
    assert vault.recall("m1")["access_count"] == 2


# Agreement

some_ids = st.sampled_from(["m1", "m2", "m3", "ψ"])
odd_fields = st.fixed_dictionaries(
    {},
    optional={
        "amplitude": st.sampled_from([0.5, -0.0, 3, "loud", None, [1]]),
        "access_count": st.sampled_from([0, (1 << 64) - 1, -1, 1 << 64, 1.5, None]),
        "content": st.sampled_from(["", "ψ", 5, None]),
        "concept_id": st.sampled_from(["c1", "c2", 7]),
        "vault_status": st.sampled_from(["Active", "UserSealed", "Gone"]),
        "emotional_signature": st.sampled_from([{}, {"valence": 1, "trauma_indicators": ["a"]}, {"other": 1}]),
        "theme": st.sampled_from(["dark", None, {"z": [1, 1.0], "a": 1 << 70}]),
        'na"me': st.sampled_from([1, 2.0]),
    },
)


@st.composite
def foreign_lines(draw):
    """A line by a program that knows nothing of locks."""
    tag = draw(st.sampled_from(["Insert", "Update", "Update", "Delete", "Note"]))
    id = draw(some_ids)
    event = {tag: id if tag == "Delete" else {"id": id} | draw(odd_fields)}
    dialect = draw(st.sampled_from(["bare", "gateway"]))
    line = event if dialect == "bare" else {"timestamp": "2025-07-07T08:00:00", "event": event}
    return json.dumps(line).encode() + draw(st.sampled_from([b"\n", b"\n", b"\r\n\n", b""]))


steps = st.one_of(
    st.tuples(st.sampled_from(["store", "recall", "recall", "update", "seal", "unseal", "delete", "day"]), some_ids),
    st.tuples(st.just("append"), strategies.batches(3)),
    st.tuples(st.just("foreign"), foreign_lines()),
    st.tuples(st.just("read"), some_ids),
)


def act(vault, clock, step, subject):
    try:
        if step == "store":
            vault.store_memory(f"concept of {subject}", subject, id=subject)
        elif step == "update":
            vault.update(subject, mode="Dark", extra={"theme": 1})
        elif step == "append":
            vault.user.append_many(subject)
        elif step == "foreign":
            add_bytes(vault.user, subject if vault.user.root.is_dir() else b"", segment_days(vault.user.root)[-1])
        elif step == "day":
            clock.now += DAY // 2
        elif step == "read":
            vault.get(subject)
        else:
            getattr(vault, step)(subject)
    except (NotFound, BadEvent):
        pass


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2), steps), max_size=15), st.booleans())
def test_vaults_agree_with_the_state_whatever_happens(tmp_path_factory, history, glances):
    path, clock = tmp_path_factory.mktemp("vaults"), Clock()
    users = [user_at(path, clock) for _ in range(3)]
    users[0].append(Delete("first"))
    vaults = [open_vault(user, clock) for user in users]
    with pytest.MonkeyPatch.context() as patch:
        if not glances:
            patch.setattr(follow, "_GLANCE", -1)
        for number, (step, subject) in history:
            try:
                act(vaults[number], clock, step, subject)
            except DamageFound:  # lines without a newline glue what follows to themselves
                for vault in vaults:
                    vault.accept(reject_places(users[0]))
        for vault in vaults:
            vault.accept(reject_places(users[0]))
            assert_agrees(vault)
    assert_agrees(open_vault(users[0], clock, accept=reject_places(users[0])))


# The functions of phase 1


def test_store_memory_writes_to_the_default_store(tmp_path, monkeypatch):
    monkeypatch.setenv("MESH_STORE", str(tmp_path / "store"))
    id = meshlab.store_memory("ann", "concept:sea", "sixteen letters.", 0.25, content_type="GeneratedInsight")
    (memory,) = meshlab.replay_wal("ann").values()
    assert (memory["id"], memory["amplitude"], memory["width"]) == (id, 0.5, 0.25)
    assert memory["content_type"] == "GeneratedInsight"
    with pytest.raises(BadEvent):
        meshlab.store_memory("bob", "concept:sea", "", 0.25)
    assert meshlab.open().users() == ["ann"]
    assert meshlab.open()["ann"].vault().recall(id)["access_count"] == 1
