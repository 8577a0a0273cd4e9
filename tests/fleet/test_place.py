"""Users in a bucket: what is asked of it, where copies stand, and proofs of what it holds now."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

import meshlab
from meshlab.errors import StorageError
from meshlab.fleet.fleet import Fleet
from meshlab.fleet.place import InBucket, bucket_of
from meshlab.remote.bucket import FolderBucket
from meshlab.remote.scratch import scratch_folder
from meshlab.testing import build_store

UIDS = ["ada", "bela", "chiara"]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """A store, and its bucket in a folder."""
    folder = tmp_path_factory.mktemp("pushed")
    build_store(folder / "store", users=UIDS, days=2, events=60)
    (folder / "bucket").mkdir()
    meshlab.open(folder / "store").remote(f"file://{folder}/bucket").push(progress=False)
    return folder


@pytest.fixture
def url(pushed, tmp_path):
    """A copy of the bucket."""
    shutil.copytree(pushed / "bucket", tmp_path / "bucket")
    return f"file://{tmp_path}/bucket"


def spoil(url, uid):
    """Take the last byte of some block of a user."""
    block = next(path for path in Path(url.removeprefix("file://"), "data", uid).rglob("*") if path.is_file())
    block.write_bytes(block.read_bytes()[:-1])


def test_the_names_of_users_are_those_of_images_which_nobody_reads(url):
    assert Fleet(url, 1).users() == UIDS
    assert bucket_of(url).traffic.gets == 0


@pytest.mark.parametrize("here", [True, False])
def test_a_proof_is_of_the_bucket_as_it_is_now(pushed, url, tmp_path, here):
    def outcomes():
        if here:
            run = Fleet(pushed / "store", 1, progress=False).prove(UIDS, remote=url, out=tmp_path / "out")
        else:
            run = Fleet(url, 1, scratch=tmp_path, progress=False).prove(UIDS, out=tmp_path / "out")
        return [row["outcome"] for row in run.to_pylist()]

    well = "proved" if here else "inconclusive"  # without the originals there is nothing to compare with
    assert outcomes() == [well] * 3
    spoil(url, "bela")
    assert outcomes() == [well, "failed", well]


def test_proofs_share_a_client_and_one_listing(pushed, url, tmp_path, monkeypatch):
    made = []

    class Counted(FolderBucket):
        def __init__(self, folder):
            super().__init__(folder)
            made.append(folder)

    monkeypatch.setattr("meshlab.remote.remote.FolderBucket", Counted)
    fleet = Fleet(url, 1, scratch=tmp_path, progress=False)
    assert len(made) == 1  # which looks at the address
    assert fleet.prove().to_arrow()["lists"].to_pylist() == [0, 0, 0] and len(made) == 2
    beside = Fleet(pushed / "store", 1, progress=False).prove(UIDS, remote=url)
    assert beside.to_arrow()["lists"].to_pylist() == [1, 1, 1] and len(made) == 3


def test_copies_that_a_killed_worker_left_go(url, tmp_path):
    with scratch_folder(tmp_path / "scratch") as folder:
        left = folder.with_name("left")
        shutil.copytree(folder, left)
        (left / "copy").write_text("of a user")
        alive = Fleet(url, 1, scratch=tmp_path / "scratch", progress=False)
        for run in (alive.verify(["ada"]), alive.prove(["ada"])):
            assert run.failed.num_rows == 0
            assert list(folder.parent.iterdir()) == [folder]  # one that is in use stays


def test_copies_stand_where_nobody_else_may_write(url, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert Fleet(url, 1, progress=False).state("ada").failed.num_rows == 0
    (ours,) = tmp_path.glob("meshlab-*")
    assert ours == InBucket(url).workshop() and ours.stat().st_mode & 0o077 == 0
    ours.chmod(0o777)
    with pytest.raises(StorageError, match="others may write"):
        InBucket(url).workshop()
    shutil.rmtree(ours)
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", ours)
    (row,) = Fleet(url, 1, progress=False).state("ada").failed.to_pylist()
    assert "others may write" in row["message"]
