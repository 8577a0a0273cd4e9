"""The figure of a diff counts what the diff counts."""

import pytest

import meshlab
from meshlab.plots.changes import plot_changes
from meshlab.testing import build_log

BATCHES = [
    [{"Insert": {"id": "a", "amplitude": 0.5}}, {"Insert": {"id": "b", "amplitude": 0.25}}, {"Insert": {"id": "c"}}],
    [{"Update": {"id": "a", "amplitude": 0.505, "stability": 0.8}}, {"Update": {"id": "c", "amplitude": 1.0}}],
    [{"Delete": "b"}, {"Insert": {"id": "d"}}, {"Insert": {"id": "e"}}],
]


@pytest.fixture
def user(tmp_path):
    user = meshlab.open(tmp_path)["ann"]
    build_log(BATCHES, per_day=1).write(user.root)
    return user


@pytest.fixture
def diff(user):
    first = user.events(progress=False).to_arrow()["effective_ts"][2].as_py()
    return user.diff(first, progress=False)


def is_png(plot):
    return plot.to_png().startswith(b"\x89PNG")


def test_memories_that_came_and_went_stand_before_the_fields(diff):
    plot = plot_changes(diff)
    assert [tuple(row.values()) for row in plot.data.to_pylist()] == [
        ("added", None, 2),
        ("removed", None, 1),
        ("changed", "amplitude", 2),
        ("changed", "stability", 1),
    ]
    assert is_png(plot)


def test_every_bar_says_its_name_and_number(diff):
    axes = plot_changes(diff).figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "memory added",
        "memory removed",
        "amplitude changed",
        "stability changed",
    ]
    assert [text.get_text() for text in axes.texts] == ["2", "1", "2", "1"]


def test_the_fields_that_changed_least_are_left_out_and_counted(diff):
    plot = plot_changes(diff, most=1)
    assert plot.data["field"].to_pylist() == [None, None, "amplitude"]
    assert "without 1 that changed less often" in plot.caption


def test_no_difference_makes_an_empty_figure(user):
    now = user.events(progress=False).to_arrow()["effective_ts"][-1].as_py()
    plot = plot_changes(user.diff(now, progress=False))
    assert plot.data.num_rows == 0
    assert is_png(plot)


def test_every_axis_has_a_name(diff):
    axes = plot_changes(diff).figure.axes[0]
    assert axes.get_ylabel()
    assert axes.get_xlabel() == "memories (number)"


def test_a_field_with_a_formula_or_an_emoji_for_a_name_is_drawn_as_text(tmp_path):
    user = meshlab.open(tmp_path)["ann"]
    strange = {"$\\frac{$": 1, "\U0001f937\U0001f3fd": 2, "x" * 1000: 3}
    log = build_log([[{"Insert": {"id": "a"}}], [{"Update": {"id": "a", **strange}}]], per_day=1)
    log.write(user.root)
    first = user.events(progress=False).to_arrow()["effective_ts"][0].as_py()
    plot = plot_changes(user.diff(first, progress=False))
    assert plot.to_png()[:4] == b"\x89PNG"
    shown = [label.get_text() for label in plot.figure.axes[0].get_yticklabels()]
    assert "\\$\\frac{\\$ changed" in shown
    assert max(map(len, shown)) <= 40
