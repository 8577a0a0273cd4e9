"""The figure of policies shows what the simulation tells, and names the one to set."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.text import Text

from meshlab.growth.policies import Policy
from meshlab.growth.simulation import simulate
from meshlab.growth.sizes import measured, synthetic
from meshlab.growth.trace import Trace
from meshlab.plots.policies import BEST, IDLE, NEVER, SLOW, plot_policies


@pytest.fixture(scope="module")
def trace():
    """Ten thousand inserts and updates of a thousand records, a minute apart."""
    count = 10_000
    ids = (np.arange(count) * 7919 % 1000).astype(np.int32)
    following = np.append(np.arange(1000, count), np.full(1000, count)).astype(np.int32)
    sizes = np.full(count, 300, np.int32)
    return Trace(
        uid="ann",
        time=1_751_328_000_000_000 + np.arange(count) * 60_000_000,
        id=ids,
        op=np.where(np.arange(count) < 1000, 0, 1).astype(np.int8),
        nbytes=sizes,
        payload=sizes,
        content=np.zeros(count, np.int32),
        key=np.zeros(count, np.int64),
        given=np.full(count, 9, np.int32),
        next=following,
        day=np.zeros(count, np.int16),
        days=("20250701",),
        spare=np.zeros(1, np.int64),
    )


@pytest.fixture(scope="module")
def found(trace):
    policies = [Policy(events=count) for count in (200, 500, 1000, 1001, 3000, 10**6)]
    return simulate(trace, policies, sizes=measured(synthetic()))


def is_png(plot):
    return plot.to_png().startswith(b"\x89PNG")


def names(plot):
    return [text.get_text() for text in plot.figure.axes[0].texts]


def points(plot):
    """The points drawn, by what the legend calls them."""
    return {group.get_label(): group.get_offsets().tolist() for group in plot.figure.axes[0].collections}


def test_the_data_are_the_simulation_with_the_one_to_set(found):
    data = plot_policies(found).data
    assert data.drop_columns(["recommended", "set", "kind"]).equals(found.table)
    assert data.filter(data["recommended"])["policy"].to_pylist() == [str(found.recommended)]


def test_policies_that_never_checkpoint_are_told_of_and_not_drawn(found):
    plot = found.plot()
    assert "1 never checkpoint" in plot.caption
    assert sum(map(len, points(plot).values())) - len(points(plot)["recommended"]) == len(found.policies) - 1


def test_the_recommended_policy_is_named_with_its_worst_replay(found):
    plot = found.plot()
    assert any(name.startswith(f"{found.recommended} (") and name.endswith(" s)") for name in names(plot))
    assert len(names(plot)) > 1
    assert is_png(plot)


def test_the_axes_say_what_they_measure_in_sizes(found):
    axes = found.plot().figure.axes[0]
    assert axes.get_ylabel() == "written by checkpoints (bytes)"
    assert axes.get_xlabel().startswith("peak WAL: most bytes of log")
    assert axes.xaxis.get_major_formatter()(2_000_000, None) == "2.0 MB"


def test_one_policy_and_none_can_be_drawn(trace):
    assert is_png(simulate(trace, [Policy(events=100)], sizes=measured(synthetic())).plot())
    assert is_png(simulate([]).plot())
    assert names(simulate([]).plot()) == ["no policy makes a checkpoint"]


def test_names_keep_away_from_each_other(trace):
    policies = [Policy(events=count) for count in range(300, 330)]
    plot = simulate(trace, policies, sizes=measured(synthetic())).plot()
    assert len(names(plot)) <= 8
    assert is_png(plot)


def test_the_policy_that_is_set_is_marked_and_named(found):
    policy = Policy(events=500)
    plot = found.plot(policy)
    assert len(points(plot)["set"]) == 1
    assert plot.data.filter(plot.data["set"])["policy"].to_pylist() == ["events=500"]
    assert any(name.startswith("events=500 (") for name in names(plot))
    assert "set" not in points(found.plot())


def test_a_policy_set_that_never_checkpoints_is_told_of(found):
    plot = found.plot(Policy(events=10**6))
    assert "the policy set is among them" in plot.caption
    assert "set" not in points(plot)


def test_policies_that_leave_users_out_are_crosses_and_not_compared(trace):
    small = shortened(trace, 400)
    policies = [Policy(events=count) for count in (100, 200, 300, 1000, 3000)]
    found = simulate([trace, small], policies, sizes=measured(synthetic()))
    plot = found.plot()
    kinds = dict(zip(plot.data["policy"].to_pylist(), plot.data["kind"].to_pylist()))
    assert [kinds[f"events={count}"] for count in (1000, 3000)] == [IDLE, IDLE]
    assert kinds[str(found.recommended)] == BEST
    assert len(points(plot)["leaves users without a checkpoint"]) == 2
    least = plot.data.filter(plot.data["recommended"])["written_bytes"][0].as_py()
    (line,) = plot.figure.axes[0].lines
    assert min(line.get_ydata()) == least
    assert "2 leave users without a checkpoint" in plot.caption


def shortened(trace, count):
    """Another user with the first events of a trace."""
    columns = ("time", "id", "op", "nbytes", "payload", "content", "key", "given", "next", "day")
    return replace(trace, uid="bob", **{name: getattr(trace, name)[:count] for name in columns})


def test_policies_that_replay_too_slowly_are_not_compared(trace, found):
    worst = found.table["worst_replay_seconds"].to_pylist()
    quick = simulate(trace, found.policies, sizes=measured(synthetic()), replay=sorted(worst)[2])
    kinds = quick.plot().data["kind"].to_pylist()
    assert kinds.count(SLOW) and kinds.count(BEST) and kinds.count(NEVER) == 1
    assert any(name.startswith("worst replay above") for name in points(quick.plot()))


def test_names_cover_neither_points_nor_each_other(found):
    plot = found.plot(Policy(events=1000))
    plot.figure.draw_without_rendering()
    axes = plot.figure.axes[0]
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    dots = axes.transData.transform([point for group in points(plot).values() for point in group])
    assert not any(box.contains(*dot) for box in boxes for dot in dots)
    assert not any(box.overlaps(other) for at, box in enumerate(boxes) for other in boxes[:at])
