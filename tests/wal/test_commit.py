"""Group commit: who wakes whom, and that nobody is left asleep."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress

import pytest

from meshlab.errors import WriteFailed
from meshlab.wal import commit
from meshlab.wal.commit import GroupCommit, Receipt, Request, _link, _pass_on

RECEIPT = Receipt(1, 1, "20250707", 0, 1)


def waiting(*, heir=False, gone=False):
    """A request whose thread waits at its gate."""
    request = Request([b"1"], None)
    request.gate = threading.Lock()
    request.gate.acquire()
    request.heir, request.gone = heir, gone
    return request


def leader():
    request = Request([b"1"], None)
    request.heir = True
    return request


def start(batch, heir):
    """What a leader does at its end."""
    _pass_on(_link(batch, heir))


def woken(requests):
    return [not request.gate.locked() for request in requests]


def receive(batch):
    for request in batch:
        request.receipt = RECEIPT


def submit_all(group, requests):
    """Submit each from a thread of its own; returns the threads and what became of each request."""
    outcomes = {}

    def work(request):
        try:
            outcomes[request] = group.submit(request)
        except Exception as error:
            outcomes[request] = error

    threads = [threading.Thread(target=work, args=(request,), daemon=True) for request in requests]
    for thread in threads:
        thread.start()
    return threads, outcomes


def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0)


def join(threads):
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def test_each_thread_wakes_the_next_and_the_next_leader_comes_last():
    followers, heir = [waiting(), waiting()], waiting(heir=True)
    start([followers[0], leader(), followers[1]], heir)
    assert woken([*followers, heir]) == [True, False, False]
    _pass_on(followers[0])
    assert woken([*followers, heir]) == [True, True, False]
    _pass_on(followers[1])
    assert woken([*followers, heir]) == [True, True, True]


def test_the_chain_skips_threads_that_are_gone():
    requests = [waiting(gone=True), waiting(gone=True), waiting(), waiting(heir=True)]
    start([leader(), *requests[:3]], requests[3])
    assert woken(requests) == [False, False, True, False]


def test_a_thread_that_goes_early_wakes_those_behind_it_and_the_chain_goes_on_past_it():
    first, early, behind, heir = waiting(), waiting(), waiting(), waiting(heir=True)
    start([leader(), first, early, behind], heir)
    GroupCommit(receive)._give_way(early)
    assert woken([early, behind, heir]) == [False, True, False]
    _pass_on(first)
    _pass_on(behind)
    assert woken([behind, heir]) == [True, True]


def test_a_leader_that_was_interrupted_before_it_took_a_batch_has_nobody_to_wake():
    assert _link([], leader()) is None
    assert _link([], None) is None


@pytest.mark.parametrize("error", [OSError("disk"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_an_exception_for_the_whole_batch_wakes_all_that_waited(error):
    mine, others = Request([b"0"], None), [Request([b"1"], None) for _ in range(9)]
    batches = []

    def fail(batch):
        batches.append(len(batch))
        if len(batches) == 1:
            wait_until(lambda: len(group._queue) == 9)
        elif len(batches) == 2:
            raise error
        receive(batch)

    group = GroupCommit(fail)
    first, _ = submit_all(group, [mine])
    wait_until(lambda: batches)
    with pytest.MonkeyPatch.context() as patch:
        # The thread that has the lead when an interrupt comes ends with it; that is no news here.
        patch.setattr(threading, "excepthook", lambda details: None)
        threads, outcomes = submit_all(group, others)
        join(first + threads)
    assert batches == [1, 9]
    assert (group._busy, group._queue) == (False, [])
    failed = [outcome for outcome in outcomes.values() if isinstance(outcome, (OSError, WriteFailed))]
    assert len(failed) == (9 if isinstance(error, OSError) else 8)
    assert group.submit(Request([b"2"], None)) == RECEIPT


def test_threads_that_come_again_and_again_share_commits():
    batches = []

    def count(batch):
        batches.append(len(batch))
        receive(batch)

    group = GroupCommit(count)

    def work():
        for _ in range(200):
            group.submit(Request([b"1"], None))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(16)]
    for thread in threads:
        thread.start()
    join(threads)
    assert sum(batches) == 16 * 200
    assert (group._busy, group._queue) == (False, [])


def test_a_thread_alone_never_waits_for_others(monkeypatch):
    group = GroupCommit(receive)
    monkeypatch.setattr(commit.time, "sleep", lambda seconds: pytest.fail("it waited"))
    for _ in range(3):
        group.submit(Request([b"1"], None))


def test_a_leader_waits_only_a_moment_for_threads_that_do_not_come_back():
    group = GroupCommit(receive)
    group._crowd = 64
    assert group.submit(Request([b"1"], None)) == RECEIPT
    assert group._crowd == 1


class Alarm(BaseException):
    pass


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_interrupts_at_any_moment_leave_nobody_asleep():
    """The main thread is interrupted again and again; seven others must go on and end."""

    def ring(number, frame):
        raise Alarm

    group, stop, counts, rung = GroupCommit(receive), threading.Event(), [0] * 7, 0

    def work(number):
        while not stop.is_set():
            # The interrupted thread may have had the lead: then its batch failed.
            with suppress(WriteFailed):
                group.submit(Request([b"1"], None))
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(7)]
    before = signal.signal(signal.SIGALRM, ring)
    try:
        for thread in threads:
            thread.start()
        while rung < 200:
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + rung % 40))
                while True:
                    group.submit(Request([b"1"], None))
            except Alarm:
                rung += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    so_far = list(counts)
    wait_until(lambda: all(now > then for now, then in zip(counts, so_far)))
    stop.set()
    join(threads)
    assert (group._busy, group._queue) == (False, [])
