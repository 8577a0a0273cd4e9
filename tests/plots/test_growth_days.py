"""Bytes by day and op: the bars are the totals."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from meshlab.growth.attribution import attribute
from meshlab.growth.ledger import NO_EVENT
from meshlab.plots.growth_days import DATA_SCHEMA, EVENTS, KINDS, plot_growth_days
from meshlab.tables.totals import BLANKS, OPEN_TAIL, REJECTS, TOTALS_SCHEMA
from meshlab.testing.rates import Rates, totals_of

from ..growth.odd import ODD, at, rows

TABLE = totals_of(Rates(users=2, days=10), 1)


def bars(plot):
    return [bar for bar in plot.figure.axes[0].patches if bar.get_height()]


def names(plot):
    return [text.get_text() for text in plot.figure.axes[0].get_legend().get_texts()]


def deleted(table, day):
    """The totals, with segments before a day deleted."""
    flags = pc.less(table["day"], day)
    return table.set_column(TOTALS_SCHEMA.names.index("deleted"), "deleted", flags)


def test_every_byte_is_in_a_bar_once():
    plot = plot_growth_days(TABLE)
    assert plot.data.schema.equals(DATA_SCHEMA)
    assert pc.sum(plot.data["bytes"]).as_py() == pc.sum(TABLE["bytes"]).as_py()
    drawn = sum(bar.get_height() for bar in bars(plot)) * 1000 ** (2 if "MB" in axis(plot) else 1)
    assert drawn == pytest.approx(pc.sum(TABLE["bytes"]).as_py())


def axis(plot):
    return plot.figure.axes[0].get_ylabel()


def test_the_axis_names_the_unit_and_days_their_zone():
    plot = plot_growth_days(TABLE)
    assert axis(plot) == "written per day (MB)"
    assert axis(plot_growth_days(rows((at(2025), "insert", 1, 154)))) == "written per day (bytes)"
    assert "UTC" in plot.figure.axes[0].get_xlabel()


def test_users_can_be_chosen():
    some = plot_growth_days(TABLE, ["user-0002"]).data
    mine = TABLE.filter(pc.equal(TABLE["uid"], "user-0002"))
    assert pc.sum(some["bytes"]).as_py() == pc.sum(mine["bytes"]).as_py() > 0
    assert plot_growth_days(TABLE, []).data.num_rows == 0


def test_deleted_segments_are_light_and_named():
    plot = plot_growth_days(deleted(TABLE, "20250710"))
    assert names(plot) == [f"{op}{gone}" for gone in (", deleted", "") for op in ("delete", "update", "insert")]
    light = [bar for bar in bars(plot) if bar.get_facecolor()[3] < 1]
    assert len(light) == 3 * 3
    assert len(bars(plot)) == 3 * 10


def test_what_is_no_event_is_hatched_each_in_its_own_way():
    kinds = (REJECTS, BLANKS, OPEN_TAIL, NO_EVENT)
    plot = plot_growth_days(rows((at(2025), "insert", 1, 900), *(("20250707", kind, 1, 300) for kind in kinds)))
    assert plot.data["op"].to_pylist() == ["insert", *kinds]
    assert len({bar.get_hatch() for bar in bars(plot)}) == 5
    assert set(kinds) < set(KINDS)


def test_one_day_among_many_years_can_still_be_seen():
    plot = plot_growth_days(ODD["two events a century apart"])
    low, high = plot.figure.axes[0].get_xlim()
    assert min(bar.get_width() for bar in bars(plot)) > (high - low) / 500


@pytest.mark.parametrize("name", ["an empty store", "one event", "clocks decades apart", "rejects in between"])
def test_odd_totals_can_be_drawn(name):
    plot = plot_growth_days(ODD[name])
    assert plot.to_png().startswith(b"\x89PNG")
    assert (pc.sum(plot.data["bytes"]).as_py() or 0) == (pc.sum(ODD[name]["bytes"]).as_py() or 0)
    assert [text.get_text() for text in plot.figure.axes[0].texts] == ["nothing was written"] * (
        name == "an empty store"
    )


def test_days_stand_in_order_of_time():
    shuffled = pa.concat_tables([TABLE.slice(200), TABLE.slice(0, 200)])
    assert plot_growth_days(shuffled).data.equals(plot_growth_days(TABLE).data)


def note(plot):
    return plot.figure.get_supxlabel()


def test_a_day_far_away_is_told_of_and_not_drawn():
    table = pa.concat_tables([TABLE, rows(("19700101", "insert", 1, 900))])
    plot = plot_growth_days(table)
    assert note(plot) == "1 day far away, 1970-01-01, not shown"
    assert note(plot) in plot.caption
    assert plot.figure.axes[0].get_xlim() == plot_growth_days(TABLE).figure.axes[0].get_xlim()
    assert pc.sum(plot.data["bytes"]).as_py() == pc.sum(table["bytes"]).as_py()
    assert note(plot_growth_days(TABLE)) == ""


@pytest.mark.parametrize("days", [("00010101",), ("99991231",), ("00010101", "99991231"), ("99991230", "99991231")])
@pytest.mark.parametrize("others", [TABLE, TABLE.slice(0, 0)], ids=["with others", "alone"])
@pytest.mark.parametrize("by_op", [True, False])
def test_the_ends_of_the_calendar_can_be_drawn(days, others, by_op):
    plot = plot_growth_days(pa.concat_tables([others, rows(*((day, "insert", 1, 9) for day in days))]), by_op=by_op)
    assert plot.to_png().startswith(b"\x89PNG")
    assert len(bars(plot)) == ((30 if by_op else 10) if others.num_rows else len(days))


def test_days_alone_are_one_bar_each_with_its_size():
    plot = attribute(TABLE, "day").plot()
    assert len(bars(plot)) == 10
    assert set(plot.data["op"].to_pylist()) == {EVENTS}
    assert plot.figure.axes[0].texts[0].get_text().endswith("MB")
    assert "by op" not in plot.caption
    assert len(bars(attribute(TABLE, "op").plot())) == 30
