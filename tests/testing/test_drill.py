"""The drill: a sound store holds, a broken reader is found out, and the store is left as it was."""

import shutil
import subprocess
import sys

import pytest

from meshlab.errors import NotFound
from meshlab.testing import build_log, build_store, drill
from scoreboard.scenes import phase1_user, tree
from scoreboard.twins import no_layer_sums, no_log_sums

CHECKS = 5


@pytest.fixture
def store(tmp_path):
    build_store(tmp_path / "copy", users=["ann"], events=60, days=3)
    return tmp_path / "copy"


def test_a_sound_store_holds_and_is_left_as_it_was(store):
    before = tree(store)
    report = drill(store, rounds=2)
    assert report.holds, report.failures
    assert [row.rounds for row in report.rows] == [1, 2, 2, 2, 2]
    assert tree(store) == before
    assert "power cut in a checkpoint" in str(report)
    assert "holds" in report._repr_html_()


def test_a_store_of_phase_1_may_be_drilled_too(tmp_path):
    phase1_user(tmp_path / "copy" / "bo")
    report = drill(tmp_path / "copy", rounds=2)
    assert report.holds, report.failures


def test_damage_that_was_there_before_is_told_and_no_failure(tmp_path):
    log = build_log([[{"Delete": "a"}], [{"Delete": "b"}], [{"Delete": "c"}]])
    log.replace(log.days()[0], log.bytes().replace(b'"b"', b'"x"'))
    log.write(tmp_path / "copy" / "ann")
    report = drill(tmp_path / "copy", rounds=2)
    assert report.holds, report.failures
    assert "left out, for a checkpoint stops at damage 2" in report.rows[-1].detail


@pytest.mark.parametrize("twin", [no_log_sums, no_layer_sums])
def test_a_reader_without_sums_is_found_out(tmp_path, twin):
    import meshlab

    with meshlab.open(tmp_path / "copy") as opened:
        for number in range(4):
            opened["ann"].append({"Insert": {"id": f"m{number}", "content": f"{number}" * 3000}})
        if twin is no_layer_sums:
            opened["ann"].checkpoint(progress=False)
    with twin():
        report = drill(tmp_path / "copy", rounds=5)
    assert any("a wrong answer without a word" in failure for failure in report.failures)
    assert not report.holds
    assert "failure" in report._repr_html_()


def test_a_user_too_large_to_copy_is_left_out_and_told(store):
    (row,) = drill(store, largest=10).rows
    assert (row.rounds, row.failures) == (0, [])
    assert "left out" in row.detail


def test_a_user_who_is_not_there_is_an_error(store):
    with pytest.raises(NotFound):
        drill(store, ["bob"])


def test_it_is_a_command(store):
    command = [sys.executable, "-m", "meshlab.testing.drills", str(store), "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 + CHECKS
    shutil.rmtree(store)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
