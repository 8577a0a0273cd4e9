"""The daemon checkpoints who is due, survives what fails, and ends when it is told."""

import contextlib
import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest

import meshlab
from meshlab.errors import CheckpointBusy, NotFound
from meshlab.service.checkpointd import LOCK, Daemon, Options, daemon_lock
from meshlab.service.jsonlog import json_logger
from meshlab.service.policy import Backoff, Thresholds
from meshlab.snapshot.manifest import Manifest, current

NOW_DUE = Thresholds(bytes=0.0)


@pytest.fixture
def daemon(store):
    """A daemon for which everybody with an unfolded byte is due; ``daemon.lines()`` is its log."""
    out = io.StringIO()

    def make(**options):
        program = options.pop("program", None)
        extra = {"program": program} if program else {}
        made = Daemon(
            store,
            Options(**{"thresholds": NOW_DUE, **options}),
            logger=json_logger("meshlab.test-checkpointd", out),
            **extra,
        )
        made.lines = lambda: [json.loads(line) for line in out.getvalue().splitlines()]
        return made

    return make


def said(daemon, event):
    return [line for line in daemon.lines() if line["event"] == event]


def generation(store, uid):
    manifest = current(store / uid, uid)
    return manifest.generation if isinstance(manifest, Manifest) else None


# Rounds


def test_one_round_checkpoints_everybody_who_is_due(daemon, store):
    one = daemon()
    assert one.run(once=True)
    assert {uid: generation(store, uid) for uid in ("ann", "bob")} == {"ann": 1, "bob": 1}
    assert {line["uid"] for line in said(one, "checkpoint")} == {"ann", "bob"}
    assert [line["event"] for line in one.lines()][:1] == ["started"]
    assert one.lines()[-1]["event"] == "stopped"


def test_a_state_is_what_it_was_before_the_daemon(daemon, store):
    before = meshlab.open(store)["bob"].state(progress=False).to_pylist()
    daemon().run(once=True)
    assert current(store / "bob", "bob").records == len(before) == 200


def test_nobody_is_due_again_before_something_was_appended(daemon, store, make_user):
    one = daemon()
    assert [due.ranked.uid for due in one.due()] != []
    one.run(once=True)
    assert one.due() == []
    make_user("ann", events=1)
    assert [due.ranked.uid for due in one.due()] == ["ann"]


def test_who_is_under_every_threshold_is_left_alone(daemon, store):
    one = daemon(thresholds=Thresholds())
    assert one.run(once=True)
    assert generation(store, "ann") is None


def test_one_process_takes_many_users_with_little_to_fold(daemon, make_user, store):
    for at in range(5):
        make_user(f"user{at}")
    one = daemon(batch=3)
    starts = []
    start = one.workers.start
    one.workers.start = lambda command, uids: starts.append(uids) or start(command, uids)
    one.run(once=True)
    assert [len(uids) for uids in starts] == [3, 3, 1]
    assert all(generation(store, f"user{at}") == 1 for at in range(5))


def test_one_with_much_to_fold_has_a_process_alone(daemon):
    one = daemon(batch_bytes=1)
    one._round()
    assert [len(one._batch())] == [1]


def test_a_torn_end_is_not_tried_again_and_again(daemon, store):
    one = daemon()
    one.run(once=True)
    with open(next((store / "ann").glob("wal-*.log")), "ab") as segment:
        segment.write(b'{"timestamp":"20')
    assert [due.ranked.uid for due in one.due()] == ["ann"]
    one.run(once=True)
    assert one.due() == []


# Failures


def test_damage_stops_its_user_alone_and_is_retried_later_and_later(daemon, store):
    segment = next((store / "bob").glob("wal-*.log"))
    segment.write_bytes(segment.read_bytes().replace(b'"m7"', b'"mX"'))
    one = daemon(backoff=Backoff(base=100.0))
    assert not one.run(once=True)
    assert generation(store, "ann") == 1
    (failure,) = said(one, "failed")
    assert (failure["uid"], failure["kind"], failure["failures"]) == ("bob", "DamageFound", 1)
    assert 75 <= failure["retry_in"] <= 100
    one._round()
    assert one.queue == []


