"""Bounds hold as often as they say, and what nobody can know is said."""

import numpy as np
import pyarrow.compute as pc
import pytest

from meshlab.errors import MeshlabError
from meshlab.growth.forecast import FARTHEST, FORECAST_SCHEMA, LEVEL, LIMIT, Reach, forecast
from meshlab.testing.rates import Rates, totals_of

from .odd import ODD, at, before, hourly, pa, rows, traffic

TRACES, BEHIND, AHEAD = 100, 35, 7
SPLIT = at(2025, 8, 11, 0)
"""The first day held out."""


def days_of(table):
    return table.group_by("day").aggregate([("bytes", "sum")]).sort_by("day")["bytes_sum"].to_numpy()


def coming(found, *names):
    table = found.table.filter(pc.equal(found.table["kind"], "forecast"))
    return [table[name].to_numpy() for name in names]


def within(low, high, found):
    return float(((low <= found) & (found <= high)).mean())


@pytest.fixture(scope="module")
def trials():
    """Bounds and what came, each of (days or sizes, traces, ``AHEAD`` days)."""
    bounds, came = [], []
    for seed in range(TRACES):
        whole = totals_of(Rates(users=1, days=BEHIND + AHEAD), seed)
        past = before(whole, SPLIT)
        found = forecast(past, days=AHEAD)
        held_out = days_of(whole)[-AHEAD:]
        bounds.append(coming(found, "low", "high", "size_low", "size_high"))
        came.append([held_out, found.size + np.cumsum(held_out)])
    bounds, came = np.array(bounds), np.array(came)
    return {"day": (bounds[:, 0], bounds[:, 1], came[:, 0]), "size": (bounds[:, 2], bounds[:, 3], came[:, 1])}


@pytest.mark.parametrize("what", ["day", "size"])
def test_four_of_five_days_held_out_lie_between_the_bounds(trials, what):
    share = within(*trials[what])
    print(f"{share:.1%} of {TRACES} x {AHEAD} held-out days: {what} between the bounds of {LEVEL:.0%}")
    assert 0.7 <= share <= 0.9


@pytest.mark.parametrize("what", ["day", "size"])
@pytest.mark.parametrize(("width", "enough"), [(0.5, False), (2.0, True)])
def test_narrower_bounds_would_hold_too_few_and_wider_ones_too_many(trials, what, width, enough):
    low, high, found = trials[what]
    middle, half = (low + high) / 2, width * (high - low) / 2
    share = within(middle - half, middle + half, found)
    print(f"bounds times {width}: {share:.1%}")
    assert share > 0.9 if enough else share < 0.7


# What is told


def test_the_past_is_what_was_written_and_the_size_what_is_on_disk():
    table = traffic(28)
    found = forecast(table)
    past = found.table.filter(pc.equal(found.table["kind"], "past"))
    assert past["bytes"].to_pylist() == days_of(table).tolist()
    assert past["size"].to_pylist() == np.cumsum(days_of(table)).tolist()
    assert found.size == past["size"].to_pylist()[-1]
    assert found.table.num_rows == 28 + 28


def test_bounds_lie_around_the_median_and_sizes_grow():
    low, middle, high, size_low, size, size_high = coming(
        forecast(traffic(28)), "low", "bytes", "high", "size_low", "size", "size_high"
    )
    assert ((low >= 0) & (low <= middle) & (middle <= high)).all()
    assert ((size_low <= size) & (size <= size_high)).all()
    assert (np.diff(size) >= 0).all()


def test_the_limit_is_reached_when_the_median_says_so():
    table = traffic(35)
    size = forecast(table).size
    (sizes,) = coming(forecast(table), "size")
    found = forecast(table, limit=int(sizes[9]))
    assert found.days.low <= found.days.median <= found.days.high
    assert found.days.median == pytest.approx(10, abs=1)
    assert forecast(table, limit=size).days == Reach(0.0, 0.0, 0.0)
    assert forecast(table, limit=10**15).days == Reach(None, None, None)
    assert f"not within {FARTHEST} days" in repr(forecast(table, limit=10**15))


def test_what_was_deleted_has_grown_but_is_not_on_disk():
    table = traffic(28)
    flags = pa.array([day < "20250714" for day in table["day"].to_pylist()])
    kept, gone = forecast(table), forecast(table.set_column(7, "deleted", flags))
    assert gone.per_day == kept.per_day
    assert gone.size == kept.size - int(days_of(table)[:7].sum())


