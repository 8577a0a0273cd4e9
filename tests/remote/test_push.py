"""What a push puts, what it leaves, and what it refuses."""

import os
import shutil
import threading
from random import Random

import pytest

from meshlab.errors import NotFound, RemoteRefused
from meshlab.remote.bucket import MemoryBucket
from meshlab.remote.image import parse_image_key
from meshlab.remote.line import follows, get_image, list_images
from meshlab.remote.local import look
from meshlab.testing import FailingFiles, ForgetfulFiles
from meshlab.wal.files import REAL_FILES, Files
from meshlab.wal.lock import LockFile, Poison
from meshlab.wal.writer import Writer
from scoreboard.sampling import EVERY
from scoreboard.sites import LONG, NOON, Faulty, Site, copy_of, files_of, grow, insert, restorable, update


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "store", MemoryBucket())
    made.append(insert("m1", LONG))
    return made


def keys(site, prefix="data/"):
    return {found.key for found in site.remote.bucket.list(prefix)}


def test_a_second_push_with_nothing_new_asks_once_for_all_users(site):
    for number in range(30):
        site.append(insert("m1"), uid=f"user{number}")
    first = site.remote.push(progress=False)
    second = site.remote.push(progress=False)
    assert {user.status for user in first.users} == {"pushed"}
    assert {user.status for user in second.users} == {"nothing new"}
    assert second.traffic.requests == 1
    assert first.traffic.requests <= 31 * 3 + 5


def test_only_what_is_new_is_put(site):
    site.push()
    before = keys(site)
    site.append(insert("m2", LONG))
    user = site.push()
    (new,) = keys(site) - before
    assert user.blocks == 1 and user.bytes == site.remote.bucket.traffic.bytes_put - first_bytes(site, before)
    assert new.split("/")[2] == "wal-20250707.log"
    site.checkpoint()
    before = keys(site)
    user = site.push()
    assert {key.split("/")[2] for key in keys(site) - before} == {"layers", "history"}
    assert site.push().status == "nothing new"


def first_bytes(site, before):
    put = {found.key: found.nbytes for found in site.remote.bucket.list("")}
    new = keys(site) - before
    return sum(put.values()) - sum(put[key] for key in new)


def first_images(site):
    return [get_image(site.remote.bucket, key) for key in list_images(site.remote.bucket)["ann"].keys]


def test_a_growing_segment_stays_a_few_blocks_and_is_put_a_few_times(site):
    total = 0
    for number in range(50):
        site.append(update("m1", content=f"{number} " + "x" * 700))
        total += site.push().bytes
    image = first_images(site)[-1]
    segment = image.by_name["wal-20250707.log"]
    assert len(segment.blocks) <= 21
    assert total <= 4 * segment.nbytes + 1000
    print(f"50 pushes: {len(segment.blocks)} blocks, {total / segment.nbytes:.1f} times the bytes")


def test_a_dry_run_puts_nothing_and_tells_what_a_push_then_does(site):
    site.checkpoint()
    site.append(insert("m2"))
    before = site.remote.bucket.traffic
    planned = site.push(dry_run=True)
    assert planned.status == "to push"
    assert site.remote.bucket.traffic.since(before).puts == 0
    assert not (site.path / ".meshlab" / "remote").exists()
    assert list(site.remote.bucket.list("")) == []
    done = site.push()
    assert (planned.blocks, planned.bytes, planned.requests) == (done.blocks, done.bytes, done.requests)
    assert site.push(dry_run=True).status == "nothing new"


def test_what_stands_unfinished_at_the_end_waits_for_the_next_push(site):
    log = site.root / "wal-20250707.log"
    whole = log.stat().st_size
    with log.open("ab") as file:
        file.write(b'{"timestamp":"2025-07-07T12:00:09.000000Z","event":{"Ins')
    assert site.push().status == "pushed"
    assert first_images(site)[-1].by_name[log.name].nbytes == whole
    site.append(insert("m2"))
    assert site.push().status == "pushed"
    assert first_images(site)[-1].by_name[log.name].nbytes == log.stat().st_size