def test_a_user_who_failed_is_served_when_the_wait_is_over(daemon, store, program):
    one = daemon(program=program("sys.exit(1)"), backoff=Backoff(base=0.01, ceiling=0.02), batch=1)
    one.run(once=True)
    time.sleep(0.05)
    one.run(once=True)
    assert sorted(line["failures"] for line in said(one, "failed")) == [1, 1, 2, 2]
    one.workers.program = daemon().workers.program
    time.sleep(0.05)
    one.run(once=True)
    assert generation(store, "ann") == 1
    assert one.memory.trouble == {}


def test_a_worker_that_dies_is_charged_to_the_user_it_was_working_on(daemon, program):
    body = "print(json.dumps({'uid': uids[0], 'bytes_folded': 1}), flush=True); sys.exit(9)"
    one = daemon(program=program(body))
    one.run(once=True)
    (done,), (failed,) = said(one, "checkpoint"), said(one, "failed")
    assert {done["uid"], failed["uid"]} == {"ann", "bob"}
    assert "ended with 9" in failed["error"]


def test_a_worker_that_cannot_be_started_is_a_failure_and_no_end(daemon, tmp_path):
    one = daemon(program=(str(tmp_path / "nowhere"),))
    assert not one.run(once=True)
    assert {line["uid"] for line in said(one, "failed")} == {"ann", "bob"}


