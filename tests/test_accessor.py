"""``df.wal`` asks a frame of events what a store would be asked."""

from pathlib import Path

import pandas as pd
import pytest

import meshlab
from meshlab import accessor
from meshlab.errors import MeshlabError

accessor.register()


@pytest.fixture(scope="module")
def user():
    return meshlab.open(Path(__file__).parents[1] / "data" / "samples" / "store")["bela"]


@pytest.fixture(scope="module")
def frame(user):
    return user.events(progress=False).to_pandas()


def test_the_state_of_all_events_is_that_of_the_log(user, frame):
    state = user.state(progress=False)
    found = frame.wal.state()
    assert found.to_pylist() == state.to_pylist()
    assert found.counts == state.counts
    assert repr(found) == repr(state)


def test_events_may_be_left_out(user, frame):
    kept = frame[frame["op"] != "delete"].wal.state()
    assert len(kept) == len(user.state(progress=False)) + (frame["op"] == "delete").sum()


def test_the_events_of_one_memory_are_a_frame(frame):
    id = frame["id"].iloc[0]
    assert set(frame.wal.of(id)["id"]) == {id}


def test_figures_hold_what_those_of_the_events_hold(user, frame):
    from meshlab.plots.days import plot_days
    from meshlab.plots.life import plot_life
    from meshlab.plots.live import plot_live

    events, id = user.events(progress=False), frame["id"].iloc[0]
    assert frame.wal.plot_days().data == plot_days(events).data
    assert frame.wal.plot_life(id).data == plot_life(events, id).data
    assert frame.wal.plot_live().data.num_rows == plot_live(events).data.num_rows


def test_another_frame_is_refused(frame):
    with pytest.raises(AttributeError, match="a frame of events"):
        _ = pd.DataFrame({"a": [1]}).wal
    with pytest.raises(MeshlabError, match="lacks effective_ts"):
        frame[["uid", "op"]].wal.plot_days()
    with pytest.raises(MeshlabError, match="of 2 users"):
        pd.concat([frame, frame.assign(uid="other")]).wal.state()


def test_it_is_made_known_once_and_without_a_warning(frame):
    accessor.register()
    accessor.register()
    assert isinstance(frame.wal, accessor.WalAccessor)


def test_events_out_of_order_or_in_other_types_are_refused(frame):
    with pytest.raises(MeshlabError, match="not in log order"):
        frame.sample(frac=1, random_state=1).wal.state()
    with pytest.raises(MeshlabError, match="not as a log has them"):
        frame.assign(amplitude="loud").wal.state()
