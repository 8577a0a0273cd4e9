"""Policies are read and written, and fire when a limit is exceeded, as a loop over events has it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlab.errors import MeshlabError
from meshlab.growth.calibration import Costs
from meshlab.growth.material import Material
from meshlab.growth.policies import Policy, candidates, read_policy
from meshlab.growth.schedule import schedule
from meshlab.growth.sizes import measured, synthetic
from meshlab.times import SECOND

from .past import made

SIZES = measured(synthetic())
COSTS = Costs(setup=0.02, event=0.5, byte=0.001, record=0.1)


def read(text):
    units = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "MiB": 1 << 20, "m": 60, "h": 3600, "d": 86_400, "s": 1}
    unit = next((unit for unit in sorted(units, key=len, reverse=True) if text.endswith(unit)), "")
    return float(text.removesuffix(unit)) * units.get(unit, 1)


def test_a_policy_is_read_as_people_write_it():
    assert read_policy("bytes=64MB, age=24h", size=read, span=read) == Policy(bytes=64e6, age=86_400.0)
    assert read_policy("events=100_000,replay=2s", size=read, span=read) == Policy(events=100_000, replay=2.0)
    assert read_policy("never", size=read, span=read) == Policy()


@pytest.mark.parametrize("policy", [*candidates(), Policy(), Policy(bytes=64 << 20, events=7, age=90.0, replay=0.1)])
def test_what_a_policy_prints_reads_as_the_same(policy):
    assert read_policy(str(policy), size=read, span=read) == policy


@pytest.mark.parametrize("text", ["", "bytes", "size=3", "age=1h,age=2h", "events=many", "bytes=64MB;age=1h"])
def test_what_is_no_policy_says_what_one_is(text):
    with pytest.raises((MeshlabError, ValueError)):
        read_policy(text, size=read, span=read)


@pytest.mark.parametrize("limits", [{"bytes": 0}, {"age": -1.0}, {"replay": float("nan")}])
def test_a_limit_is_more_than_nothing(limits):
    with pytest.raises(MeshlabError, match="none"):
        Policy(**limits)


def test_there_are_about_fifty_different_candidates():
    chosen = candidates()
    assert 40 <= len(chosen) <= 60
    assert len(set(chosen)) == len(chosen)
    assert {len(policy.limits) for policy in chosen} == {1, 2}


@pytest.mark.parametrize("nbytes, events", [(0, 0), (5000, 12), (470_000, 900), (10**12, 10**9)])
def test_candidates_fit_logs_of_any_size(nbytes, events):
    assert all(policy.bytes <= max(nbytes, 10_000) for policy in candidates(nbytes, events) if policy.bytes)


def loop(policy, found):
    """When to checkpoint, event by event: an event first lets the clock pass, then it is added."""
    stops, first, last = [], 0, len(found)
    for number in range(last):
        if policy.age is not None and number > first and found.time[number] - found.time[first] > policy.age * SECOND:
            stops.append(number)
            first = number
        held = slice(first, number + 1)
        over = [
            policy.bytes is not None and found.nbytes[held].sum() > policy.bytes,
            policy.events is not None and number + 1 - first > policy.events,
            policy.replay is not None and np.sum(COSTS.event + COSTS.byte * found.content[held]) > policy.replay + 1e-9,
        ]
        if any(over):
            stops.append(number + 1)
            first = number + 1
    return stops


LIMITS = st.builds(
    Policy,
    bytes=st.none() | st.integers(1, 2000),
    events=st.none() | st.integers(1, 9),
    age=st.none() | st.integers(1, 600).map(float),
    replay=st.none() | st.integers(1, 9).map(lambda number: number * 0.37),
)


@settings(max_examples=60)
@given(LIMITS, st.lists(st.sampled_from([None, 10, 300]), min_size=1, max_size=40), st.data())
def test_a_policy_fires_when_a_limit_is_exceeded(policy, sizes, data):
    found = made([("insert", number % 5, size) for number, size in enumerate(sizes)])
    gaps = data.draw(st.lists(st.sampled_from([0, 1, 60, 500]), min_size=len(sizes), max_size=len(sizes)))
    found.time[:] = np.cumsum(gaps) * SECOND
    assert schedule(policy, Material(found, SIZES, COSTS)).tolist() == loop(policy, found)


def test_the_clock_alone_makes_a_checkpoint_due():
    found = made([("insert", 0), ("insert", 1), ("insert", 2)])
    found.time[2] += 86_400 * SECOND
    assert schedule(Policy(age=3600.0), Material(found, SIZES, COSTS)).tolist() == [2]
    assert schedule(Policy(), Material(found, SIZES, COSTS)).tolist() == []