def test_damage_is_refused_until_it_is_accepted_by_name(site, tmp_path):
    log = site.root / "wal-20250707.log"
    site.push()
    place = log.stat().st_size
    with log.open("ab") as file:
        file.write(b"this is no event\n")
    site.append(insert("m2"))
    user = site.push()
    assert (user.status, user.kind) == ("failed", "DamageFound")
    assert f"--accept wal-20250707.log:{place}" in user.hint
    assert len(first_images(site)) == 1
    assert site.push(accept=[f"wal-20250707.log:{place + 1}"]).status == "failed"
    assert site.push(accept=[f"wal-20250707.log:{place}"]).status == "pushed"
    site.append(insert("m3"))
    assert site.push().status == "pushed"
    assert first_images(site)[-1].accepted[0].offset == place
    assert restorable(site.remote.bucket.inner, tmp_path / "copy") == site.state()


def test_a_poisoned_log_is_not_pushed(site):
    lock = LockFile(site.root / "wal.lock", REAL_FILES)
    lock.acquire()
    lock.write_poison(Poison("20250707", 0))
    lock.close()
    user = site.push()
    assert (user.status, user.kind) == ("failed", "WalPoisoned")
    assert not keys(site)


def test_a_segment_that_cannot_be_synced_is_not_pushed_and_poisons_the_log(site, tmp_path):
    files = FailingFiles(kind="sync", name="wal-*.log")
    other = Site(site.path, site.remote.bucket.inner, files=files)
    assert other.push().kind == "StorageError"
    assert files.hits == 1 and not keys(site)
    assert site.push().kind == "WalPoisoned"
    site.append(insert("heals"))
    assert site.push().status == "pushed"


class Unsynced(Files):
    """The twin: a disk on which syncing does nothing, beside one that then loses power."""

    def __init__(self, disk):
        self.disk = disk

    def __getattribute__(self, name):
        if name in ("sync", "sync_file", "sync_directory"):
            return lambda *args: None
        return object.__getattribute__(object.__getattribute__(self, "disk"), name)


@pytest.mark.parametrize("careless", [False, True])
def test_nothing_is_pushed_that_a_loss_of_power_here_takes_back(tmp_path, careless):
    disk = ForgetfulFiles()
    site = Site(tmp_path / "store", MemoryBucket(), files=Unsynced(disk) if careless else disk)
    site.path.mkdir()
    writer = Writer(site.root, files=disk, clock=lambda: NOON, durability="os")
    for number in range(5):
        writer.append_many([insert(f"m{number}")])
    writer.close()
    assert site.push().status == "pushed"
    image = first_images(site)[-1]
    disk.crash(tmp_path)
    there = (site.root / "wal-20250707.log").exists() and follows(look(site.root, "ann", REAL_FILES), image)
    assert there == (not careless)


