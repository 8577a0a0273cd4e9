"""Hours of the week: a mean of the hours there were, and none where there was no hour."""

import numpy as np
import pyarrow.compute as pc
import pytest

from meshlab.plots.heatmap import plot_heatmap
from meshlab.testing.rates import Rates, totals_of

from ..growth.odd import ODD, at, hourly, pa, rows


def cell(plot, weekday, hour):
    return plot.data.slice(24 * weekday + hour, 1).to_pylist()[0]


def test_a_mean_is_that_of_the_hours_there_were():
    table = pa.concat_tables([hourly(24 * 9, 1), rows((at(2025, 7, 14, 5), "update", 1, 500))])
    plot = plot_heatmap(table)
    monday = cell(plot, 0, 5)
    assert (monday["hours"], monday["bytes"], monday["bytes_per_hour"]) == (2, 700, 350.0)
    thursday = cell(plot, 3, 5)
    assert (thursday["hours"], thursday["bytes_per_hour"]) == (1, 100.0)


def test_hours_without_events_count_in_the_mean():
    table = rows((at(2025, 7, 7, 5), "insert", 1, 600), (at(2025, 7, 21, 5), "insert", 1, 300))
    assert cell(plot_heatmap(table), 0, 5)["bytes_per_hour"] == 300.0
    assert cell(plot_heatmap(table), 1, 5)["bytes_per_hour"] == 0.0


def test_hours_that_never_came_are_no_zeros():
    plot = plot_heatmap(hourly(24, 1))
    assert cell(plot, 1, 0)["bytes_per_hour"] is None
    assert plot.data["bytes_per_hour"].null_count == 144
    assert [text.get_text() for text in plot.figure.axes[0].texts] == ["hatched: no such hour yet"]
    assert not plot_heatmap(hourly(24 * 7, 1)).figure.axes[0].texts


def test_hours_without_bytes_are_white_and_those_that_never_came_are_hatched():
    plot = plot_heatmap(pa.concat_tables([hourly(24, 1), rows((at(2025, 7, 9, 5), "update", 1, 500))]))
    (told,) = [text.get_text() for text in plot.figure.axes[0].texts]
    assert told == "white: nothing was written; hatched: no such hour yet"
    mesh = plot.figure.axes[0].collections[-1]
    white, pale, dark = mesh.get_cmap()(mesh.norm([0.0, 0.001, 500.0]))[:, :3].sum(axis=1)
    assert white == 3 > pale + 0.1 > dark
    (unknown,) = [one for one in plot.figure.axes[0].collections if one.get_hatch()]
    assert unknown.get_facecolor()[0][:3].sum() < 3


def test_every_byte_of_an_event_is_in_the_data():
    table = totals_of(Rates(users=3, days=15), 1)
    plot = plot_heatmap(table)
    assert pc.sum(plot.data["bytes"]).as_py() == pc.sum(table["bytes"]).as_py()
    mine = table.filter(pc.equal(table["uid"], "user-0002"))
    assert pc.sum(plot_heatmap(table, ["user-0002"]).data["bytes"]).as_py() == pc.sum(mine["bytes"]).as_py()


def test_axes_and_colours_have_units():
    axes, bar = plot_heatmap(totals_of(Rates(days=8), 1)).figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("hour of day (UTC)", "day of week")
    assert bar.get_ylabel() == "mean per hour (kB)"


def test_colours_only_get_darker():
    (mesh,) = [one for one in plot_heatmap(hourly(168, 1)).figure.axes[0].collections if one.get_array() is not None]
    grey = mesh.get_cmap()(np.linspace(0, 1, 64))[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(grey) < 0).all()


@pytest.mark.parametrize("name", ["an empty store", "one event", "clocks decades apart", "rejects alone"])
def test_odd_totals_can_be_drawn(name):
    plot = plot_heatmap(ODD[name])
    assert plot.to_png().startswith(b"\x89PNG")
    assert plot.data.num_rows == 168
    assert ("no event has a time" in plot.caption) == (name in ("an empty store", "rejects alone"))
    assert ("left out" in plot.caption) == (name == "clocks decades apart")
