"""What a replay costs is measured once, and reckoned with as it was measured."""

import tempfile

import pytest

from meshlab.growth.calibration import Costs, costs


def test_costs_are_measured_once():
    assert costs() is costs()


def test_measuring_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = costs.__wrapped__()
    print(found)
    assert list(tmp_path.iterdir()) == []
    assert found.setup > 0
    assert found.event > 0


def test_a_million_events_take_longer_than_a_thousand():
    assert costs().replay(1_000_000, 0, 0) > 100 * costs().log(1000, 0)


def test_a_replay_is_what_it_takes_at_all_and_for_each_part():
    found = Costs(setup=0.5, event=0.001, byte=0.0001, record=0.01)
    assert found.replay(100, 2000, 10) == pytest.approx(0.5 + 0.1 + 0.2 + 0.1)
    assert found.log(100, 2000) == pytest.approx(0.1 + 0.2)