def test_a_checkpoint_under_way_elsewhere_is_waited_for(daemon, store):
    with open(store / "ann" / "checkpoint.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        one = daemon()
        one.run(once=True)
    (failure,) = said(one, "failed")
    assert (failure["uid"], failure["kind"]) == ("ann", "CheckpointBusy")
    assert generation(store, "bob") == 1


def test_a_phase_1_snapshot_is_never_upgraded_and_named_once(daemon, store):
    (store / "ann" / "snapshot.bin").write_bytes(b"\0" * 8)
    one = daemon()
    assert one.run(once=True)
    assert one.run(once=True)
    (skipped,) = said(one, "skipped")
    assert skipped["uid"] == "ann"
    assert "--upgrade" in skipped["reason"]
    assert (store / "ann" / "snapshot.bin").read_bytes() == b"\0" * 8
    (store / "ann" / "snapshot.bin").unlink()
    one.run(once=True)
    assert [line["uid"] for line in said(one, "resumed")] == ["ann"]


def test_a_store_that_went_is_an_error_in_the_log_and_the_daemon_goes_on(daemon, store):
    one = daemon()
    store.rename(store.with_name("moved"))
    one._round()
    (failure,) = said(one, "scan failed")
    assert "does not exist" in failure["error"]


# Budget


def test_a_spent_budget_holds_the_rest_back(daemon, store):
    one = daemon(per_hour=1_000.0, batch=1)
    one.run(once=True)
    assert len(said(one, "checkpoint")) == 1
    assert len(said(one, "waiting for budget")) == 1
    assert one.bucket.tokens < 0


def test_the_budget_is_charged_what_was_written(daemon):
    one = daemon(per_hour=40e6)
    one.run(once=True)
    written = sum(line["bytes_written"] for line in said(one, "checkpoint"))
    spent = one.bucket.burst - one.bucket.tokens
    assert written > 0
    assert spent == pytest.approx(written, abs=1.0)


# The lock


def test_a_second_daemon_is_refused(daemon, store):
    with daemon_lock(store), pytest.raises(CheckpointBusy, match=f"process {os.getpid()}"):
        daemon().run(once=True)
    assert daemon().run(once=True)


def test_the_lock_is_no_user_and_stays(daemon, store):
    daemon().run(once=True)
    assert (store / ".meshlab" / LOCK).read_text() == f"{os.getpid()}\n"
    assert meshlab.open(store).users() == ["ann", "bob"]


def test_a_daemon_makes_no_store(tmp_path, daemon):
    with pytest.raises(NotFound), daemon_lock(tmp_path / "nowhere"):
        pass
    assert not (tmp_path / "nowhere").exists()


def test_a_looking_daemon_takes_no_lock_and_writes_nothing(daemon, store):
    before = sorted(store.rglob("*"))
    with daemon_lock(store):
        assert len(daemon().due()) == 2
    assert [path for path in sorted(store.rglob("*")) if ".meshlab" not in path.parts] == before


# Real processes


@contextlib.contextmanager
def running(store, *arguments):
    """``meshlab checkpointd`` as a process of its own; its log comes line by line."""
    command = [sys.executable, "-m", "meshlab", "--store", str(store), "checkpointd", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            yield process, map(json.loads, process.stderr)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_code_0_within_seconds(number, store):
    with running(store, "--bytes", "0") as (process, lines):
        assert {line["uid"] for line in lines_until(lines, "checkpoint", 2)} == {"ann", "bob"}
        process.send_signal(number)
        began = time.monotonic()
        assert process.wait(30) == 0
        assert time.monotonic() - began < 5
        assert [line["event"] for line in lines] == ["stopped"]


def lines_until(lines, event, count):
    found = []
    for line in lines:
        if line["event"] == event:
            found.append(line)
        if len(found) == count:
            return found
    raise AssertionError(f"the log ended before {count} of {event!r}")


def test_a_running_daemon_serves_what_is_appended(store, make_user):
    with running(store, "--bytes", "0", "--interval", "0.2s") as (_, lines):
        lines_until(lines, "checkpoint", 2)
        make_user("ann", events=5)
        (line,) = lines_until(lines, "checkpoint", 1)
        assert (line["uid"], line["generation"], line["events"]) == ("ann", 2, 5)


def test_stopped_beside_a_worker_it_leaves_no_process_behind(store, program):
    code = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from meshlab.service.checkpointd import Daemon, Options\n"
        "from meshlab.service.jsonlog import json_logger\n"
        "from meshlab.service.policy import Thresholds\n"
        "import logging\n"
        f"daemon = Daemon(Path({str(store)!r}), Options(thresholds=Thresholds(bytes=0.0), grace=0.3),\n"
        f"    logger=json_logger('d', sys.stderr, level=logging.DEBUG), program={program('time.sleep(600)')!r})\n"
        "signal.signal(signal.SIGTERM, lambda *_: daemon.stop())\n"
        "daemon.run()\n"
        "print([worker.process.poll() for worker in daemon.workers.running])\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        lines = map(json.loads, process.stderr)
        lines_until(lines, "begin", 1)
        process.terminate()
        events = [line["event"] for line in lines]
        assert process.wait(30) == 0
        assert process.stdout.read() == b"[]\n"
    assert events == ["interrupted", "stopped"]


def test_a_killed_daemon_leaves_nothing_to_mend(store):
    with running(store, "--bytes", "0", "-v") as (process, lines):
        lines_until(lines, "begin", 1)
        process.kill()
        process.wait(30)
    with running(store, "--bytes", "0", "--interval", "0.5s") as (process, lines):
        until = time.monotonic() + 60
        while time.monotonic() < until and not all(generation(store, uid) for uid in ("ann", "bob")):
            time.sleep(0.1)
    assert (generation(store, "ann"), generation(store, "bob")) == (1, 1)


def test_a_worker_killed_in_the_middle_leaves_the_log_and_the_next_round_succeeds(daemon, store, make_user):
    make_user("ann", events=20_000, size=200)
    one = daemon(batch=1, workers=2, backoff=Backoff(base=0.01, ceiling=0.01))
    one._round()
    one._start_checkpoints()
    time.sleep(0.3)
    for worker in one.workers.running:
        worker.signal(signal.SIGKILL)
    for result in one.workers.end(5):
        one._take(result)
    time.sleep(0.02)
    one.failed = False
    assert one.run(once=True)
    assert current(store / "ann", "ann").records == 20_000
