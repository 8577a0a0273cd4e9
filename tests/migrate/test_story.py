"""The whole way on the files of the real older program: there, a thousand appends, and back."""

import json
import shutil
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

import meshlab
from meshlab import migrate
from meshlab.replay import replay
from meshlab.snapshot.bincode import read_bincode
from meshlab.snapshot.state import json_forms

PHASE1 = Path(__file__).resolve().parents[2] / "data" / "samples" / "phase1"
EXPECTED = json.loads((Path(__file__).parents[1] / "data" / "phase1-expected.json").read_text(encoding="utf-8"))
OWNER = "15009280-3996-4b8e-ae6d-36c44a9ce5d9"
SEED = 20250707


def by_single_file(folder):
    """``mesh_snapshot.bin``, the plan's arguments, and what its user holds."""
    path = Path(shutil.copy(PHASE1 / "mesh_snapshot.bin", folder / "mesh_snapshot.bin"))
    return {"source": path, "user": "ann"}, {"ann": EXPECTED[OWNER]}, {"ann": path}


def by_store(folder):
    """The phase-1 store, without the single file that stands beside the users."""
    root = shutil.copytree(PHASE1, folder / "old", ignore=shutil.ignore_patterns("mesh_snapshot.bin"))
    return {"source": root}, EXPECTED, {uid: root / uid for uid in EXPECTED}


def changes(records, random):
    """A thousand events of every kind on whole records, and what is left when they have happened, by a plain dict."""
    now, events = dict(records), []
    for number in range(1000):
        kind, id = random.choice("iuuuud"), random.choice(sorted(now))
        if kind == "i":
            made = {**now[id], "id": f"new-{number}", "content": f"written later, {number} " * (number % 40)}
            now[made["id"]] = made
            events.append({"Insert": made})
        elif kind == "u":
            given = {"amplitude": random.random(), "access_count": number}
            now[id] = now[id] | given
            events.append({"Update": {"id": id, **given}})
        else:
            del now[id]
            events.append({"Delete": id})
    return events, now


def read_as_phase_1(path):
    """What the older program sees: the map, and the log over it if there is one."""
    if path.is_dir():
        return {one["id"]: one for one in replay(path, path.name, progress=False).to_pylist()}
    table = pa.Table.from_batches(read_bincode(path, progress=False))
    return {one["id"]: one for one in json_forms(table)}


@pytest.mark.parametrize("layout", [by_single_file, by_store])
def test_users_go_there_take_a_thousand_appends_and_come_back_right(tmp_path, layout):
    asked, expected, legacy = layout(tmp_path)
    store = meshlab.open(tmp_path / "store")
    plan = migrate.make_plan(store=store.path, progress=False, **asked)
    rehearsal = migrate.rehearse(plan, jobs=1, progress=False)
    assert rehearsal.passed
    assert not migrate.apply(plan, rehearsal=rehearsal, jobs=1, progress=False).failed
    assert {uid: {one["id"]: one for one in store[uid].state().to_pylist()} for uid in store.users()} == expected
    print(f"seed {SEED}")
    random, now = Random(SEED), {}
    for uid in expected:
        events, now[uid] = changes(expected[uid], random)
        for start in range(0, 1000, 50):
            store[uid].append_many(events[start : start + 50])
    store.close()
    assert migrate.verify(plan, progress=False).holds
    report = migrate.roll_back(plan, progress=False)
    assert [(user.status, user.left_over) for user in report.users] == [("rolled-back", 0)] * len(expected)
    assert {uid: read_as_phase_1(path) for uid, path in legacy.items()} == now
    assert store.users() == []
