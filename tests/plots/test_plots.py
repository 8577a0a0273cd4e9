"""Figures hold the numbers they show, and the numbers are those of the log."""

import numpy as np
import pytest

import meshlab
from meshlab.plots.days import plot_days
from meshlab.plots.life import plot_life
from meshlab.plots.live import MOST_USERS, plot_live
from meshlab.plots.plot import COLOURS
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
