"""Figures hold the numbers they show, and the numbers are those of the log."""

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.text import Text

import meshlab
from meshlab.plots.days import plot_days
from meshlab.plots.life import plot_life
from meshlab.plots.live import MOST_USERS, plot_live
from meshlab.plots.plot import COLOURS
from meshlab.tables.schema import TIME
from meshlab.testing import build_log, build_store

ANN = [
    [{"Insert": {"id": "a", "amplitude": 0.5}}, {"Insert": {"id": "b", "amplitude": 0.25}}],
    [{"Update": {"id": "a", "amplitude": 0.505, "stability": 0.8}}],
    [{"Delete": "b"}, {"Delete": "b"}, {"note": "free form"}],
    [{"Insert": {"id": "b"}}],
]


@pytest.fixture
def store(tmp_path):
    store = meshlab.open(tmp_path / "store")
    build_log(ANN, per_day=1).write(store["ann"].root)
    build_log([[{"Insert": {"id": "x"}}]]).write(store["bob"].root)
    return store


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    path = tmp_path_factory.mktemp("built") / "store"
    build_store(path, users=8, days=3, events=2000)
    return meshlab.open(path)


def is_png(plot):
    return plot.to_png().startswith(b"\x89PNG")


def test_days_counts_every_event_once(built):
    plot = plot_days(built.events())
    assert sum(plot.data["events"].to_pylist()) == len(built.events())
    assert is_png(plot)


def test_days_counts_the_users_and_ops_that_are_chosen(store):
    everyone, ann = plot_days(store.events()), plot_days(store.events(), users=["ann"], ops=["insert"])
    assert sum(everyone.data["events"].to_pylist()) == 8
    assert [row["events"] for row in ann.data.to_pylist()] == [2, 1]
    assert set(ann.data["op"].to_pylist()) == {"insert"}


def test_live_ends_where_replay_does(built):
    data = plot_live(built.events(), users=built.users()).data.to_pandas()
    ends = data.groupby("uid")["live"].last().to_dict()
    assert ends == {uid: len(built[uid].state()) for uid in built.users()}


def test_live_steps_only_where_the_number_changes(store):
    plot = plot_live(store.events(), users=["ann"])
    assert plot.data["live"].to_pylist() == [1, 2, 1, 2]
    assert is_png(plot)


def test_live_takes_a_whole_update_for_an_insert(store, built):
    whole = built[built.users()[0]].state().to_pylist()[0]
    store["cleo"].append({"Update": whole})
    assert plot_live(store.events(), users=["cleo"]).data["live"].to_pylist() == [1]


def test_live_draws_the_busiest_users_unless_told(built):
    plot = plot_live(built.events())
    counts = {uid: len(built[uid].events()) for uid in built.users()}
    busiest = sorted(counts, key=lambda uid: (-counts[uid], uid))[:MOST_USERS]
    assert list(dict.fromkeys(plot.data["uid"].to_pylist())) == busiest
    assert len(plot.figure.axes[0].lines) == MOST_USERS <= len(COLOURS)


def test_life_holds_what_each_event_gave(store):
    plot = plot_life(store.events(), "a")
    assert plot.data.drop(["effective_ts"]).to_pylist() == [
        {"op": "insert", "amplitude": 0.5, "stability": None},
        {"op": "update", "amplitude": 0.505, "stability": 0.8},
    ]
    assert is_png(plot)


def test_life_marks_deletes(store):
    texts = [text.get_text() for text in plot_life(store.events(), "b").figure.axes[0].texts]
    assert texts.count("deleted") == 2


@pytest.mark.parametrize(
    "draw", [plot_days, plot_live, lambda events: plot_life(events, "nobody")], ids=["days", "live", "life"]
)
def test_no_events_make_an_empty_figure(tmp_path, draw):
    store = meshlab.open(tmp_path)
    build_log([[{"note": 1}]]).write(store["ann"].root)
    plot = draw(store.events(ops="insert"))
    assert plot.data.num_rows == 0
    assert is_png(plot)


