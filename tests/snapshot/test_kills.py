"""A checkpoint or vacuum that is killed anywhere leaves the store as before or after."""

from __future__ import annotations

import pytest

from meshlab.snapshot.manifest import history, history_path
from meshlab.snapshot.vacuum import YOUNG
from meshlab.times import SECOND
from scoreboard.stories import (
    MAP,
    aged,
    checkpoint,
    first,
    killed,
    merging,
    names,
    state,
    temporary,
    unreferenced,
    update,
    upgrade,
    upgrading,
    vacuum,
)


@pytest.mark.parametrize(("story", "act"), [(first, checkpoint), (merging, checkpoint), (upgrading, upgrade)])
def test_a_checkpoint_killed_at_any_operation_leaves_the_store_as_before_or_after(tmp_path, story, act):
    made = story(tmp_path / "made" / "u")
    expected, generations, count = state(made.root), set(), 0
    for point, shop in killed(made.root, tmp_path, act):
        assert state(shop.root) == expected, point
        act(shop, shop.files)
        assert temporary(shop.root) == [], point
        shop.crash(point)
        assert state(shop.root) == expected, f"what the next checkpoint made is durable, {point}"
        assert all(not entry.problem for entry in history(shop.root, "u"))
        if story is upgrading:
            assert history_path(shop.root, 0).read_bytes() == MAP
        generations.add(shop.manifest.generation)
        count += 1
    print(f"{story.__name__}: killed at {count} operations")
    assert count > 15
    assert len(generations) == 1, "a checkpoint that was killed does not count"


def test_a_vacuum_killed_at_any_operation_loses_nothing_and_applies_nothing_twice(tmp_path):
    made = aged(tmp_path / "made" / "u")
    expected, count, left = state(made.root), 0, set()
    for point, shop in killed(made.root, tmp_path, vacuum, now=made.now):
        assert state(shop.root) == expected, point
        shop.append(update("last", mode="Dark"))
        after = state(shop.root)
        shop.vacuum()
        assert state(shop.root) == after, point
        shop.now += YOUNG + SECOND
        shop.vacuum()
        assert (temporary(shop.root), unreferenced(shop.root)) == ([], []), point
        shop.crash(point)
        assert state(shop.root) == after, point
        left.add(tuple(name for name in names(shop.root) if name.startswith("wal-")))
        count += 1
    print(f"vacuum: killed at {count} operations")
    assert count > 15
    assert len(left) == 1, "the same segments are gone in the end"
