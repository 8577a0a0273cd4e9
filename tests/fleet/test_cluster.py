"""Two processes of a Dask cluster read the users from a real S3 gateway, and find what one process finds locally."""

import os
import signal
import threading
import time
import warnings

import pytest

import meshlab
from meshlab.fleet.crew import Crew
from meshlab.fleet.fleet import Fleet
from meshlab.remote.remote import open_bucket

from .conftest import SPLIT, USERS

pytestmark = pytest.mark.usefixtures("many_tasks")

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client():
    """Two processes of one thread each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
            ) as cluster,
            distributed.Client(cluster) as made,
        ):
            yield made


def alone(store):
    return Fleet(store, 1, split=SPLIT, progress=False)


def test_the_cluster_finds_in_the_bucket_what_one_process_finds_here(bucket, sound, client, tmp_path):
    started = time.monotonic()
    there = Fleet(bucket, client, split=SPLIT, scratch=tmp_path, progress=False).growth()
    print(f"{USERS} users from the gateway by two processes: {time.monotonic() - started:.1f} s")
    started = time.monotonic()
    here = alone(sound).growth()
    print(f"{USERS} users from the disk by one process: {time.monotonic() - started:.1f} s")
    assert len(there) == USERS and there.failed.num_rows == 0
    assert there.to_arrow().equals(here.to_arrow())
    assert there.totals.equals(here.totals)
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]  # what was restored has gone


def test_a_worker_takes_no_more_threads_than_it_has(client):
    duckdb = "__import__('meshlab.tables.connection', fromlist=['']).borrow().execute(SQL).fetchone()[0]"
    duckdb = duckdb.replace("SQL", repr("select current_setting('threads')"))
    assert list(Crew(client).map(eval, [duckdb, "__import__('pyarrow').cpu_count()"])) == [1, 1]


def test_pieces_from_the_bucket_make_the_whole(bucket, sound, client):
    users = meshlab.open(sound).users()[:8]
    there, here = Fleet(bucket, client, split=SPLIT, progress=False), alone(sound)
    for job, table in (("verify", "segments"), ("load", "events")):
        ours, theirs = getattr(there, job)(users), getattr(here, job)(users)
        assert ours.course.tasks > len(users) // 4 and ours.to_arrow().equals(theirs.to_arrow())
        assert ours.table(table).to_pylist() == theirs.table(table).to_pylist()


def test_proofs_and_a_user_whose_block_is_gone(bucket, sound, client):
    fleet = Fleet(bucket, client, progress=False)
    users = fleet.users()[:6]
    assert set(fleet.prove(users).to_arrow()["outcome"].to_pylist()) == {"inconclusive"}  # no checkpoint, no original
    proofs = alone(sound).prove(users, remote=bucket)
    assert set(proofs.to_arrow()["outcome"].to_pylist()) == {"proved"}
    objects = open_bucket(bucket)
    victim = next(objects.list(f"data/{users[2]}/")).key
    data = objects.get(victim)
    objects.delete([victim])
    try:
        run = fleet.state(users)
    finally:
        objects.put(victim, data)
    (bad,) = run.failed.to_pylist()
    assert (bad["uid"], bad["kind"]) == (users[2], "RemoteDamaged")
    assert run.to_arrow()["ok"].to_pylist().count(True) == 5


def test_a_worker_killed_in_the_middle_changes_nothing(store, client, tmp_path):
    """SIGKILL to a worker of the cluster once the first partition is there."""
    users, out, killed = meshlab.open(store).users()[:30], tmp_path / "out", []
    pids = client.run(os.getpid)

    def kill():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not killed:
            if any((out / "parts").glob("*.told")):
                os.kill(next(iter(pids.values())), signal.SIGKILL)
                killed.append(True)
            time.sleep(0.005)

    thread = threading.Thread(target=kill)
    thread.start()
    run = Fleet(store, client, split=SPLIT, progress=False).load(users, out=out)
    thread.join()
    theirs = alone(store).load(users)
    assert killed and run.to_arrow().equals(theirs.to_arrow())
    assert run.table("events").to_pylist() == theirs.table("events").to_pylist()


def test_a_folder_the_workers_cannot_see_is_said(sound, client, tmp_path, monkeypatch):
    """Twin: events would be written nowhere."""
    from meshlab.fleet import fleet as front

    class Moved(front.Folder):
        def __init__(self, path, told):
            super().__init__(path, told)
            self.identity = self.identity[::-1]

    monkeypatch.setattr(front, "Folder", Moved)
    with pytest.raises(meshlab.MeshlabError, match="where the worker looks"):
        Fleet(sound, client, progress=False).load(["ada"], out=tmp_path / "out")
