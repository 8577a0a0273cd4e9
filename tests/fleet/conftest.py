"""A store of many small users, one large and one bad; and the same in a bucket behind a real gateway."""

import os
import shutil

import pytest

import meshlab
from meshlab.fleet import task
from meshlab.testing import build_store

from .borrowed import gateway as real

USERS = int(os.environ.get("MESHLAB_FLEET_USERS", "32"))
"""Users of the store; 2,000 in the full run."""

SPLIT = 16_000
"""Bytes from which a log is read in pieces: the first users' are."""


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """The store, nobody in it bad."""
    path = tmp_path_factory.mktemp("fleet") / "store"
    build_store(path, users=USERS, days=3, events=12 * USERS, seed=5)
    return path


@pytest.fixture
def many_tasks(monkeypatch):
    """Small tasks, so that few users make many."""
    monkeypatch.setattr(task, "WORTH", 0.06)


@pytest.fixture
def store(sound, tmp_path):
    """A copy of the store, with a user who cannot be read."""
    path = tmp_path / "store"
    shutil.copytree(sound, path, copy_function=os.link)
    (path / "bad" / "wal-20250707.log").mkdir(parents=True)
    return path


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """``rclone serve s3``, one for all tests of a process."""
    started = real.Gateway(tmp_path_factory.mktemp("gateway") / "root")
    yield started
    started.close()


@pytest.fixture(scope="session")
def bucket(server, sound):
    """The address of the bucket that the sound store was pushed to."""
    os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = real.KEY, real.SECRET
    url = server.url("fleet")
    report = meshlab.open(sound).remote(url).push(progress=False)
    assert {user.status for user in report.users} == {"pushed"}
    yield url
    shutil.rmtree(sound / ".meshlab")
    del os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
