"""What was pushed comes back: every byte, every state, every moment."""

import json
import shutil
import struct
from pathlib import Path
from random import Random

import pytest

import meshlab
from meshlab.errors import NotRestorable
from meshlab.remote.bucket import FolderBucket, MemoryBucket
from meshlab.remote.remote import Remote
from meshlab.times import format_time, from_datetime
from scoreboard.sites import LONG, NOON, SECOND, Site, files_of, grow, hash_of, insert, update

SAMPLES = Path(__file__).resolve().parents[2] / "data" / "samples"
PHASE1 = sorted(path.name for path in (SAMPLES / "phase1").iterdir() if path.is_dir())
EXPECTED = Path(__file__).resolve().parents[1] / "data" / "phase1-expected.json"


def bits(value):
    """The value with floats as their bits: equal means the same to the last one."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, dict):
        return {name: bits(item) for name, item in value.items()}
    return [bits(item) for item in value] if isinstance(value, list) else value


def round_trip(store, bucket, tmp_path):
    """Push all users of a store, pull them into another."""
    assert {user.status for user in Remote(store, bucket).push(progress=False).users} == {"pushed"}
    report = Remote(tmp_path / "copy", bucket).pull(progress=False)
    assert {user.status for user in report.users} == {"pulled"}, [user.error for user in report.users]
    return tmp_path / "copy"


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """The sample store, one user with a checkpoint and one with sealed copies; and the state hashes of all."""
    path = tmp_path_factory.mktemp("samples") / "store"
    shutil.copytree(SAMPLES / "store", path)
    store = meshlab.open(path)
    store["ada"].checkpoint(progress=False)
    store["bela"].seal()
    return store, {uid: hash_of(path / uid) for uid in store.users()}


def test_the_sample_store_comes_back_byte_for_byte(samples, tmp_path, bucket):
    store, states = samples
    copy = round_trip(store.path, bucket, tmp_path)
    assert meshlab.open(copy).users() == store.users()
    for uid, state in states.items():
        assert files_of(copy / uid) == files_of(store.path / uid)
        assert hash_of(copy / uid) == state


def test_the_users_of_phase_1_come_back_before_and_after_their_upgrade(tmp_path):
    shutil.copytree(SAMPLES / "phase1", tmp_path / "store", ignore=shutil.ignore_patterns("mesh_snapshot.bin"))
    store = meshlab.open(tmp_path / "store")
    before = round_trip(tmp_path / "store", MemoryBucket(), tmp_path / "before")
    for uid in store.users():
        assert files_of(before / uid) == files_of(tmp_path / "store" / uid)
        store[uid].checkpoint(upgrade=True, progress=False)
        store[uid].append({"Insert": {"id": "after the upgrade"}})
    after = round_trip(tmp_path / "store", MemoryBucket(), tmp_path / "after")
    assert store.users() == PHASE1
    for uid in store.users():
        assert files_of(after / uid) == files_of(tmp_path / "store" / uid)
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
    assert sorted(expected) == PHASE1
    compared = 0
    for uid, records in expected.items():
        as_before = {record["id"]: record for record in meshlab.open(before)[uid].state(progress=False).to_pylist()}
        restored = {record["id"]: record for record in meshlab.open(after)[uid].state(progress=False).to_pylist()}
        assert restored.pop("after the upgrade") == {"id": "after the upgrade"}
        for found in (as_before, restored):
            assert found.keys() == records.keys()
            for id, record in records.items():
                assert found[id].keys() == record.keys(), (uid, id)
                for field, value in record.items():
                    assert bits(found[id][field]) == bits(value), (uid, id, field)
                    compared += 1
    print(f"{compared} fields of {2 * sum(map(len, expected.values()))} records are as phase 1 expected")
    assert compared == 17 * 2 * 382


def test_a_restored_user_goes_on_where_the_log_was(tmp_path):
    site = Site(tmp_path / "store", MemoryBucket())
    site.append(insert("m1"))
    site.push()
    other = Site(tmp_path / "copy", site.remote.bucket.inner, now=site.now)
    other.pull()
    receipt = other.append(update("m1", amplitude=0.5))
    assert receipt.last_seq == 2
    assert meshlab.open(other.path)["ann"].verify(progress=False).damage == []
    assert other.push().status == "pushed"
    assert site.push().status == "nothing new"
    site.append(insert("m2"))
    assert site.push().status == "pushed"
    assert site.push().forks


@pytest.mark.parametrize("seed", [7])
def test_ten_moments_of_the_sample_store_are_those_of_the_original(samples, tmp_path, seed):
    store, bucket = samples[0], MemoryBucket()
    Remote(store.path, bucket).push("ada", progress=False)
    moments = store["ada"].events(columns=["effective_ts"], progress=False).to_arrow()["effective_ts"].cast("int64")
    random = Random(seed)
    chosen = sorted(random.sample(moments.to_pylist(), 8) + [moments[0].as_py() - 1, moments[-1].as_py()])
    for at in chosen:
        folder = tmp_path / str(at)
        (user,) = Remote(folder, bucket).pull("ada", at=at, progress=False).users
        assert user.status == "pulled", user
        assert hash_of(folder / "ada") == hash_of(store.path / "ada", at), format_time(at)
        assert meshlab.open(folder)["ada"].verify(progress=False).damage == []
    print(f"seed {seed}: {len(chosen)} moments of ada")


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    """A life with checkpoints and vacuums, pushed after every step: the machine, and its moments with their states."""
    site = Site(tmp_path_factory.mktemp("life") / "store", MemoryBucket())
    told = []
    for step in range(10):
        grow(site, step)
        site.push()
        told.append((site.now, site.state()))
    return site, told


def test_moments_that_a_vacuum_has_retired_come_from_an_older_image(life, tmp_path):
    site, told = life
    for number, (moment, state) in enumerate(told):
        copy = Site(tmp_path / str(number), site.remote.bucket.inner)
        user = copy.pull(at=moment)
        assert (user.status, copy.state()) == ("pulled", state), (number, user)
    with pytest.raises(NotRestorable):
        site.state(at=told[0][0])


def test_of_the_newest_image_alone_those_moments_come_back_that_the_original_has(life, tmp_path):
    site, told = life
    bucket = MemoryBucket()
    Remote(site.path, bucket, clock=lambda: site.now).push(progress=False)
    (window,) = Remote(site.path, bucket).windows("ann")
    assert "deleted by vacuum" in window.hole_before
    restored = 0
    for number, (moment, state) in enumerate(told):
        copy = Site(tmp_path / str(number), bucket)
        user = copy.pull(at=moment)
        if moment < from_datetime(window.start):
            assert user.kind == "NotRestorable"
            continue
        assert (user.status, copy.state()) == ("pulled", state), (number, user)
        assert site.state(at=moment) == state
        restored += 1
    print(f"{restored} of {len(told)} moments, the others retired by a vacuum")
    assert 3 <= restored < len(told)


def test_a_place_in_the_log_comes_back_and_one_inside_a_batch_does_not(tmp_path):
    site = Site(tmp_path / "store", MemoryBucket())
    site.append(insert("m1"))
    batch = site.append(insert("m2"), insert("m3"), insert("m4"))
    site.append(insert("m5"))
    site.push()
    events = meshlab.open(site.path)["ann"].events(columns=["segment", "offset"], progress=False).to_pylist()
    places = [f"{event['segment']}:{event['offset']}" for event in events]
    ids = {0: ["m1"], 3: ["m1", "m2", "m3", "m4"], 4: ["m1", "m2", "m3", "m4", "m5"]}
    for number, place in enumerate(places):
        copy = Site(tmp_path / str(number), site.remote.bucket.inner)
        user = copy.pull(at=place)
        if number in ids:
            assert [record["id"] for record in meshlab.open(copy.path)["ann"].state().to_pylist()] == ids[number]
        else:
            assert (user.status, user.kind) == ("failed", "NotRestorable"), batch
            assert "inside a batch" in user.error
            assert not copy.root.exists()


def test_a_moment_after_the_last_push_is_not_restorable(tmp_path):
    site = Site(tmp_path / "store", MemoryBucket())
    site.append(insert("m1"))
    site.push()
    copy = Site(tmp_path / "copy", site.remote.bucket.inner)
    assert "after the last push" in copy.pull(at=site.now + 1).error
    assert copy.pull(at=site.now).status == "pulled"


def test_late_lines_by_a_program_without_the_lock_keep_their_place(tmp_path):
    site = Site(tmp_path / "store", MemoryBucket())
    site.append(insert("m1", amplitude=0.1))
    first = site.root / "wal-20250707.log"
    site.later()
    site.append(insert("m2"))
    site.checkpoint()
    with first.open("ab") as log:
        log.write(b'{"Update":{"id":"m1","amplitude":0.9}}\n')
    site.append(update("m2", amplitude=0.2))
    site.checkpoint()
    site.push()
    copy = Site(tmp_path / "copy", site.remote.bucket.inner)
    copy.pull()
    assert copy.state() == site.state()
    assert files_of(copy.root) == files_of(site.root)
    for number, window in enumerate(meshlab.open(site.path)["ann"].windows()):
        at = window.start or NOON + 2 * SECOND
        old = Site(tmp_path / f"at{number}", site.remote.bucket.inner)
        assert old.pull(at=at).status == "pulled"
        assert old.state() == site.state(at=at)


def test_a_large_file_goes_in_blocks_and_comes_back(tmp_path, monkeypatch):
    for module in ("image", "blocks"):
        monkeypatch.setattr(f"meshlab.remote.{module}.BLOCK", 1000)
    site = Site(tmp_path / "store", MemoryBucket())
    site.append(*[insert(f"m{number}", LONG) for number in range(40)])
    site.checkpoint()
    site.append(insert("m40", LONG))
    assert site.push().blocks > 15
    assert max(found.nbytes for found in site.remote.bucket.list("data/")) == 1000
    copy = Site(tmp_path / "copy", site.remote.bucket.inner)
    assert copy.pull().status == "pulled"
    assert files_of(copy.root) == files_of(site.root)


def test_the_store_has_a_door_to_its_bucket(tmp_path):
    (tmp_path / "bucket").mkdir()
    store = meshlab.open(tmp_path / "store")
    store["ann"].append({"Insert": {"id": "m1"}})
    remote = store.remote(str(tmp_path / "bucket"))
    assert [user.status for user in remote.push(progress=False).users] == ["pushed"]
    assert remote.users() == ["ann"]
    assert isinstance(remote.bucket.inner, FolderBucket)
