"""Workers are processes: they answer in rows, fail alone, and end when they are told."""

import time

import pytest

import meshlab
from meshlab.service.priority import NICE
from meshlab.service.workers import Workers


@pytest.fixture
def workers(tmp_path, program):
    """Start workers that run a given Python; they are ended with the test."""
    made = []

    def make(body, *, limit=2, timeout=60.0):
        made.append(Workers(tmp_path, limit, timeout, program(body)))
        return made[-1]

    yield make
    for one in made:
        one.end(0)


def wait(workers, count=1):
    results, until = [], time.monotonic() + 60
    while len(results) < count and time.monotonic() < until:
        results += workers.finished()
        time.sleep(0.01)
    return results


ANSWER = "print('[' + ',\\n'.join(json.dumps({'uid': uid, 'nice': __import__('os').nice(0)}) for uid in uids) + ']')"


def test_each_user_has_a_row(workers):
    running = workers(ANSWER)
    running.start(["checkpoint"], ["ann", "bob"])
    assert running.busy() == {"ann", "bob"}
    assert running.free == 1
    (result,) = wait(running)
    assert (result.code, result.command, sorted(result.rows), result.unanswered()) == (
        0,
        "checkpoint",
        ["ann", "bob"],
        [],
    )
    assert running.free == 2


def test_workers_run_at_a_low_priority(workers):
    running = workers("time.sleep(0.5)\n" + ANSWER)
    running.start(["checkpoint"], ["ann"])
    (result,) = wait(running)
    assert result.rows["ann"]["nice"] >= NICE


def test_workers_get_the_command_the_store_and_the_users(workers, tmp_path):
    running = workers("print(json.dumps({'uid': uids[0], 'argv': sys.argv[1:]}))")
    running.start(["vacuum", "--apply"], ["ann"])
    (result,) = wait(running)
    assert result.rows["ann"]["argv"] == [
        "--store",
        str(tmp_path),
        "vacuum",
        "--apply",
        "--format",
        "json",
        "--",
        "ann",
    ]


def test_workers_load_the_meshlab_of_the_daemon(workers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    running = workers("import meshlab; print(json.dumps({'uid': uids[0], 'home': meshlab.__file__}))")
    running.start(["checkpoint"], ["ann"])
    (result,) = wait(running)
    assert result.rows["ann"]["home"] == meshlab.__file__


def test_what_a_failed_worker_said_is_its_message(workers):
    running = workers("print('meshlab: error: the disk is\\nfull', file=sys.stderr); sys.exit(1)")
    running.start(["checkpoint"], ["ann"])
    (result,) = wait(running)
    assert (result.code, result.message, result.unanswered()) == (1, "the disk is full", ["ann"])


def test_a_worker_that_is_killed_keeps_the_rows_it_gave(workers):
    body = "print(json.dumps({'uid': uids[0]}), flush=True); __import__('os').kill(__import__('os').getpid(), 9)"
    running = workers(body)
    running.start(["checkpoint"], ["ann", "bob", "eve"])
    (result,) = wait(running)
    assert result.message == "ended by SIGKILL"
    assert (list(result.rows), result.unanswered()) == (["ann"], ["bob", "eve"])


def test_much_output_does_not_stop_a_worker(workers):
    running = workers("print('x' * 10_000_000); print('y' * 10_000_000, file=sys.stderr); sys.exit(3)")
    running.start(["checkpoint"], ["ann"])
    (result,) = wait(running)
    assert (result.code, result.rows) == (3, {})
    assert len(result.message) <= 500


def test_a_worker_over_its_time_is_ended(workers):
    running = workers("time.sleep(600)", timeout=0.2)
    running.start(["checkpoint"], ["ann"])
    (result,) = wait(running)
    assert result.message == "took too long"
    assert result.seconds < 30


def test_the_end_waits_for_those_who_finish_and_kills_those_who_do_not(workers):
    running = workers("uids[0] == 'bob' and time.sleep(600)\n" + ANSWER)
    running.start(["checkpoint"], ["ann"])
    running.start(["checkpoint"], ["bob"])
    began = time.monotonic()
    results = {result.uids[0]: result for result in running.end(3.0)}
    assert time.monotonic() - began < 30
    assert results["ann"].code == 0
    assert results["bob"].message == "ended by SIGTERM"
    assert running.running == []


def test_a_worker_that_does_not_listen_is_killed(workers, monkeypatch):
    monkeypatch.setattr("meshlab.service.workers.KILLED_AFTER", 0.5)
    running = workers("import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)")
    running.start(["checkpoint"], ["ann"])
    time.sleep(0.5)
    (result,) = running.end(0.5)
    assert result.message == "ended by SIGKILL"


def test_a_program_that_cannot_be_started_is_an_error_of_the_system(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        Workers(tmp_path, 1, 60.0, (str(tmp_path / "nowhere"),)).start(["checkpoint"], ["ann"])