@pytest.mark.parametrize(
    "draw", [plot_days, plot_live, lambda events: plot_life(events, "a")], ids=["days", "live", "life"]
)
def test_every_axis_has_a_name_and_time_says_its_zone(store, draw):
    plot = draw(store.events())
    axes = plot.figure.axes[0]
    assert axes.get_ylabel()
    assert "UTC" in axes.get_xlabel()
    assert set(plot._repr_mimebundle_()) == {"image/png", "text/plain"}
    assert plot.caption in repr(plot)


def test_life_names_a_line_behind_its_last_event_and_a_delete_at_its_foot(store):
    named = {text.get_text(): text.xy for text in plot_life(store.events(), "a").figure.axes[0].texts}
    moments = store.events(ids="a").to_arrow()["effective_ts"].to_pylist()
    assert len({x for x, _ in named.values()}) == 1
    assert all(x == np.datetime64(moments[-1].replace(tzinfo=None), "us") for x, _ in named.values())
    feet = [text.xy[1] for text in plot_life(store.events(), "b").figure.axes[0].texts if text.get_text() == "deleted"]
    assert feet == [0, 0]


def at(*moments):
    """Events of one memory of one user at some moments."""
    count = len(moments)
    return pa.table(
        {
            "uid": ["ann"] * count,
            "id": ["a"] * count,
            "op": ["insert"] + ["update"] * (count - 1),
            "effective_ts": pa.array([np.datetime64(one, "us").astype(int) for one in moments]).cast(TIME),
            "amplitude": [0.5] * count,
            "stability": [0.8] * count,
        }
    )


DRAW = pytest.mark.parametrize(
    "draw", [plot_days, plot_live, lambda events: plot_life(events, "a")], ids=["days", "live", "life"]
)


@DRAW
@pytest.mark.parametrize("far", ["0001-01-01", "1970-01-01", "9999-12-31T23:59:59.999999"])
def test_moments_far_away_are_told_of_or_drawn_alone(draw, far):
    near = [f"2025-07-{day:02}" for day in range(1, 9)]
    assert is_png(draw(at(far)))
    assert is_png(draw(at(far, near[0])))
    plot = draw(at(*near, far) if far > "2026" else at(far, *near))
    assert is_png(plot)
    low, high = plot.figure.axes[0].get_xlim()
    assert high - low < 10
    if draw is not plot_live:
        assert f"1 day far away, {far[:10]}, not shown" in plot.figure.get_supxlabel()
        assert plot.figure.get_supxlabel() in plot.caption


def test_life_names_the_memory_and_not_as_a_formula():
    assert plot_life(at("2025-07-01"), "a").figure.axes[0].get_title(loc="left") == "memory a"
    hostile = plot_life(at("2025-07-01"), "$x$\n" + 90 * "y")
    assert hostile.figure.axes[0].get_title(loc="left").startswith(r"memory \$x\$\n")
    assert is_png(hostile)


def test_life_of_one_moment_is_a_minute_with_its_lines():
    axes = plot_life(at("2025-07-01"), "a").figure.axes[0]
    low, high = axes.get_xlim()
    assert high - low < 2 / (24 * 60)
    assert [len(line.get_xdata()) for line in axes.lines] == [2, 2]


def test_names_of_lines_stand_behind_the_axes_and_within_their_height():
    plot = plot_life(at("2025-07-01", "2025-07-02").set_column(5, "stability", pa.array([0.5, 0.5])), "a")
    plot.to_png()
    axes = plot.figure.axes[0]
    first, second = (Text.get_window_extent(text) for text in axes.texts)
    assert not first.overlaps(second)
    for box in (first, second):
        assert box.x0 > axes.bbox.x1
        assert axes.bbox.y0 < (box.y0 + box.y1) / 2 <= axes.bbox.y1 + 1


def test_lines_go_on_to_the_last_moment_of_all():
    early, late = at("2025-07-01"), at("2025-07-05")
    table = pa.concat_tables([early, late.set_column(0, "uid", pa.array(["bob"]))])
    assert len({line.get_xdata()[-1] for line in plot_live(table).figure.axes[0].lines}) == 1
