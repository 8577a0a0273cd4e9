"""Requests are counted, tried again while that helps, and never more than a few at once."""

import threading
import time

import pytest

from meshlab.errors import NotFound, RemoteRefused, RemoteUnavailable
from meshlab.remote.bucket import MemoryBucket
from meshlab.remote.patience import Patience, PatientBucket
from meshlab.remote.transfer import Lanes, in_turn
from scoreboard.sites import Faulty

QUICK = Patience(attempts=3, first=0.001, longest=0.002)


def patient(nth=0, **way):
    return PatientBucket(Faulty(MemoryBucket(), nth, **way), QUICK)


def test_a_request_that_fails_once_is_made_again_and_counted():
    bucket = patient(1)
    bucket.put("data/a/b/0-1-x", b"x")
    assert bucket.get("data/a/b/0-1-x") == b"x"
    assert bucket.traffic[:5] == (2, 1, 0, 0, 1)
    assert (bucket.traffic.bytes_put, bucket.traffic.bytes_got, bucket.traffic.requests) == (1, 1, 3)


def test_it_gives_up_in_the_end():
    bucket = patient(1, forever=True)
    with pytest.raises(RemoteUnavailable):
        bucket.put("data/a/b/0-1-x", b"x")
    assert (bucket.traffic.puts, bucket.traffic.again) == (3, 2)


@pytest.mark.parametrize("error", [NotFound("gone"), RemoteRefused("no")])
def test_what_asking_again_does_not_help_is_not_asked_again(error):
    class Refusing(MemoryBucket):
        def get(self, key):
            raise error

    bucket = PatientBucket(Refusing(), QUICK)
    with pytest.raises(type(error)):
        bucket.get("data/a/b/0-1-x")
    assert bucket.traffic.gets == 1


@pytest.mark.parametrize("broken", range(1, 6))
def test_a_list_that_breaks_off_goes_on_behind_what_it_gave(broken):
    inner = MemoryBucket()
    keys = [f"data/a/b/{number:05d}" for number in range(2500)]
    for key in keys:
        inner.put(key, b"")

    class Breaking(MemoryBucket):
        asked = 0

        def list(self, prefix):
            Breaking.asked += 1
            for number, found in enumerate(inner.list(prefix)):
                if number == broken * 400 and Breaking.asked == 1:
                    raise RemoteUnavailable("cut")
                yield found

    Breaking.asked = 0
    bucket = PatientBucket(Breaking(), QUICK)
    assert [found.key for found in bucket.list("data/")] == keys
    assert Breaking.asked == 2 and bucket.traffic.again == 1


def test_waits_double_up_to_a_bound_and_differ_between_machines():
    patience = Patience(first=1.0, longest=5.0)
    assert [patience.bound(failures) for failures in range(1, 6)] == [1, 2, 4, 5, 5]
    waits = {PatientBucket(MemoryBucket(), patience, seed=seed)._wait(3) for seed in range(20)}
    assert len(waits) == 20 and all(2 <= wait <= 4 for wait in waits)


def test_stop_ends_the_waits():
    bucket = PatientBucket(Faulty(MemoryBucket(), 1, forever=True), Patience(attempts=9, first=60))
    threading.Timer(0.05, bucket.stop).start()
    began = time.monotonic()
    with pytest.raises(RemoteUnavailable):
        bucket.check()
    assert time.monotonic() - began < 10


def test_no_more_blocks_are_in_memory_than_there_are_slots():
    held, most, mutex = 0, 0, threading.Lock()

    def read():
        nonlocal held, most
        with mutex:
            held += 1
            most = max(most, held)
        return b"x"

    def put(block):
        nonlocal held
        time.sleep(0.001)
        with mutex:
            held -= 1

    def push(user):
        sender = lanes.sender()
        for _ in range(20):
            sender.send(read, put)
        sender.finish()

    with Lanes(connections=2, slots=3) as lanes:
        list(in_turn(push, range(6), workers=6))
    assert held == 0 and most == 3


def test_a_put_that_fails_ends_the_push_of_its_user_and_frees_the_slots():
    def put(block):
        raise RemoteUnavailable("out")

    with Lanes(connections=2, slots=2) as lanes:
        for _ in range(5):
            sender = lanes.sender()
            with pytest.raises(RemoteUnavailable):
                for _ in range(50):
                    sender.send(lambda: b"x", put)
            sender.give_up()
        assert list(lanes.fetch(lambda number: number * 2, range(30))) == list(range(0, 60, 2))


def test_many_readers_share_the_slots_and_none_waits_for_ever():
    with Lanes(connections=2, slots=2) as lanes:
        found = list(in_turn(lambda user: sum(lanes.fetch(lambda n: n, range(40))), range(8), workers=8))
    assert found == [780] * 8


def test_a_reader_that_gives_up_frees_its_slots():
    with Lanes(connections=2, slots=2) as lanes:
        for _ in range(5):
            numbers = lanes.fetch(lambda n: n, range(40))
            assert next(numbers) == 0
            numbers.close()
        assert sum(lanes.fetch(lambda n: n, range(10))) == 45
