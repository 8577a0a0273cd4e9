"""Which records live after each event, and which events the end still needs: as a plain loop over dicts has it."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlab.growth.distinct import Distinct
from meshlab.growth.lives import Lives
from meshlab.growth.trace import trace
from meshlab.records import FIELDS
from meshlab.replay import replay
from meshlab.tables.load import Log

from .past import history, log_with, made, standing

ROWS = st.lists(
    st.tuples(st.sampled_from(["insert", "update", "whole", "delete", "other"]), st.integers(0, 4)).flatmap(
        lambda row: (
            st.tuples(st.just(row[0]), st.just(row[1]), st.sampled_from([None, 10, 300, 400]))
            if row[0] not in ("delete", "other")
            else st.just(row)
        )
    ),
    max_size=40,
)


def plain(rows):
    """Per event: alive after it, bytes of the content after it; and the deletes that ended a life."""
    state, alive, content, deaths = {}, [], [], []
    for number, row in enumerate(rows):
        op, id, size = (*row, None)[:3]
        if op in ("insert", "whole"):
            state[id] = size or 0
        elif op == "delete" and state.pop(id, None) is not None:
            deaths.append(number)
        elif op == "update" and id in state and size is not None:
            state[id] = size
        alive.append(op != "other" and id in state)
        content.append(state.get(id, 0) if op != "other" else 0)
    return alive, content, deaths


@settings(max_examples=50)
@given(ROWS)
def test_lives_and_contents_are_those_of_a_loop(rows):
    told = Lives(made(rows))
    alive, content, deaths = plain(rows)
    assert told.in_log_order(told.alive).tolist() == alive
    assert told.in_log_order(told.content).tolist() == content
    assert told.deaths()[0].tolist() == deaths


@settings(max_examples=50)
@given(ROWS)
def test_a_death_knows_its_birth_and_the_next(rows):
    for death, birth, again in zip(*(values.tolist() for values in Lives(made(rows)).deaths())):
        alive = plain(rows)[0]
        mine = [n for n, row in enumerate(rows) if row[0] != "other" and row[1] == rows[death][1]]
        before = [n for n in mine if n < death]
        assert all(alive[n] for n in before if n >= birth)
        assert not any(alive[n] for n in before if n < birth) or not alive[max(n for n in before if n < birth)]
        assert again == next((n for n in mine if n > death and rows[n][0] in ("insert", "whole")), len(rows))


def test_records_from_before_the_trace_are_alive_until_they_are_deleted():
    rows = [("update", 0), ("delete", 1), ("delete", 0), ("update", 0), ("insert", 2)]
    told = Lives(made(rows, begun=False))
    assert told.in_log_order(told.alive).tolist() == [True, False, False, False, True]
    assert [values.tolist() for values in told.deaths()] == [[1, 2], [-1, -1], [5, 5]]
    assert Lives(made(rows)).in_log_order(Lives(made(rows)).alive).tolist() == [False] * 4 + [True]


# Which events stand


@pytest.mark.parametrize("seed", range(6))
def test_events_that_stand_are_those_the_state_has_its_values_from(tmp_path, seed):
    events = history(seed)
    told = Lives(trace(Log(log_with(tmp_path / "u", events), "u")))
    expected = standing(events)
    print(f"seed {seed}: {len(expected)} of {len(events)} events stand")
    assert set(np.flatnonzero(told.in_log_order(told.stands)).tolist()) == expected
    assert 5 < len(expected) < 60


@pytest.mark.parametrize("seed", range(2))
def test_without_what_is_superseded_the_values_of_the_state_are_the_same(tmp_path, seed):
    events = history(seed, 60)
    told = Lives(trace(Log(log_with(tmp_path / "u", events), "u")))
    stands = told.in_log_order(told.stands)
    state = {record["id"]: record for record in replay(tmp_path / "u", "u", progress=False).to_pylist()}
    rebuilt = {}
    for event in (event for event, keep in zip(events, stands) if keep):
        body = next(iter(event.values()))
        rebuilt.setdefault(body["id"], {}).update({k: v for k, v in body.items() if k not in FIELDS or v is not None})
    assert {id: {k: rebuilt[id].get(k) for k in record} for id, record in state.items()} == {
        id: msgspec.json.decode(msgspec.json.encode(record)) for id, record in state.items()
    }


# Sums over records


@settings(max_examples=50)
@given(ROWS, st.integers(0, 8), st.data())
def test_each_record_of_a_stretch_counts_once_with_its_last_event(rows, least, data):
    found = made(rows)
    told = Lives(found)
    weights = [np.arange(1, len(told.order) + 1).astype(np.uint8), np.full(len(told.order), 7, np.uint8)]
    spread = [told.in_log_order(weight).tolist() for weight in weights]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("meshlab.growth.distinct._LEAST", least % 4)
        sums = Distinct(told, weights)
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    last = {found.id[n]: n for n in range(start, stop) if found.id[n] >= 0}
    expected = [sum(weight[n] for n in last.values()) for weight in spread]
    assert sums.over(start, stop).tolist() == expected
    if not start:
        assert sums.upto(stop).tolist() == expected


def test_sums_of_a_long_trace_are_those_of_a_loop():
    draw = np.random.default_rng(5)
    rows = [("insert", int(id)) for id in draw.integers(0, 3000, 40_000) ** 2 // 3000]
    found = made(rows, seconds=1)
    told = Lives(found)
    sums = Distinct(told, [np.ones(len(rows), np.uint8)])
    for start, stop in draw.integers(0, len(rows), (60, 2)):
        start, stop = sorted((int(start), int(stop)))
        assert sums.over(start, stop).tolist() == [len(set(found.id[start:stop].tolist()))]
