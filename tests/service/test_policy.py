"""The policy: who is due, who comes first, what the budget allows, and how long failures wait."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.service.policy import (
    AGING,
    DAY,
    HOUR,
    JITTER,
    MIB,
    Backlog,
    Backoff,
    Bucket,
    Rates,
    Thresholds,
    Trouble,
    after_failure,
    age,
    benefit,
    choose,
    event_count,
    fits,
    full_bucket,
    learn,
    rank,
    reasons,
    refill,
    replay_seconds,
    retry_delay,
    spread,
    take,
    write_bytes,
)

NOW = 1_751_875_200.0
OFF = Thresholds(None, None, None, None)
RATES = Rates()

sizes = st.integers(0, 1 << 40)
uids = st.text("abcdefgh", min_size=1, max_size=4)


@st.composite
def backlogs(draw, uid=uids):
    unfolded = draw(sizes)
    return Backlog(
        draw(uid),
        unfolded,
        closed=draw(st.integers(0, unfolded)),
        oldest=draw(st.none() | st.floats(NOW - 100 * DAY, NOW + DAY)),
        event_bytes=draw(st.none() | st.floats(2, 1e6)),
        manifest=draw(st.integers(0, 10 * MIB)),
    )


# Due


@pytest.mark.parametrize(
    ("name", "limit", "under", "over"),
    [
        ("bytes", 1000, Backlog("ann", 1000), Backlog("ann", 1001)),
        ("events", 10, Backlog("ann", 1000, event_bytes=100.0), Backlog("ann", 1100, event_bytes=100.0)),
        ("age", 60, Backlog("ann", 1, oldest=NOW - 60), Backlog("ann", 1, oldest=NOW - 61)),
        ("replay", 2, Backlog("ann", int(2 * RATES.replay)), Backlog("ann", int(2 * RATES.replay) + 1000)),
    ],
)
def test_each_threshold_alone_makes_a_user_due(name, limit, under, over):
    thresholds = OFF._replace(**{name: limit})
    assert reasons(under, thresholds, RATES, NOW) == ()
    assert reasons(over, thresholds, RATES, NOW) == (name,)


@given(backlogs())
def test_a_threshold_that_is_off_never_makes_anybody_due(log):
    assert reasons(log, OFF, RATES, NOW) == ()


@given(st.builds(Thresholds, *[st.floats(-1, 10)] * 4))
def test_a_user_with_everything_folded_is_never_due(thresholds):
    assert reasons(Backlog("ann", 0, oldest=0.0), thresholds, RATES, NOW) == ()


def test_a_moment_in_the_future_has_no_age():
    assert age(Backlog("ann", 1, oldest=NOW + 60), NOW) == 0
    assert age(Backlog("ann", 1, oldest=None), NOW) == 0
    assert age(Backlog("ann", 0, oldest=0.0), NOW) == 0


@given(backlogs())
def test_the_numbers_are_finite_and_not_negative(log):
    for number in (
        event_count(log, RATES),
        age(log, NOW),
        replay_seconds(log, RATES),
        write_bytes(log, RATES),
        benefit(log, RATES),
    ):
        assert math.isfinite(number)
        assert number >= 0


# Measured rates


@given(
    st.lists(
        st.tuples(st.integers(0, 1 << 34), st.floats(0, 1e4), st.integers(0, 1 << 34)),
        max_size=20,
    )
)
def test_rates_stay_usable_whatever_was_measured(lessons):
    rates = Rates()
    for folded, seconds, written in lessons:
        rates = learn(rates, folded=folded, seconds=seconds, written=written)
    assert rates.replay > 0
    assert rates.written >= 0
    assert math.isfinite(rates.replay)


def test_rates_come_to_what_is_measured_again_and_again():
    rates = Rates()
    for _ in range(40):
        rates = learn(rates, folded=100 * MIB, seconds=1.0, written=20 * MIB)
    assert rates.replay == pytest.approx(100 * MIB, rel=0.01)
    assert rates.written == pytest.approx(0.2, rel=0.01)


def test_a_checkpoint_of_little_teaches_nothing():
    assert learn(RATES, folded=1000, seconds=1.0, written=30_000) == RATES


# The order


@given(backlogs(), st.integers(0, 1 << 40))
def test_more_to_reclaim_is_never_less_benefit(log, more):
    assert benefit(log._replace(closed=log.closed + more), RATES) >= benefit(log, RATES)


@given(backlogs(), st.integers(2, 1000))
def test_more_of_the_same_is_never_less_benefit(log, times):
    larger = log._replace(unfolded=log.unfolded * times, closed=log.closed * times)
    assert benefit(larger, RATES) >= benefit(log, RATES)


@given(backlogs(), st.integers(0, 1 << 30))
def test_more_to_write_is_never_more_benefit(log, more):
    assert benefit(log._replace(manifest=log.manifest + more), RATES) <= benefit(log, RATES)


@given(st.lists(backlogs(), unique_by=lambda log: log.uid), st.randoms())
def test_the_order_is_by_score_and_the_same_however_the_users_are_listed(logs, random):
    order = rank(logs, {}, RATES, NOW)
    assert [one.score for one in order] == sorted((one.score for one in order), reverse=True)
    shuffled = list(logs)
    random.shuffle(shuffled)
    assert rank(shuffled, {}, RATES, NOW) == order


@given(backlogs(uid=st.just("ann")), backlogs(uid=st.just("bob")), st.floats(0, 1000 * HOUR), st.floats(0, 1000 * HOUR))
def test_waiting_longer_never_moves_a_user_back(ann, bob, waited, longer):
    def place(seconds):
        order = rank([ann, bob], {"ann": NOW - seconds}, RATES, NOW)
        return [one.uid for one in order].index("ann")

    assert place(max(waited, longer)) <= place(min(waited, longer))


def test_an_hour_of_waiting_is_worth_a_byte_per_byte():
    (one,) = rank([Backlog("ann", MIB)], {"ann": NOW - AGING}, RATES, NOW)
    assert one.score == pytest.approx(one.benefit + 1)


# The budget

costs = st.integers(0, 500)
steps = st.lists(st.tuples(st.floats(0, 100), st.lists(costs, max_size=5)), max_size=30)


@given(steps, st.floats(0.1, 10), st.floats(1, 300))
def test_no_span_of_time_takes_more_than_the_budget_allows(rounds, rate, burst):
    bucket, now, taken, largest = Bucket(rate, burst, burst, 0.0), 0.0, [], burst
    for pause, wanted in rounds:
        now += pause
        order = [_ranked(f"u{at}", cost) for at, cost in enumerate(wanted)]
        chosen, bucket = choose(order, refill(bucket, now), len(order))
        taken += [(now, one.cost) for one in chosen]
        largest = max([largest, *(one.cost for one in chosen)])
    for at, (start, _) in enumerate(taken):
        total = 0
        for moment, cost in taken[at:]:
            total += cost
            assert total <= largest + rate * (moment - start) + 1e-6


def _ranked(uid, cost):
    (one,) = rank([Backlog(uid, 1)], {}, RATES, NOW)
    return one._replace(cost=cost)


@given(st.lists(costs, min_size=1, max_size=10))
def test_nobody_overtakes_the_first_who_does_not_fit(wanted):
    order = [_ranked(f"u{at}", cost) for at, cost in enumerate(wanted)]
    chosen, _ = choose(order, full_bucket(400, 0.0), len(order))
    assert chosen == order[: len(chosen)]


def test_what_is_larger_than_the_bucket_waits_for_it_to_be_full_and_leaves_a_debt():
    bucket = take(full_bucket(3_600, 0.0, burst=100), 1)
    assert not fits(bucket, 500)
    bucket = refill(bucket, 1.0)
    assert fits(bucket, 500)
    bucket = take(bucket, 500)
    assert not fits(refill(bucket, 400.0), 1)
    assert fits(refill(bucket, 402.0), 1)


def test_a_clock_that_goes_back_fills_no_bucket():
    bucket = take(full_bucket(3_600, 1000.0, burst=100), 80)
    assert refill(bucket, 10.0).tokens == 20


def test_what_was_not_needed_comes_back_up_to_the_brim():
    assert take(full_bucket(400, 0.0), -1000) == full_bucket(400, 0.0)


def test_without_a_budget_only_the_slots_count():
    order = [_ranked(f"u{at}", 10**12) for at in range(3)]
    assert choose(order, None, 2) == (order[:2], None)


@pytest.mark.parametrize("per_hour", [None, 200 * MIB])
def test_nobody_who_is_due_starves(per_hour):
    """One small, poor user beside many rich ones who are due again as soon as they were served."""
    poor = Backlog("poor", 1, oldest=0.0, manifest=10 * MIB)
    rich = [Backlog(f"rich{at:02d}", 40 * MIB, closed=40 * MIB) for at in range(30)]
    waiting = {log.uid: 0.0 for log in [poor, *rich]}
    bucket = full_bucket(per_hour, 0.0) if per_hour else None
    now, served = 0.0, set()
    while "poor" not in served and now < 2 * DAY:
        now += 600.0
        bucket = refill(bucket, now) if bucket else None
        chosen, bucket = choose(rank([poor, *rich], waiting, RATES, now), bucket, 1)
        for one in chosen:
            served.add(one.uid)
            waiting[one.uid] = now
    assert "poor" in served


@given(st.floats(1, 1e6), st.floats(1, 1e9), st.integers(1, 1 << 40))
def test_every_cost_is_served_once_the_bucket_has_filled(rate, burst, cost):
    bucket = Bucket(rate, burst, -float(cost), 0.0)
    assert fits(refill(bucket, 2 * (cost + burst) / rate), cost)


# Failures


@given(uids, st.integers(1, 10_000))
def test_a_delay_is_at_most_the_ceiling_and_at_least_its_part(uid, failures):
    backoff = Backoff(base=60.0, ceiling=HOUR)
    delay = retry_delay(uid, failures, backoff)
    plain = min(HOUR, 60.0 * 2 ** min(failures - 1, 20))
    assert (1 - JITTER) * plain <= delay <= plain


def test_without_a_failure_there_is_no_delay():
    assert retry_delay("ann", 0) == 0


def test_delays_are_the_same_each_time_and_differ_among_users():
    delays = {retry_delay(f"user{at}", 1) for at in range(100)}
    assert len(delays) == 100
    assert retry_delay("ann", 3) == retry_delay("ann", 3)


def test_failures_in_a_row_wait_longer_and_longer():
    trouble, now, waits = Trouble(), 0.0, []
    for _ in range(12):
        trouble = after_failure(trouble, "ann", now)
        waits.append(trouble.until - now)
        now = trouble.until
    assert trouble.failures == 12
    assert all(later > earlier for earlier, later in pairwise(waits[:9]))
    assert waits[-1] <= Backoff().ceiling


@given(st.text(), st.integers(0, 100))
def test_the_spread_is_a_part_of_one(uid, salt):
    assert 0 <= spread(uid, salt) < 1
