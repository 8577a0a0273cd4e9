"""The waterfall of redundancy goes from the log to what is left, and leaves nothing out."""

import pytest

import meshlab
from meshlab.growth.redundancy import redundancy
from meshlab.plots.redundancy import STEPS, plot_redundancy
from meshlab.testing import build_store
from meshlab.timeline import log_of


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = tmp_path_factory.mktemp("plots") / "store"
    build_store(path, users=["ann", "bob"], days=2, events=400)
    return redundancy([log_of(path / uid, uid) for uid in meshlab.open(path).users()])


def is_png(plot):
    return plot.to_png().startswith(b"\x89PNG")


def bars(plot):
    return [(bar.get_y(), bar.get_height()) for bar in plot.figure.axes[0].patches]


def test_the_steps_are_the_sums_of_the_table(found):
    data = plot_redundancy(found).data.to_pylist()
    assert [row["step"] for row in data] == list(STEPS)
    assert [row["bytes"] for row in data] == [found.total[column] for column, _ in STEPS.values()]
    assert sum(row["bytes"] for row in data[1:]) == data[0]["bytes"]


def test_each_bar_hangs_from_the_one_before(found):
    first, *gone, left = bars(plot_redundancy(found))
    level = sum(first)
    assert level == pytest.approx(100)
    for base, height in gone:
        assert base + height == pytest.approx(level)
        level = base
    assert left == (0, pytest.approx(level))


def test_users_can_be_chosen(found):
    (whole, *_), (ann, *_) = (plot.data.to_pylist() for plot in (found.plot(), plot_redundancy(found, users=["ann"])))
    assert 0 < ann["bytes"] < whole["bytes"]


def test_the_axis_says_the_unit_and_every_bar_its_bytes(found):
    plot = plot_redundancy(found)
    axes = plot.figure.axes[0]
    assert axes.get_ylabel() == "share of the log (%)"
    assert len([text for text in axes.texts if "B" in text.get_text()]) == len(STEPS)
    assert [label.get_text() for label in axes.get_xticklabels()][-2] == "no event"
    assert is_png(plot)


def test_nothing_can_be_drawn(tmp_path):
    plot = redundancy([]).plot()
    assert plot.data["bytes"].to_pylist() == [0] * len(STEPS)
    assert is_png(plot)
