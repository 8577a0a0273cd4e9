"""What is over a limit is refused before it costs memory."""

import pytest

from meshlab.service.gateway.admission import Admission, Limits
from meshlab.service.gateway.refusals import Overloaded, TooFast


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_user_may_send_a_second_of_events_at_once_and_then_so_many_a_second(clock):
    admission = Admission(Limits(rate=10.0), clock)
    for _ in range(10):
        admission.enter("ann", 1)
    with pytest.raises(TooFast) as caught:
        admission.enter("ann", 1)
    assert caught.value.retry_after == 1
    admission.enter("bob", 1)
    clock.now += 0.1
    admission.enter("ann", 1)
    with pytest.raises(TooFast):
        admission.enter("ann", 1)


def test_no_rate_is_no_limit(clock):
    admission = Admission(Limits(rate=None, waiting=100_000), clock)
    for _ in range(20_000):
        admission.enter("ann", 1)
    assert admission.events == 20_000


def test_events_that_wait_are_bounded_until_some_leave(clock):
    admission = Admission(Limits(rate=None, waiting=3), clock)
    for uid in ("ann", "cleo", "dan"):
        admission.enter(uid, 5)
    with pytest.raises(Overloaded):
        admission.enter("bob", 5)
    assert (admission.events, admission.nbytes) == (3, 15)
    admission.leave("ann", 5)
    admission.enter("bob", 5)


def test_one_user_has_a_quarter_of_the_places_and_of_the_bytes(clock):
    admission = Admission(Limits(rate=None, waiting=40, waiting_bytes=400), clock)
    for _ in range(10):
        admission.enter("ann", 1)
    with pytest.raises(Overloaded, match="of this user"):
        admission.enter("ann", 1)
    admission.enter("bob", 300)  # one may be as large as there is room
    with pytest.raises(Overloaded, match="of this user"):
        admission.enter("bob", 1)
    admission.enter("cleo", 1)
    admission.leave("ann", 1)
    admission.enter("ann", 1)
    for uid, count, nbytes in (("ann", 10, 1), ("bob", 1, 300), ("cleo", 1, 1)):
        for _ in range(count):
            admission.leave(uid, nbytes)
    assert (admission.events, admission.nbytes, admission._waiting) == (0, 0, {})


def test_bytes_of_events_and_of_bodies_share_one_bound(clock):
    admission = Admission(Limits(rate=None, waiting_bytes=100), clock)
    admission.take_bytes(60)
    with pytest.raises(Overloaded):
        admission.enter("ann", 41)
    with pytest.raises(Overloaded):
        admission.take_bytes(41)
    admission.give_bytes(60)
    admission.enter("ann", 41)


def test_users_who_were_not_heard_of_for_long_are_forgotten(clock):
    admission = Admission(Limits(rate=1.0, waiting=100_000), clock)
    for number in range(10_500):
        admission.enter(f"u{number}", 1)
    assert len(admission._buckets) == 10_000
