"""A checkpoint or vacuum that is killed anywhere leaves the store as before or after."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from meshlab.snapshot.bincode import write_bincode
from meshlab.snapshot.layers import FAN
from meshlab.snapshot.manifest import history, history_path
from meshlab.snapshot.vacuum import YOUNG
from meshlab.tables.seal import seal
from meshlab.times import DAY, SECOND

from .stories import LONG, NOON, Shop, insert, killed, names, state, temporary, unreferenced, update

EXPECTED = Path(__file__).parents[1] / "data" / "phase1-expected.json"
MAP = write_bincode(islice(json.loads(EXPECTED.read_text(encoding="utf-8")).popitem()[1].values(), 3))


def first(root):
    """A log nobody has folded yet."""
    shop = Shop(root, now=NOON - DAY)
    shop.append(insert("m1", LONG), insert("m2", LONG), insert("m3", "short", amplitude=0.5))
    shop.foreign({"Insert": {"id": "m4", "access_count": "many"}})
    shop.later()
    shop.append(update("m1", amplitude=0.25), {"Delete": "m2"}, update("nobody", mode="Dark"))
    shop.close()
    return shop


def second(root):
    """A log with a checkpoint, and something behind it."""
    shop = first(root)
    shop.checkpoint()
    shop.append(update("m3", content=LONG * 2), insert("m5", LONG), {"Delete": "m4"})
    shop.foreign({"Delete": "m1"}, day="20250706")
    shop.close()
    return shop


def merging(root):
    """Layers so many that the next checkpoint merges them."""
    shop = second(root)
    for number in range(FAN // 2):
        shop.append(insert(f"n{number}", LONG + str(number)), {"Delete": f"n{number - 2}"})
        shop.checkpoint()
    shop.append(update("n3", mode="Dark"))
    shop.close()
    return shop


def upgrading(root):
    """A store of phase 1."""
    root.mkdir(parents=True)
    (root / "snapshot.bin").write_bytes(MAP)
    shop = Shop(root)
    shop.foreign({"Insert": {"id": "m1", "content": LONG}})
    return shop


def aged(root):
    """Sealed days that no moment of the window needs any more."""
    shop = Shop(root, now=NOON)
    for number in range(2):
        shop.append(*(insert(f"m{number}{n}", f"{LONG}{number}{n}") for n in range(2)), update("m00", amplitude=0.5))
        shop.checkpoint(retain=1)
        shop.later()
    shop.append({"Delete": "m00"}, {"Delete": "m01"}, insert("last"))
    for _ in range(2):
        shop.later()
        shop.append(update("last", amplitude=shop.now / DAY))
        shop.checkpoint()
    shop.close()
    seal(root, "u", files=shop.files)
    return shop


def checkpoint(shop, files, **options):
    shop.checkpoint(files, **options)


def upgrade(shop, files):
    checkpoint(shop, files, upgrade=True)


def vacuum(shop, files):
    shop.vacuum(files)


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
