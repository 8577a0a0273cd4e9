"""A real S3 gateway with everything that can go wrong before it and in it."""

import os
import shutil
import signal
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from meshlab.errors import RemoteRefused, RemoteUnavailable
from meshlab.remote.bucket import MemoryBucket
from meshlab.remote.patience import Patience
from meshlab.remote.s3 import S3Bucket
from scoreboard.sampling import EVERY
from scoreboard.sites import Site, grow, hash_of, insert, restorable

from .proxy import CUT_ANSWER, CUT_REQUEST, DROP, HANG, LOST_ANSWER, PASS

QUICK = Patience(attempts=4, first=0.005, longest=0.02)
SECONDS = 0.7
"""Until a request counts as lost."""


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    """A user as it is pushed at first, and as it is later; with the state of then and the time of later."""
    path = tmp_path_factory.mktemp("life")
    site = Site(path / "early", MemoryBucket())
    grow(site, 0)
    before = site.state()
    later = site.copy(path / "late")
    for step in (1, 2, 3):
        grow(later, step)
    return path / "early", path / "late", before, later.now


@pytest.fixture
def scene(life, gateway, proxy, prefix, tmp_path):
    """A machine behind the proxy whose user was pushed once and has gained something."""
    early, late, before, now = life
    bucket = S3Bucket(gateway.url(prefix, proxy.port), seconds=SECONDS)
    site = Site(tmp_path / "store", bucket, now=now, patience=QUICK)
    shutil.copytree(early, site.path)
    assert site.push().status == "pushed"
    shutil.copytree(late, site.path, dirs_exist_ok=True)
    site.before = before
    proxy.reset()
    site.direct = S3Bucket(gateway.url(prefix))
    site.objects = gateway.folder / prefix
    return site


def nth(number, fault, *, forever=False):
    return lambda count, method, path: fault if count == number or (forever and count > number) else PASS


def test_nothing_goes_wrong_when_nothing_does(scene, tmp_path):
    """The twin of all that follows."""
    assert scene.push().status == "pushed"
    assert restorable(scene.direct, tmp_path / "restored") == scene.state()
    assert scene.prove().outcome == "proved"


FAULTS = [500, 503, DROP, CUT_REQUEST, CUT_ANSWER, LOST_ANSWER, HANG]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_that_passes_is_waited_out_by_a_push_and_by_a_pull(scene, proxy, tmp_path, fault):
    proxy.reset(nth(4, fault))
    assert scene.push().status == "pushed"
    assert proxy.hits == 1
    assert restorable(scene.direct, tmp_path / "restored") == scene.state()
    copy = Site(tmp_path / "copy", scene.remote.bucket.inner, patience=QUICK)
    proxy.reset(nth(4, fault))
    assert copy.pull().status == "pulled"
    assert proxy.hits == 1
    assert copy.state() == scene.state()


@pytest.mark.parametrize("fault", [403, 500, DROP, CUT_ANSWER], ids=str)
def test_an_outage_at_every_request_of_a_push(scene, proxy, tmp_path, fault):
    """Over HTTP: the bucket is as before or as after, the log goes on, and it heals."""
    shutil.copytree(scene.path, tmp_path / "kept")
    after, point, before_commit, last_before = scene.state(), 0, 0, 0
    while True:
        point += 1 if EVERY else 4
        site = Site(tmp_path / f"{point}", scene.remote.bucket.inner, now=scene.now, patience=QUICK)
        shutil.copytree(tmp_path / "kept", site.path)
        objects = set(scene.direct.list(""))
        proxy.reset(nth(point, fault, forever=True))
        with suppress(RemoteRefused, RemoteUnavailable):
            site.push()
        hit = proxy.hits
        found = restorable(scene.direct, tmp_path / f"restored{point}")
        assert found in (scene.before, after), point
        last_before = point if found == scene.before else last_before
        before_commit += found == scene.before
        site.append(insert("while it was out"))
        proxy.reset()
        assert site.push().status == "pushed"
        assert restorable(scene.direct, tmp_path / f"healed{point}") == site.state()
        scene.direct.delete(one.key for one in set(scene.direct.list("")) - objects)
        if not hit:
            break
    print(f"gateway, {fault}: outages at {point - 1} requests, the last before the commit point at {last_before}")
    assert (before_commit if EVERY else last_before) > 3


@pytest.mark.parametrize("fault", [500, CUT_ANSWER], ids=str)
def test_an_outage_at_every_request_of_a_pull(scene, proxy, tmp_path, fault):
    scene.push()
    point = 0
    while True:
        point += 1 if EVERY else 3
        copy = Site(tmp_path / f"{point}", scene.remote.bucket.inner, patience=QUICK)
        proxy.reset(nth(point, fault, forever=True))
        user = copy.pull()
        assert (user.status == "pulled") == (not proxy.hits), point
        assert copy.root.exists() == (not proxy.hits)
        if not proxy.hits:
            break
        proxy.reset()
        assert copy.pull().status == "pulled"
        assert copy.state() == scene.state()
    print(f"gateway, {fault}: outages at {point - 1} requests of a pull")
    assert point > 4


