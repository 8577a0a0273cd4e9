"""The fan, the limit and the day that is not over; a figure with nothing to draw says why."""

import numpy as np
import pytest

from meshlab.growth.forecast import forecast
from meshlab.plots.forecast import plot_forecast

from ..growth.odd import ODD, at, rows, traffic

MONTH = traffic(28)
SIZE = forecast(MONTH).size


def words(plot):
    figure = plot.figure
    texts = [text for axes in figure.axes for text in axes.texts] + [text for text in [figure._supxlabel] if text]
    return "\n".join(text.get_text() for text in texts)


def names(plot):
    return [text.get_text() for text in plot.figure.axes[0].get_legend().get_texts()]


def test_two_panels_have_units_and_share_their_days():
    upper, lower = plot_forecast(forecast(MONTH)).figure.axes
    assert (upper.get_ylabel(), lower.get_ylabel()) == ("written per day (MB)", "size at the end of day (MB)")
    assert "UTC" in lower.get_xlabel()
    assert upper.get_xlim() == lower.get_xlim()


def test_the_data_are_the_forecast():
    found = forecast(MONTH, days=5)
    plot = plot_forecast(found)
    assert plot.data.equals(found.table)
    assert found.plot().data.equals(found.table)
    assert len(plot.figure.axes[0].patches) == 28
    assert names(plot) == ["past", "median", "80 % of futures"]


def test_a_day_that_is_not_over_is_hollow():
    plot = plot_forecast(forecast(ODD["a last day that is not over"]))
    assert names(plot)[1] == "day not over"
    hollow = [bar for bar in plot.figure.axes[0].patches if bar.get_facecolor()[3] == 0]
    assert len(hollow) == 1


def test_the_limit_is_a_line_with_the_days_at_which_it_is_reached():
    found = forecast(MONTH, limit=int(1.4 * SIZE))
    plot = plot_forecast(found)
    lower = plot.figure.axes[1]
    level = found.limit / 1e6
    spans = [line.get_xdata() for line in lower.lines if line.get_linewidth() == 5]
    assert [np.ptp(span) for span in spans] == [found.days.high - found.days.low]
    assert f"reached in {found.days.median:.0f} days" in words(plot)
    assert any(list(line.get_ydata()) == [level, level] for line in lower.lines)


@pytest.mark.parametrize(
    ("limit", "told"),
    [(SIZE // 2, "limit 30 MB was passed"), (10**11, "limit, far above: 100 GB not reached within 730 days")],
)
def test_limits_behind_and_far_away_are_told(limit, told):
    assert told in words(plot_forecast(forecast(MONTH, limit=limit)))


def test_a_limit_that_was_passed_is_told_in_the_corner_away_from_its_line():
    lower = plot_forecast(forecast(MONTH, limit=10_000)).figure.axes[1]
    (text,) = lower.texts
    assert text.get_text() == "limit 10 kB was passed"
    assert text.get_transform() == lower.transAxes
    assert text.get_position()[1] > 0.9
    assert "10 kB passed already" in repr(forecast(MONTH, limit=10_000))


def test_the_end_of_the_calendar_ends_the_forecast_too():
    found = forecast(rows((at(9999, 12, 30), "insert", 5, 900), (at(9999, 12, 31), "insert", 5, 900)))
    assert "forecast" not in found.table["kind"].to_pylist()
    assert plot_forecast(found).to_png().startswith(b"\x89PNG")


def test_notes_stand_below():
    assert "too few for a trend" in words(plot_forecast(forecast(traffic(4))))
    assert "limit, far above: 2.0 GB is reached nobody knows when" in words(plot_forecast(forecast(traffic(1))))


@pytest.mark.parametrize("name", ["an empty store", "one event", "clocks decades apart", "a gap of two months"])
def test_odd_totals_can_be_drawn_and_say_what_nobody_knows(name):
    found = forecast(ODD[name])
    plot = plot_forecast(found)
    assert plot.to_png().startswith(b"\x89PNG")
    assert found.notes
    for note in found.notes:
        assert note in words(plot)


def test_one_day_of_forecast_can_be_drawn():
    assert plot_forecast(forecast(MONTH, days=1)).to_png().startswith(b"\x89PNG")
