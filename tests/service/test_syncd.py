"""The push daemon: who is pushed when, who waits, what it proves, and its numbers."""

import logging
import shutil
import threading

import pytest

import meshlab
from meshlab.errors import CheckpointBusy, RemoteUnavailable
from meshlab.remote.bucket import MemoryBucket
from meshlab.remote.patience import IMPATIENT
from meshlab.remote.remote import Remote
from meshlab.service import textfile
from meshlab.service.checkpointd import daemon_lock
from meshlab.service.syncd import LOCK, Options, SyncDaemon
from meshlab.times import midnight

START = 1_751_889_600.0


class Clock:
    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now


class Outage(MemoryBucket):
    """A bucket that is out while ``out`` is set."""

    out = False

    def put(self, key, data):
        self.refuse()
        super().put(key, data)

    def get(self, key):
        self.refuse()
        return super().get(key)

    def list(self, prefix):
        self.refuse()
        return super().list(prefix)

    def refuse(self):
        if self.out:
            raise RemoteUnavailable("out")


class Watched:
    """A daemon whose log lines and clock are at hand."""

    def __init__(self, store, **options):
        self.clock, self.lines = Clock(), []
        self.bucket = Outage()
        logger = logging.Logger("test")
        handler = logging.Handler()
        handler.emit = lambda record: self.lines.append((record.getMessage(), record.fields))
        logger.addHandler(handler)
        remote = Remote(store, self.bucket, patience=IMPATIENT, clock=lambda: int(self.clock.now * 1e6))
        self.daemon = SyncDaemon(remote, Options(**options), logger=logger, now=self.clock, steady=self.clock)

    def round(self, seconds=60.0):
        self.clock.now += seconds
        self.lines.clear()
        self.daemon.round()
        return [(event, fields.get("uid")) for event, fields in self.lines if event != "round"]


@pytest.fixture
def watched(store):
    return Watched(store, prove_per_hour=None)


def test_who_has_changed_is_pushed_and_a_quiet_round_asks_little(watched, make_user):
    assert watched.round() == [("push", "ann"), ("push", "bob")]
    before = watched.daemon.metrics().requests_total
    assert watched.round() == []
    assert watched.daemon.metrics().requests_total - before <= 2
    make_user("bob")
    assert watched.round() == [("push", "bob")]


def test_a_user_who_fails_waits_longer_each_time_and_stops_nobody(watched, store, make_user):
    (log,) = (store / "ann").glob("wal-*.log")
    sound = log.read_bytes()
    log.write_bytes(b"no event\n" + sound)
    assert watched.round() == [("failed", "ann"), ("push", "bob")]
    metrics = watched.daemon.metrics()
    assert (metrics.users, metrics.users_failed, metrics.lag_bytes) == (2, 1, log.stat().st_size)
    assert watched.round(1) == []
    assert watched.round(120) == [("failed", "ann")]
    assert watched.round(60) == []
    log.write_bytes(sound)
    make_user("bob")
    assert watched.round(3600) == [("push", "ann"), ("push", "bob")]
    assert watched.daemon.metrics()[:4] == (0, 0.0, 2, 0)


def test_an_outage_is_waited_out_and_the_lag_grows_meanwhile(watched, make_user):
    watched.round()
    pushed = watched.daemon.metrics().last_push
    assert watched.daemon.metrics()[:2] == (0, 0.0)
    watched.bucket.out = True
    make_user("ann")
    assert watched.round() == [("push failed", None)]
    lag = watched.daemon.metrics()
    assert (lag.lag_bytes > 0, lag.lag_seconds) == (True, 60.0)
    assert watched.round(1) == []
    assert watched.daemon.metrics().last_push == pushed == START + 60
    watched.bucket.out = False
    assert watched.round(3600) == [("push", "ann")]
    assert watched.daemon.metrics()[:2] == (0, 0.0)


