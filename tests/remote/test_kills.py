"""``meshlab sync push`` killed in the middle: the bucket restores what was acknowledged, and the next push ends."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

import meshlab
from meshlab.remote.bucket import FolderBucket
from meshlab.remote.s3 import S3Bucket
from scoreboard.sampling import EVERY
from scoreboard.sites import Site, insert, restorable, update

SEED = 20250707
ROUNDS = 30 if EVERY else 3
"""Three kills take seconds; MESHLAB_EVERY=1 makes it thirty."""

USERS, DAYS = ("ann", "bob", "carl"), 4
REPOSITORY = Path(meshlab.__file__).parent.parent
IMAGE_FIRST = """
from meshlab.__main__ import run
from scoreboard.outages import image_first
with image_first():
    run()
"""


def start(store, url, *how):
    """``meshlab sync push`` in a process of its own, or what ``how`` makes of it."""
    command = [sys.executable, *(how or ("-m", "meshlab")), "--store", str(store), "sync", "push", "--remote", url]
    settings = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings)


def objects(folder, kind=""):
    """What stands in a bucket that is a directory, or behind a server in one; files under way are left out."""
    found = (os.path.join(at, name) for at, _, names in os.walk(folder / kind) for name in names)
    return {name for name in found if len(name.rpartition("-")[2]) == 64}


def killed(process, folder, kind, count):
    """Kill a process when so many objects more are there; whether it had not ended before."""
    before = objects(folder, kind)
    while process.poll() is None:
        if len(objects(folder, kind) - before) >= count:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.0005)
    process.communicate(timeout=60)
    return process.returncode == -signal.SIGKILL


def live(site, step):
    """Some days of everybody, and a checkpoint of one."""
    for day in range(DAYS):
        for uid in USERS:
            site.append(insert(f"m{step}-{day}", "text" * 50), update(f"m{step - 1}-{day}", amplitude=0.5), uid=uid)
        site.later()
    site.checkpoint(USERS[step % len(USERS)])


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path, prefix):
    """The address of a bucket, the bucket, and the directory its objects stand in."""
    if request.param == "folder":
        (tmp_path / "bucket").mkdir()
        return f"file://{tmp_path}/bucket", FolderBucket(tmp_path / "bucket"), tmp_path / "bucket"
    gateway = request.getfixturevalue("gateway")
    return gateway.url(prefix), S3Bucket(gateway.url(prefix)), gateway.folder / prefix


def test_a_push_killed_at_any_moment_leaves_what_was_acknowledged_and_the_next_one_ends(place, tmp_path):
    url, bucket, folder = place
    site, rng = Site(tmp_path / "store", bucket), Random(SEED)
    acknowledged, kills, ahead = dict.fromkeys(USERS), 0, 0
    for step in range(ROUNDS):
        live(site, step)
        states = {uid: site.state(uid) for uid in USERS}
        kind, most = ("images", len(USERS)) if step % 3 == 2 else ("data", len(USERS) * DAYS)
        kills += killed(start(site.path, url), folder, kind, rng.randint(1, most))
        for uid in USERS:
            found = restorable(bucket, tmp_path / f"killed{step}", uid)
            assert found in (acknowledged[uid], states[uid]), (SEED, step, uid)
            ahead += found == states[uid]
        process = start(site.path, url)
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0, (SEED, step, told)
        acknowledged = states
        for uid in USERS:
            assert restorable(bucket, tmp_path / f"healed{step}", uid) == acknowledged[uid], (SEED, step, uid)
        shutil.rmtree(tmp_path / f"healed{step}")
    print(f"seed {SEED}: {kills} kills in {ROUNDS} rounds, {ahead} users were behind their commit point")
    assert kills > ROUNDS // 2
    assert {user.outcome for user in site.remote.prove(progress=False).users} == {"proved"}


def test_the_check_finds_a_push_that_names_its_image_first(tmp_path):
    """The twin: killed when its image is there, such a push leaves one whose blocks are missing."""
    (tmp_path / "bucket").mkdir()
    site = Site(tmp_path / "store", FolderBucket(tmp_path / "bucket"))
    live(site, 0)
    assert killed(start(site.path, site.remote.url, "-c", IMAGE_FIRST), tmp_path / "bucket", "images", 1)
    with pytest.raises(AssertionError, match="RemoteDamaged"):
        for uid in USERS:
            restorable(site.remote.bucket.inner, tmp_path / "restored", uid)
