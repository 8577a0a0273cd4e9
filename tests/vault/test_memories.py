"""What a memory is, what may be said of one, and the functions of phase 1."""

from __future__ import annotations

import math

import pytest

import meshlab
from meshlab.errors import BadEvent, NotFound
from meshlab.records import FIELDS, EmotionalSignature
from meshlab.times import format_time

from .desk import add_bytes, assert_agrees, log_of, open_vault


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