def test_few_days_have_bounds_too():
    low, high = coming(forecast(traffic(3)), "low", "high")
    assert (low < high).all()


def test_a_day_that_is_not_over_is_partial_and_counts_once():
    table = ODD["a last day that is not over"]
    found = forecast(table)
    kinds = found.table["kind"].to_pylist()
    assert (kinds.count("past"), kinds.count("partial")) == (27, 1)
    day = found.table["day"].to_pylist()
    assert day[kinds.index("partial")] == day[kinds.index("forecast")]
    assert found.table["bytes"].to_pylist()[kinds.index("partial")] == days_of(table)[-1]
    assert coming(found, "bytes")[0][0] > days_of(table)[-1]


def test_the_same_totals_have_the_same_forecast():
    assert forecast(traffic(28)).table.equals(forecast(traffic(28)).table)


@pytest.mark.parametrize("options", [{"limit": 0}, {"days": 0}, {"days": FARTHEST + 1}])
def test_no_limit_and_no_days_are_refused(options):
    with pytest.raises(MeshlabError, match="no forecast"):
        forecast(traffic(2), **options)


NOTED = {
    "an empty store": "nothing was written on a known day",
    "one event": "whole days of history: two are needed",
    "a single day": "1 whole day of history: two are needed",
    "clocks decades apart": "2 days beyond a gap",
    "two events a century apart": "1 day beyond a gap",
    "no event with a time": "too few for a trend",
    "rejects alone": "1 whole day of history",
    "a gap of ten days": "many days without bytes",
    "a gap of two months": "21 days beyond a gap",
}


@pytest.mark.parametrize("name", ODD)
def test_odd_totals_have_an_answer_that_says_what_nobody_can_know(name):
    found = forecast(ODD[name])
    print(f"{name}: {found}")
    assert found.table.schema.equals(FORECAST_SCHEMA)
    assert found.size == (pc.sum(ODD[name]["bytes"]).as_py() or 0)
    assert NOTED.get(name, "") in "; ".join(found.notes)
    known = "forecast" in found.table["kind"].to_pylist()
    assert known == (found.days is not None) == (found.per_day is not None)
    assert known or found.notes
    assert set(found.answer) >= {"days_low", "days_median", "days_high"}
    assert np.isfinite(found.table["size"].to_numpy()).all()


def test_the_days_of_a_gap_had_no_bytes():
    found = forecast(ODD["a gap of ten days"])
    assert found.table["bytes"].to_pylist()[8:18] == [0.0] * 10


@pytest.mark.parametrize("name", ["a gap of ten days", "every third day"])
def test_many_empty_days_bring_as_much_as_they_did_on_average(name):
    table = traffic(36)
    every_third = table.filter(pc.equal(pc.remainder(pc.day_of_year(table["hour"]), 3), 0))
    found = forecast(ODD.get(name, every_third))
    (size,) = coming(found, "size")
    days = found.table["kind"].to_pylist().count("past")
    print(f"{name}: {found}")
    assert (size[-1] - found.size) / 28 == pytest.approx(found.size / days, rel=0.2)
    assert found.days.low is None or found.days.low > 400


def test_empty_weekends_are_days_of_the_week_and_no_gap():
    table = traffic(42)
    found = forecast(table.filter(pc.less(pc.day_of_week(table["hour"]), 5)))
    assert not any("without bytes" in note for note in found.notes)
    (middle,) = coming(found, "bytes")
    weekdays = np.array([day.weekday() < 5 for day in found.table["day"].to_pylist()[-28:]])
    assert middle[weekdays].min() > 100 * middle[~weekdays].max()


def test_equal_days_go_on_as_they_were():
    found = forecast(hourly(24 * 28, 10), limit=LIMIT)
    (low, high) = coming(found, "low", "high")
    assert low == pytest.approx([24_000] * 28)
    assert high == pytest.approx([24_000] * 28)
    assert found.coverage == 1.0


def test_coverage_tells_how_many_past_days_were_tried():
    found = forecast(traffic(42))
    assert found.tried == 21
    assert f"{found.tried} past days tried" in repr(found)
    assert "the bounds could not be tried on the past" in forecast(traffic(14)).notes
    assert rows().equals(ODD["an empty store"])
