"""Buckets of every kind, and a real gateway for those that need one."""

from itertools import count

import pytest

import meshlab
from meshlab.remote.bucket import FolderBucket, MemoryBucket
from meshlab.remote.patience import Patience, PatientBucket
from meshlab.remote.s3 import S3Bucket

from .gateway import KEY, SECRET, Gateway
from .proxy import Proxy

_prefixes = count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """``rclone serve s3``, one for all tests of a process."""
    started = Gateway(tmp_path_factory.mktemp("gateway") / "root")
    yield started
    started.close()


@pytest.fixture
def gateway(server, monkeypatch):
    """The server, and its keys in the environment; every test has a prefix of its own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    return server


@pytest.fixture
def proxy(gateway):
    """A proxy before the gateway, which lets everything pass until told otherwise."""
    between = Proxy(gateway.port)
    yield between
    between.close()


@pytest.fixture
def prefix():
    """A prefix no other test uses."""
    return f"test-{next(_prefixes)}"


@pytest.fixture(params=["memory", "folder", "s3"])
def bucket(request, tmp_path, prefix):
    """An empty bucket of each kind."""
    if request.param == "memory":
        return MemoryBucket()
    if request.param == "folder":
        (tmp_path / "bucket").mkdir()
        return FolderBucket(tmp_path / "bucket")
    # The gateway answers 500 now and then when two requests make one directory.
    return PatientBucket(S3Bucket(request.getfixturevalue("gateway").url(prefix)), Patience(first=0.01))


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    with meshlab.open(tmp_path / "store") as opened:
        yield opened