def test_a_layer_that_is_not_what_its_name_says_does_not_go_into_the_bucket(site):
    site.checkpoint()
    layer = next(path for path in (site.root / "layers").iterdir())
    data = bytearray(layer.read_bytes())
    data[len(data) // 2] ^= 1
    layer.write_bytes(data)
    user = site.push()
    assert (user.status, user.kind) == ("failed", "SnapshotError")
    assert "name stands for" in user.error
    assert not keys(site, "images/")


def test_one_user_that_fails_stops_no_other(site):
    site.append(insert("m1"), uid="bob")
    (site.root / "wal-20250707.log").write_bytes(b"no event\n" * 3 + (site.root / "wal-20250707.log").read_bytes())
    report = site.remote.push(progress=False)
    assert {user.uid: user.status for user in report.users} == {"ann": "failed", "bob": "pushed"}


def test_a_bucket_that_refuses_is_an_error_and_one_that_lacks_users_is_not(site, tmp_path):
    with pytest.raises(RemoteRefused):
        Site(site.path, str(tmp_path / "not mounted")).push()
    with pytest.raises(NotFound):
        site.push("nobody")


def test_a_user_who_changes_during_the_push_is_pushed_as_of_one_moment(site, tmp_path):
    """A writer goes on while every block is put: what comes back is some state the log went through."""
    bucket = site.remote.bucket.inner
    put, states = bucket.put, [site.state()]

    def slow_put(key, data):
        if key.startswith("data/"):
            site.append(insert(f"during {len(states)}"))
            states.append(site.state())
        put(key, data)

    bucket.put = slow_put
    for _ in range(3):
        assert site.push().status == "pushed"
    del bucket.put
    assert restorable(bucket, tmp_path / "copy") in states[:-1]
    assert site.push().status == "pushed"
    assert restorable(bucket, tmp_path / "again") == states[-1]


def test_a_checkpoint_and_a_vacuum_may_come_during_a_push(tmp_path):
    bucket = MemoryBucket()
    site = Site(tmp_path / "store", bucket)
    for step in range(5):
        grow(site, step)
    put, done = bucket.put, []

    def meddling_put(key, data):
        if key.startswith("data/") and not done:
            done.append(True)
            site.later(5)
            site.append(insert("later"))
            site.checkpoint()
            site.vacuum()
        put(key, data)

    bucket.put = meddling_put
    assert site.push().status == "pushed"
    del bucket.put
    state = restorable(bucket, tmp_path / "copy")
    assert state is not None
    assert site.push().status in ("pushed", "nothing new")
    assert restorable(bucket, tmp_path / "again") == site.state()


@pytest.mark.parametrize("seed", range(40 if EVERY else 2))
def test_losing_the_disk_loses_nothing_that_a_push_had_acknowledged(tmp_path, seed):
    """A random life with outages; now and then the disk goes, and the user comes back from the bucket alone."""
    random = Random(seed)
    faulty = Faulty(MemoryBucket())
    site, acknowledged, losses, outages = Site(tmp_path / "0" / "store", faulty), None, 0, 0
    for step in range(14 if EVERY else 9):
        grow(site, step)
        faulty.nth = faulty.requests + random.randrange(1, 12) if random.random() < 0.4 else 0
        faulty.forever = random.random() < 0.5
        state = site.state()
        try:
            pushed = site.push().status in ("pushed", "nothing new")
        except Exception:
            pushed = False
        outages += not pushed
        acknowledged = state if pushed else acknowledged
        faulty.nth = 0
        if acknowledged is not None and random.random() < 0.3:
            shutil.rmtree(site.path)
            site = Site(tmp_path / f"{step + 1}" / "store", faulty, now=site.now)
            assert site.pull().status == "pulled"
            assert site.state() in (acknowledged, state)
            acknowledged, losses = site.state(), losses + 1
    print(f"seed {seed}: {losses} disks lost, {outages} pushes failed, {faulty.requests} requests")
    assert outages


def test_pushes_of_one_user_at_once_do_no_harm(site, tmp_path):
    for step in range(4):
        grow(site, step)
    threads = [threading.Thread(target=site.copy(tmp_path / f"copy{number}").push) for number in range(3)]
    threads += [threading.Thread(target=Site(site.path, site.remote.bucket.inner, now=site.now).push) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, key in enumerate(map(parse_image_key, keys(site, "images/"))):
        copy = Site(tmp_path / f"restored{number}", site.remote.bucket.inner)
        assert copy.pull(image=key.digest).status == "pulled"
        assert copy.state() == site.state()


def test_notes_that_are_lost_or_damaged_cost_requests_and_nothing_else(site, tmp_path):
    site.push()
    objects = copy_of(site.remote.bucket.inner)
    for note in (site.path / ".meshlab" / "remote").rglob("notes/ann"):
        note.write_bytes(note.read_bytes()[:-1])
    assert site.push().status == "nothing new"
    shutil.rmtree(site.path / ".meshlab")
    assert site.push().status == "nothing new"
    assert {f.key for f in site.remote.bucket.list("")} == {f.key for f in objects.list("")}


def test_a_push_changes_nothing_in_the_users_directory_but_the_lock(site):
    site.checkpoint()
    before = files_of(site.root)
    site.push()
    assert files_of(site.root) == before
    assert sorted(os.listdir(site.root)) == [
        "checkpoint.lock",
        "history",
        "layers",
        "snapshot.bin",
        "wal-20250707.log",
        "wal.lock",
    ]
