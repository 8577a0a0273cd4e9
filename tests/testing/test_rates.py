"""Totals of traffic nobody wrote are the same for the same seed, and have what was asked for."""

import numpy as np
import pyarrow.compute as pc
import pytest

from meshlab.tables.totals import TOTALS_SCHEMA
from meshlab.testing.rates import FIRST_DAY, OPS, Planted, Rates, totals_of
from meshlab.times import HOUR, midnight

SMALL = Rates(users=2, days=14)


def events(table, *, user, op):
    """Events of each hour."""
    same = table.filter(pc.and_(pc.equal(table["uid"], user), pc.equal(table["op"], op)))
    hour = (same["hour"].cast("int64").to_numpy() - midnight(FIRST_DAY)) // HOUR
    return np.bincount(hour, same["events"].to_numpy(), 24 * SMALL.days)


def test_the_same_seed_gives_the_same_totals_and_another_does_not():
    assert totals_of(SMALL, 3).equals(totals_of(SMALL, 3))
    assert not totals_of(SMALL, 3).equals(totals_of(SMALL, 4))


def test_totals_are_those_of_a_log():
    table = totals_of(SMALL, 3)
    assert table.schema.equals(TOTALS_SCHEMA)
    assert set(table["op"].to_pylist()) == set(OPS)
    assert pc.min(table["events"]).as_py() >= 1
    assert all(size >= 100 * count for size, count in zip(table["bytes"].to_pylist(), table["events"].to_pylist()))
    assert pc.strftime(table["hour"], "%Y%m%d").equals(table["day"])


def test_a_day_has_as_many_events_as_were_asked_for():
    table = totals_of(Rates(users=5, days=28, trend=0.0), 3)
    assert pc.sum(table["events"]).as_py() / 28 == pytest.approx(4_000, rel=0.1)


def test_a_trend_adds_its_share_each_day():
    table = totals_of(Rates(users=1, days=28, trend=0.05, noise=0.0), 3)
    days = table.group_by("day").aggregate([("events", "sum")]).sort_by("day")["events_sum"].to_numpy()
    expected = np.mean(1 + 0.05 * np.arange(21.5, 28.5)) / np.mean(1 + 0.05 * np.arange(0.5, 7.5))
    assert days[-7:].mean() / days[:7].mean() == pytest.approx(expected, rel=0.1)


def test_what_is_planted_changes_one_user_and_op_from_its_hour_on_and_nothing_else():
    planted = Planted(1, "update", 24 * 7 + 5, 10.0)
    calm, changed = totals_of(SMALL, 3), totals_of(SMALL, 3, planted)
    before, after = (events(table, user="user-0002", op="update") for table in (calm, changed))
    assert (before[: planted.hour] == after[: planted.hour]).all()
    assert after[planted.hour :].sum() / before[planted.hour :].sum() == pytest.approx(10, rel=0.1)
    same = [events(table, user="user-0001", op="update").tolist() for table in (calm, changed)]
    assert same[0] == same[1]


def test_the_first_user_is_the_busiest():
    table = totals_of(Rates(users=4, days=7), 3)
    found = table.group_by("uid").aggregate([("events", "sum")]).sort_by([("events_sum", "descending")])
    assert found["uid"].to_pylist() == [f"user-{number:04d}" for number in range(1, 5)]
