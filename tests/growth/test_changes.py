"""A jump is found where it was planted, and chance alone brings none."""

import numpy as np
import pytest

from meshlab.growth.changes import CHANGES_SCHEMA, change_points
from meshlab.testing.rates import FIRST_DAY, Planted, Rates, totals_of
from meshlab.times import HOUR, midnight, to_datetime

from .odd import HOSTILE, ODD, at, hourly, pa, rows, traffic

SMALL = Rates(users=2, days=28)
CALM, MOST_ALARMS = 200, 10


def hour_of(number):
    return to_datetime(midnight(FIRST_DAY) + number * HOUR)


@pytest.mark.parametrize("seed", range(12))
def test_recalling_ten_times_as_often_is_told_with_its_user_op_and_hour(seed):
    hour = 24 * 14 + int(np.random.default_rng(seed).integers(-72, 72))
    planted = Planted(seed % 2, "update", hour, 10.0)
    print(f"seed {seed}: {planted}")
    found = change_points(totals_of(SMALL, seed, planted))
    (row,) = found.to_pylist()
    assert (row["uid"], row["op"], row["hour"]) == (f"user-{seed % 2 + 1:04d}", "update", hour_of(hour))
    assert 8 < row["factor"] < 13
    assert row["events_per_day_after"] > 8 * row["events_per_day_before"]
    assert row["bytes_per_day_added"] > 0
    assert found.notes == ()


def test_calm_traffic_brings_few_false_alarms():
    alarms = [seed for seed in range(CALM) if len(change_points(totals_of(SMALL, 1_000 + seed)))]
    print(f"{len(alarms)} false alarms in {CALM} traces: seeds {alarms}")
    assert len(alarms) <= MOST_ALARMS


def test_what_fell_is_told_too():
    (row,) = change_points(totals_of(SMALL, 5, Planted(0, "insert", 340, 0.1))).to_pylist()
    assert (row["uid"], row["op"]) == ("user-0001", "insert")
    assert row["factor"] == pytest.approx(0.1, abs=0.03)
    assert row["bytes_per_day_added"] < 0


def test_the_change_that_adds_most_bytes_comes_first():
    planted = Planted(0, "update", 340, 10.0), Planted(1, "delete", 400, 10.0)
    found = change_points(totals_of(SMALL, 5, *planted)).table
    assert found["op"].to_pylist() == ["update", "delete"]


def test_a_burst_of_hours_is_no_change():
    burst = rows((at(2025, 7, 20, 3), "update", 30_000, 9_000_000), uid="user-0001")
    assert not len(change_points(pa.concat_tables([totals_of(SMALL, 5), burst])))


def test_a_user_who_comes_later_began_and_one_who_goes_ended():
    calm = hourly(24 * 28, 50, uid="bob")
    (began,) = change_points(pa.concat_tables([calm, hourly(24 * 10, 40, start=at(2025, 7, 25, 0))])).to_pylist()
    assert (began["uid"], began["hour"], began["events_per_day_before"]) == ("ann", at(2025, 7, 25, 0), 0)
    found = change_points(pa.concat_tables([calm, hourly(24 * 10, 40)]))
    assert "insert events ended at 2025-07-17 00:00 UTC" in repr(found)


NOTED = {
    "an empty store": "no event has a time",
    "one event": "1 hour of events: two days are needed",
    "a single day": "24 hours of events: two days are needed",
    "clocks decades apart": "2 hours beyond a gap of a month",
    "two events a century apart": "two days are needed",
    "no event with a time": "no event has a time",
    "rejects alone": "no event has a time",
    "a gap of two months": "beyond a gap of a month",
}


@pytest.mark.parametrize("name", ODD)
def test_odd_totals_have_no_change_and_a_note_of_what_could_not_be_told(name):
    found = change_points(ODD[name])
    assert found.table.schema.equals(CHANGES_SCHEMA)
    print(f"{name}: {found}")
    told = "; ".join(found.notes)
    assert NOTED.get(name, "") in told
    assert bool(told) == (name in NOTED)
    assert len(found) == (6 if name == "a gap of ten days" else 0)


def test_a_gap_ends_everything_and_begins_it_again():
    found = change_points(ODD["a gap of ten days"]).to_pylist()
    assert sorted((row["op"], row["hour"].day) for row in found) == [
        (op, day) for op in ("delete", "insert", "update") for day in (15, 25)
    ]


def test_far_clocks_do_not_hide_a_change():
    far = rows((at(1971), "insert", 5, 900), (at(2155), "insert", 5, 900))
    found = change_points(pa.concat_tables([totals_of(SMALL, 3, Planted(1, "update", 340, 10.0)), far]))
    assert [row["hour"] for row in found.to_pylist()] == [hour_of(340)]
    assert found.notes


def test_deleted_segments_count_as_they_did():
    table = totals_of(SMALL, 3, Planted(1, "update", 340, 10.0))
    gone = table.set_column(7, "deleted", pa.array([True] * table.num_rows))
    assert change_points(gone).table.equals(change_points(table).table)


@pytest.mark.parametrize("uid", HOSTILE)
def test_hostile_users_are_shown_as_text(uid):
    calm = pa.concat_tables([traffic(28), hourly(24 * 28, 5, uid=uid), hourly(24 * 10, 400, uid=uid)])
    found = change_points(calm)
    assert found.table["uid"].to_pylist() == [uid]
    shown = repr(found) + found._repr_html_()
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert "<script" not in found._repr_html_()