def test_proofs_go_by_staleness_under_a_budget(store, make_user):
    make_user("cleo")
    watched = Watched(store, prove_per_hour=4.0, prove_every=3600.0)
    proofs = [uid for event, uid in watched.round() if event == "proof"]
    assert len(proofs) == 1, "a budget that is spent by one proof"
    assert watched.daemon.metrics().last_proven_restore == watched.clock.now
    assert watched.daemon.metrics().oldest_proven_restore == 0
    rich = Watched(store, prove_per_hour=1e12, prove_every=3600.0)
    assert [uid for event, uid in rich.round() if event == "proof"] == ["ann", "bob", "cleo"]
    assert [uid for event, uid in rich.round() if event == "proof"] == []
    assert [uid for event, uid in rich.round(4000) if event == "proof"] == ["ann", "bob", "cleo"]
    metrics = rich.daemon.metrics()
    assert metrics.last_proven_restore == metrics.oldest_proven_restore == rich.clock.now


def test_a_proof_that_fails_is_a_warning_and_a_number(store):
    watched = Watched(store, prove_per_hour=1e12, prove_every=60.0)
    watched.round()
    good = watched.daemon.metrics().last_proven_restore
    watched.bucket.delete([found.key for found in watched.bucket.list("data/ann/")])
    watched.round(120)
    outcomes = {fields["uid"]: fields["outcome"] for event, fields in watched.lines if event == "proof"}
    assert outcomes == {"ann": "failed", "bob": "proved"}
    metrics = watched.daemon.metrics()
    assert (metrics.proofs_failed, metrics.oldest_proven_restore) == (1, good)
    assert watched.daemon.failed


def test_forks_are_said_once_and_counted(watched, store, make_user, tmp_path):
    watched.round()
    shutil.copytree(store, tmp_path / "copy")
    meshlab.open(tmp_path / "copy")["ann"].append({"Insert": {"id": "there"}})
    assert Remote(tmp_path / "copy", watched.bucket).push("ann", progress=False).users[0].status == "pushed"
    make_user("ann")
    assert watched.round() == [("push", "ann"), ("forked", "ann")]
    make_user("ann")
    assert watched.round() == [("push", "ann")]
    assert watched.daemon.metrics().users_forked == 1


def test_a_user_who_went_is_forgotten(watched, store):
    watched.round()
    shutil.rmtree(store / "ann")
    watched.round()
    assert watched.daemon.metrics().users == 1


def test_a_second_daemon_of_a_store_is_refused_and_one_for_checkpoints_is_not(watched, store):
    with daemon_lock(store, LOCK, "push daemon"), pytest.raises(CheckpointBusy, match="push daemon"):
        watched.daemon.run(once=True)
    with daemon_lock(store):
        assert watched.daemon.run(once=True)


def test_it_ends_when_it_is_told_to(watched):
    thread = threading.Thread(target=watched.daemon.run)
    thread.start()
    while not watched.lines:
        pass
    watched.daemon.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert watched.lines[-1][0] == "stopped"


def test_the_numbers_are_told_after_every_round_and_a_file_that_cannot_be_written_stops_nothing(store, tmp_path):
    path, watched = tmp_path / "sync.prom", Watched(store, prove_per_hour=None)
    watched.daemon._tell = lambda metrics: textfile.write(path, metrics)
    assert watched.daemon.run(once=True)
    assert "meshlab_sync_users 2.0\n" in path.read_text()
    assert [entry.name for entry in tmp_path.glob("*.prom*")] == ["sync.prom"]
    watched.bucket.out = True
    assert not watched.daemon.run(once=True)
    path.unlink()
    path.mkdir()
    watched.lines.clear()
    watched.daemon.run(once=True)
    assert [event for event, _ in watched.lines] == ["started", "metrics failed", "stopped"]
    assert not list(tmp_path.glob(".sync*"))


def test_of_a_user_who_was_never_pushed_the_lag_is_since_the_first_day(store):
    (log,) = (store / "ann").glob("wal-*.log")
    log.write_bytes(b"no event\n" + log.read_bytes())
    watched = Watched(store, prove_per_hour=None)
    watched.round()
    first = midnight(log.name[4:12]) / 1e6
    assert watched.daemon.metrics().lag_seconds == max(0.0, watched.clock.now - first)
