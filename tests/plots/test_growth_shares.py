"""Bars of shares: the largest first, with what stands beside them, and no name taken for a formula."""

import pytest
from matplotlib.colors import to_hex

import meshlab
from meshlab.errors import MeshlabError
from meshlab.growth.attribution import attribute
from meshlab.plots.growth_users import plot_growth_users
from meshlab.plots.plot import COLOURS, GREY
from meshlab.plots.shares import percent, plot_shares
from meshlab.tables.totals import REJECTS
from meshlab.testing.rates import Rates, totals_of

from ..growth.odd import HOSTILE, ODD, at, pa, rows

TABLE = totals_of(Rates(users=14, days=2, events=400), 1)


def texts(plot):
    return [text.get_text() for text in plot.figure.axes[0].texts]


def names(plot):
    return [label.get_text() for label in plot.figure.axes[0].get_yticklabels()]


def colours(plot):
    return [to_hex(bar.get_facecolor()).upper() for bar in plot.figure.axes[0].patches]


def test_users_stand_with_their_share_and_what_they_have_together():
    table = pa.concat_tables([rows((at(2025), "insert", 1, size), uid=uid) for uid, size in (("a", 250), ("b", 750))])
    plot = plot_growth_users(attribute(table, "user"))
    assert names(plot) == ["b", "a"]
    assert texts(plot) == ["750 B  75 %", "250 B  25 %, together 100 %"]
    assert plot.figure.axes[0].get_xlabel() == "size (bytes)"


def test_users_beyond_the_most_are_one_grey_bar():
    plot = plot_growth_users(attribute(TABLE, "user"), most=10)
    assert names(plot)[-1] == "(4 others)"
    assert colours(plot) == [COLOURS[0]] * 10 + [GREY]
    assert sum(plot.data["share"].to_pylist()) == pytest.approx(1)


def sized(*sizes):
    """Bytes by user, of users with so many."""
    table = [rows((at(2025), "insert", 1, size), uid=f"user-{number:03}") for number, size in enumerate(sizes)]
    return attribute(pa.concat_tables(table), "user")


def test_the_bar_of_many_others_is_cut_and_says_so():
    plot = plot_growth_users(sized(*range(900, 700, -1)))
    bars = [bar.get_width() for bar in plot.figure.axes[0].patches]
    assert texts(plot)[-1] == "151 kB  94 % (bar is cut)"
    assert bars[0] == pytest.approx(900)
    assert bars[-1] == pytest.approx(990)
    assert plot.data["bytes"].to_pylist()[-1] == sum(range(701, 891))
    assert len(plot.figure.axes[0].lines) == 2


def test_the_axis_ends_at_the_largest_bar():
    for sizes in ((900, 300), range(900, 880, -1), (900, *[1] * 20)):
        axes = plot_growth_users(sized(*sizes)).figure.axes[0]
        assert axes.get_xlim()[1] < 1.05 * max(bar.get_width() for bar in axes.patches)
    assert not axes.lines


def test_an_id_that_looks_like_a_rest_is_none():
    table = pa.concat_tables(
        [rows((at(2025), "insert", 1, size), uid=uid) for uid, size in (("(2 others)", 900), ("b", 1))]
    )
    assert colours(plot_growth_users(attribute(table, "user")))[0] == COLOURS[0]


def test_what_is_no_key_is_grey():
    plot = plot_shares(attribute(rows((at(2025), "insert", 1, 900), ("20250707", REJECTS, 1, 100)), "op"))
    assert names(plot) == ["insert", REJECTS]
    assert colours(plot) == [COLOURS[0], GREY]


def test_what_was_deleted_stands_behind_what_is_there():
    table = rows((at(2025), "insert", 1, 900), (at(2025), "insert", 1, 600))
    half = table.set_column(7, "deleted", pa.array([True, False]))
    plot = plot_shares(attribute(half, "op"))
    assert texts(plot) == ["600 B  100 %, and 900 B deleted"]
    assert [bar.get_width() for bar in plot.figure.axes[0].patches] == pytest.approx([0.6, 0.9])


def test_hostile_names_are_no_formulas(tmp_path):
    store = meshlab.open(tmp_path)
    store["ann"].append_many([{"Insert": {"id": name, name: 1}} for name in HOSTILE])
    for key in ("id", "field"):
        plot = plot_shares(store.growth(progress=False).by(key))
        shown = [name.replace(r"\$", "$") for name in names(plot)]
        assert "two\\nlines" in shown
        assert "$x$ and $\\frac{1}{0}$" in shown
        assert plot.to_png().startswith(b"\x89PNG")


def test_a_formula_that_is_not_escaped_would_not_be_drawn():
    """The name above is one that matplotlib stumbles over."""
    plot = plot_shares(attribute(rows((at(2025), "insert", 1, 9)), "op"))
    plot.figure.axes[0].set_title(r"$\frac{1}$")
    with pytest.raises(ValueError, match="frac"):
        plot.to_png()


@pytest.mark.parametrize("draw", [plot_shares, plot_growth_users])
@pytest.mark.parametrize("name", ["an empty store", "one event", "rejects alone"])
def test_odd_totals_can_be_drawn(name, draw):
    plot = draw(attribute(ODD[name], "user"))
    assert plot.to_png().startswith(b"\x89PNG")
    assert plot.data.num_rows == (name != "an empty store")
    assert ("nothing is on disk" in texts(plot)) == (name == "an empty store")


def test_none_is_no_number_of_bars():
    with pytest.raises(MeshlabError, match="top 0"):
        plot_shares(attribute(TABLE, "op"), most=0)


def test_small_shares_are_not_none():
    assert [percent(share) for share in (0, 0.0001, 0.004, 0.0999, 0.5, 1)] == [
        "0 %",
        "< 0.1 %",
        "0.4 %",
        "10.0 %",
        "50 %",
        "100 %",
    ]
