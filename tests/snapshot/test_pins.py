"""Pins: a checkpoint that a vacuum leaves alone."""

from __future__ import annotations

import pytest

from meshlab.errors import CheckpointBusy, MeshlabError
from meshlab.replay import replay, windows
from meshlab.snapshot.base import Base
from meshlab.snapshot.checkpoint import locked
from meshlab.snapshot.manifest import current, history, history_path, read_manifest
from meshlab.snapshot.pins import pin, pin_path, pinned, unpin
from meshlab.testing import ForgetfulFiles
from scoreboard.stories import LONG, NOON, Shop, insert, killed, names, state, temporary, unreferenced, update


@pytest.fixture
def shop(tmp_path):
    return aged(tmp_path / "mesh" / "u")


def aged(root):
    """Checkpoints of days that are long over."""
    shop = Shop(root, now=NOON)
    shop.append(insert("m0", LONG), insert("m1", LONG * 2))
    shop.checkpoint(retain=1)
    for number in range(5):
        shop.later()
        shop.append(update("m0", content=LONG + str(number)), {"Delete": "m1"})
        shop.checkpoint()
    shop.close()
    return shop


def kept(shop):
    return [entry.generation for entry in history(shop.root, "u")]


def test_a_pinned_checkpoint_outlives_every_vacuum_and_goes_when_it_is_unpinned(shop):
    pin(shop.root, 1, "what was migrated")
    first = history_path(shop.root, 1).read_bytes()
    before = replay(shop.root, "u", NOON, progress=False).to_pylist()
    for _ in range(2):
        shop.later()
        report = shop.vacuum()
    fates = {fate.name: fate for fate in report.history}
    assert not fates["00000001.bin"].goes
    assert fates["00000001.bin"].reason == "pinned: what was migrated"
    assert {"a pinned snapshot refers to it"} <= {fate.reason for fate in report.layers}
    assert 2 not in kept(shop)
    assert history_path(shop.root, 1).read_bytes() == first
    assert Base.open(shop.root, read_manifest(history_path(shop.root, 1), "u")).state().num_rows == 2
    assert replay(shop.root, "u", NOON, progress=False).to_pylist() == before
    unpin(shop.root, 1)
    shop.vacuum()
    assert 1 not in kept(shop)
    assert unreferenced(shop.root) == []


def test_a_pin_says_why_and_can_be_set_and_taken_twice(shop):
    assert pinned(shop.root) == {}
    pin(shop.root, 1, "first")
    pin(shop.root, 1, "ψ, again")
    pin(shop.root, 3, "third")
    assert pinned(shop.root) == {1: "ψ, again", 3: "third"}
    for _ in range(2):
        unpin(shop.root, 1)
    assert pinned(shop.root) == {3: "third"}


def test_the_checkpoint_in_force_can_be_pinned_before_it_is_in_history(tmp_path):
    shop = Shop(tmp_path / "mesh" / "u")
    shop.append(insert("m1"))
    shop.checkpoint()
    pin(shop.root, 1, "the newest")
    assert pinned(shop.root) == {1: "the newest"}
    assert [entry.generation for entry in history(shop.root, "u")] == [0], "a pin is no snapshot"
    shop.append(insert("m2"))
    assert shop.checkpoint().generation == 2


@pytest.mark.parametrize("number", [-1, 0, 99])
def test_only_a_checkpoint_that_is_there_is_pinned(shop, number):
    with pytest.raises(MeshlabError, match=f"no checkpoint {number} to pin"):
        pin(shop.root, number, "why not")
    assert pinned(shop.root) == {}


def test_a_user_without_a_snapshot_has_no_pins(tmp_path):
    assert pinned(tmp_path) == {}
    unpin(tmp_path, 1)
    with pytest.raises(MeshlabError, match="no checkpoint 1"):
        pin(tmp_path, 1, "why not")
    (tmp_path / "snapshot.bin").write_bytes(b"\0" * 8)
    with pytest.raises(MeshlabError, match="no checkpoint 1"):
        pin(tmp_path, 1, "why not")


def test_a_pin_waits_for_no_vacuum(shop):
    with locked(shop.root, ForgetfulFiles()):
        for act in (lambda: pin(shop.root, 1, "now"), lambda: unpin(shop.root, 1)):
            with pytest.raises(CheckpointBusy):
                act()


def test_a_pin_changes_no_window(shop):
    before = windows(shop.root, "u")
    pin(shop.root, 1, "kept")
    assert windows(shop.root, "u") == before
    assert current(shop.root, "u").generation == 6


def pinning(shop, files):
    pin(shop.root, 1, "kept", files)


def unpinning(shop, files):
    unpin(shop.root, 1, files)


@pytest.mark.parametrize(("act", "last"), [(pinning, {1: "kept"}), (unpinning, {})])
def test_a_pin_killed_at_any_operation_is_there_or_not(tmp_path, act, last):
    made = aged(tmp_path / "made" / "u")
    if act is unpinning:
        pin(made.root, 1, "kept")
    expected, found = state(made.root), []
    for point, shop in killed(made.root, tmp_path, act, now=made.now):
        found.append(pinned(shop.root))
        assert state(shop.root) == expected, point
        act(shop, shop.files)
        shop.crash(point)
        assert pinned(shop.root) == last, f"it is durable, {point}"
        assert temporary(shop.root) == [], point
        assert (pin_path(shop.root, 1).name in names(shop.root / "history")) == bool(last)
    assert {} in found
    assert {1: "kept"} in found
