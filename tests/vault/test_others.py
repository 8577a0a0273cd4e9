"""Other vaults, other programs, other days and damage in the log of an open vault."""

from __future__ import annotations

import pytest

from meshlab.errors import BadEvent, DamageFound, NotFound, WalPoisoned, WriteFailed
from meshlab.events import Insert, SolitonMemory, Update
from meshlab.testing import FailingFiles
from meshlab.times import DAY
from meshlab.vault import SolitonVault
from meshlab.wal.paths import segment_days

from .desk import TODAY, add_bytes, assert_agrees, log_of, open_vault, reject_places, user_at


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
