"""The figure of policies shows what the simulation tells, and names the one to set."""

import numpy as np
import pytest

from meshlab.growth.policies import Policy
from meshlab.growth.simulation import simulate
from meshlab.growth.sizes import measured, synthetic
from meshlab.growth.trace import Trace
from meshlab.plots.policies import plot_policies


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


def test_the_data_are_the_simulation_with_the_one_to_set(found):
    data = plot_policies(found).data
    assert data.drop_columns("recommended").equals(found.table)
    assert data.filter(data["recommended"])["policy"].to_pylist() == [str(found.recommended)]


def test_policies_that_never_checkpoint_are_told_of_and_not_drawn(found):
    plot = found.plot()
    assert "1 never checkpoint" in plot.caption
    points = sum(len(group.get_offsets()) for group in plot.figure.axes[0].collections[:2])
    assert points == len(found.policies) - 1


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


def test_names_keep_away_from_each_other(trace):
    policies = [Policy(events=count) for count in range(300, 330)]
    plot = simulate(trace, policies, sizes=measured(synthetic())).plot()
    assert len(names(plot)) <= 8
    assert is_png(plot)
