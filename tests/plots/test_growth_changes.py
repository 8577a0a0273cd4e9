"""Traffic around its changes: who, what, from when on, and how much more often."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from meshlab.growth.changes import change_points
from meshlab.plots.change_points import DATA_SCHEMA, plot_change_points
from meshlab.testing.rates import Planted, Rates, totals_of

from ..growth.odd import HOSTILE, ODD, hourly

TABLE = totals_of(Rates(users=3, days=28), 3, Planted(1, "update", 340, 10.0), Planted(0, "insert", 400, 5.0))
FOUND = change_points(TABLE)


def titles(plot):
    return [axes.get_title(loc="left") for axes in plot.figure.axes]


def test_every_change_has_a_panel_that_names_it():
    plot = plot_change_points(FOUND)
    assert len(plot.figure.axes) == len(FOUND) == 2
    first = FOUND.to_pylist()[0]
    assert titles(plot)[0].startswith(f"{first['uid']}: {first['op']} {first['factor']:.3g} times as often from 2025-")
    assert plot.to_png().startswith(b"\x89PNG")


def test_a_marker_stands_at_the_hour():
    plot = plot_change_points(FOUND)
    for axes, row in zip(plot.figure.axes, FOUND.to_pylist()):
        marks = [line for line in axes.lines if line.get_marker() == "v"]
        hour = np.datetime64(row["hour"].replace(tzinfo=None), "us")
        assert [np.datetime64(line.get_xdata()[0], "us") for line in marks] == [hour]


def test_the_data_are_the_events_of_the_hours_a_week_around():
    data = plot_change_points(FOUND, most=1).data
    assert data.schema.equals(DATA_SCHEMA)
    row = FOUND.to_pylist()[0]
    low, high = pc.min_max(data["hour"]).as_py().values()
    same = pc.and_(pc.equal(TABLE["uid"], row["uid"]), pc.equal(TABLE["op"], row["op"]))
    near = pc.and_(pc.greater_equal(TABLE["hour"], low), pc.less_equal(TABLE["hour"], high))
    assert pc.sum(data["events"]).as_py() == pc.sum(TABLE.filter(pc.and_(same, near))["events"]).as_py()
    assert (row["hour"] - low).days == 7
    assert data.num_rows == (high - low).total_seconds() / 3600 + 1


def test_the_most_are_drawn_and_the_caption_tells_of_the_rest():
    plot = plot_change_points(FOUND, most=1)
    assert len(plot.figure.axes) == 1
    assert "the largest of 2" in plot.caption
    assert "largest of" not in FOUND.plot().caption


@pytest.mark.parametrize("uid", HOSTILE)
def test_hostile_users_are_no_formulas(uid):
    table = pa.concat_tables([hourly(24 * 28, 50, uid="bob"), hourly(24 * 10, 40, uid=uid)])
    plot = plot_change_points(change_points(table))
    assert "none from 2025-07-17 00:00 UTC" in titles(plot)[0]
    assert "\n" not in titles(plot)[0]
    assert plot.to_png().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["an empty store", "one event", "clocks decades apart"])
def test_no_change_is_told_with_what_nobody_knows(name):
    found = change_points(ODD[name])
    plot = plot_change_points(found)
    assert plot.data.num_rows == 0
    assert plot.to_png().startswith(b"\x89PNG")
    (text,) = (text.get_text() for text in plot.figure.axes[0].texts)
    assert text.split("\n") == ["no change was found", *found.notes]