def test_a_refusal_is_not_asked_for_again(scene, proxy):
    proxy.reset(lambda number, method, path: 403 if method == "PUT" else PASS)
    user = scene.push()
    assert (user.status, user.kind) == ("failed", "RemoteRefused")
    assert "AccessDenied" in user.error
    assert sum(method == "PUT" for method, _ in proxy.requests) <= 12
    assert scene.remote.bucket.traffic.again == 0


def test_a_push_needs_no_right_to_delete(scene, proxy):
    proxy.reset(lambda number, method, path: 403 if method in ("DELETE", "POST") else PASS)
    assert scene.push().status == "pushed"
    assert proxy.hits == 0
    assert {method for method, _ in proxy.requests} == {"GET", "PUT"}


def test_a_clock_that_is_wrong_is_said_to_be(scene, proxy):
    proxy.reset(lambda number, method, path: (403, "RequestTimeTooSkewed"))
    with pytest.raises(RemoteRefused) as told:
        scene.push()
    assert "clock" in told.value.hint


@contextmanager
def stopped(process):
    """A server that is there and does nothing."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def test_appends_do_not_wait_for_a_server_that_has_stopped(scene, gateway, prefix, tmp_path):
    bucket = S3Bucket(gateway.url(prefix + "-stopped"), seconds=SECONDS)
    site = Site(scene.path, bucket, now=scene.now, patience=Patience(attempts=4, first=0.01, longest=0.02))
    done = threading.Event()

    def push():
        with suppress(RemoteUnavailable):
            site.remote.push("ann", progress=False)
        done.set()

    with stopped(gateway.process):
        thread = threading.Thread(target=push)
        thread.start()
        appended, slowest = 0, 0.0
        while not done.is_set():
            began = time.perf_counter()
            scene.append(insert(f"during {appended}"))
            slowest = max(slowest, time.perf_counter() - began)
            appended += 1
        thread.join()
    print(f"{appended} appends beside a push that hangs, the slowest {slowest * 1000:.1f} ms")
    assert appended > 10
    assert site.push().status == "pushed"
    assert restorable(bucket, tmp_path / "restored") == scene.state()


def test_a_flipped_byte_in_the_bucket_is_found_and_nothing_is_restored(scene, tmp_path):
    scene.push()
    blocks = sorted(path for path in (scene.objects / "data").rglob("*") if path.is_file())
    image = max(path for path in (scene.objects / "images").rglob("*") if path.is_file())
    named = {found.key for found in scene.direct.list("data/")}
    assert len(named) == len(blocks)
    head = scene.push().image
    used = 0
    for path in [*blocks, image]:
        kept = path.read_bytes()
        data = bytearray(kept)
        data[len(data) // 2] ^= 0x20
        path.write_bytes(data)
        copy = Site(tmp_path / path.name[:60], scene.direct)
        user, proof = copy.pull(), scene.prove()
        if user.status == "failed":
            assert user.kind == "RemoteDamaged" and "SHA-256" in user.error
            assert not copy.root.exists()
            assert proof.outcome == "failed" and "SHA-256" in proof.reason
            used += 1
        else:  # a block that only an older image names
            assert proof.outcome == "proved"
        path.write_bytes(kept)
    print(f"{used} of {len(blocks) + 1} objects of image {head} flipped, all found")
    assert used >= len(blocks) - 2


def test_a_key_that_lists_and_does_not_read_is_a_failed_proof(scene, proxy, tmp_path):
    scene.push()
    for fault, outcome in ((404, "failed"), (403, "failed"), (500, "inconclusive")):
        proxy.reset(lambda number, method, path, fault=fault: fault if method == "GET" and "wal-2025" in path else PASS)
        proof = scene.prove()
        assert (proof.outcome, bool(proof.reason)) == (outcome, True), fault
        copy = Site(tmp_path / str(fault), scene.remote.bucket.inner, patience=QUICK)
        assert copy.pull().status == "failed"
        assert not copy.root.exists()


def test_an_object_that_is_gone_is_a_failed_proof_that_names_it(scene):
    scene.push()
    gone = next(found.key for found in scene.direct.list("data/ann/layers/"))
    scene.direct.delete([gone])
    proof = scene.prove()
    assert proof.outcome == "failed" and gone in proof.reason


def test_a_server_that_ignores_conditional_puts_loses_nothing(scene, tmp_path):
    """It lets the second of two machines write over the first, if their keys were the same."""
    other = scene.copy(tmp_path / "other")
    scene.append(insert("here"))
    other.append(insert("there"))
    results = {}
    threads = [threading.Thread(target=lambda s=s: results.update({s: s.push()})) for s in (scene, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for site in (scene, other):
        copy = Site(tmp_path / results[site].image, scene.direct)
        assert copy.pull(image=results[site].image).status == "pulled"
        assert hash_of(copy.root) == site.state()
    assert len(scene.remote.status("ann").users[0].heads) == 2


def test_a_bucket_that_was_emptied_is_filled_again(scene, tmp_path):
    scene.push()
    assert scene.push().status == "nothing new"
    scene.direct.delete([found.key for found in scene.direct.list("")])
    assert scene.push().status == "pushed"
    assert restorable(scene.direct, tmp_path / "restored") == scene.state()


def test_the_files_of_the_gateway_are_where_the_tests_think(scene):
    assert Path(scene.objects / "remote").is_dir()
