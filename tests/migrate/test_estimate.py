"""Estimates rest on a sample that was really converted, and say what it was."""

import tempfile
from pathlib import Path

import pytest

from meshlab.errors import MeshlabError
from meshlab.migrate import estimate, make_plan, survey
from meshlab.migrate.estimate import (
    START,
    Sample,
    choose,
    cost_of,
    disk_free,
    disk_needed,
    measure,
    useful_jobs,
    wall_time,
)
from meshlab.migrate.plan import Input, Measured, PlannedUser
from meshlab.migrate.sources.source import find_sources

SAMPLES = Path(__file__).resolve().parents[2] / "data" / "samples" / "phase1"
MB = 1_000_000


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A directory for temporary files that can be looked at."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def user(nbytes, *, to_write=0, seconds=0.0):
    return PlannedUser(
        uid="ann",
        kind="map",
        base="/old",
        inputs=[Input("/old/x", nbytes, "0" * 64)],
        operations=[],
        records=1,
        state_hash="0" * 32,
        bytes_to_write=to_write,
        seconds=seconds,
    )


def sample(path=SAMPLES / "mesh_snapshot.bin", uid="ann"):
    """A sample of a whole source."""
    (source,) = find_sources(path, user=uid).sources
    records = sum(batch.num_rows for batch in source.batches(progress=False))
    return Sample(source, sum(path.stat().st_size for path in source.paths), records, 0.01)


def test_a_user_costs_its_share_and_what_every_user_costs():
    one = Measured(
        kind="map",
        what="",
        records=1,
        bytes_read=10 * MB,
        bytes_written=6 * MB,
        seconds=2.2,
        fixed_seconds=0.2,
        fixed_bytes=MB,
    )
    assert one.rate == pytest.approx(5 * MB)
    assert cost_of(20 * MB, one).seconds == pytest.approx(4.2)
    assert cost_of(20 * MB, one).nbytes == 11 * MB
    assert cost_of(0, one) == (pytest.approx(0.2), MB)


def test_without_a_sample_the_reading_is_what_there_is_to_go_by():
    assert cost_of(MB, None, reading=2.0) == (6.0, 2 * MB)


def test_a_sample_that_says_little_is_held_to_bounds():
    tiny = Measured(kind="export", what="", records=1, bytes_read=23, bytes_written=8_000, seconds=0.1)
    cost = cost_of(70 * MB, tiny, reading=0.5, memory=70 * MB)
    assert cost.nbytes == 210 * MB
    assert cost.seconds == pytest.approx(12.0)
    fast = Measured(kind="map", what="", records=1, bytes_read=MB, bytes_written=0, seconds=0.1, fixed_seconds=0.1)
    assert cost_of(1000 * MB, fast, reading=7.0, memory=MB).seconds == pytest.approx(7.1), "it is read at least"


def test_users_side_by_side_take_as_long_as_the_longest_or_their_share():
    assert wall_time([user(1, seconds=4), user(1, seconds=1), user(1, seconds=1)], 2) == 4 + 2 * START
    assert wall_time([user(1, seconds=1)] * 6, 2) == 3 + 2 * START
    assert wall_time([user(1, seconds=1)], 1) == 1 + START, "the command itself has to start"
    assert wall_time([], 2) == 0


def test_a_process_is_started_when_it_is_worth_it():
    assert useful_jobs([user(10)] * 8) == 1
    assert useful_jobs([user(10)] * 8, 4) == 4
    assert useful_jobs([user(10)], 4) == 1
    assert useful_jobs([user(1 << 30)] * 2) <= 2


def test_disk_is_needed_for_what_stays_and_for_the_largest_copies():
    users = [user(30 * MB, to_write=10 * MB), user(50 * MB, to_write=20 * MB), user(1 * MB, to_write=MB)]
    more = disk_needed(users, 2) - disk_needed(users, 1)
    assert more == 30 * MB
    assert disk_needed(users, 1) >= 31 * MB + 50 * MB
    assert disk_needed([], 2) == 0


def test_free_disk_is_told_of_places_that_are_not_there_yet(tmp_path):
    assert abs(disk_free(tmp_path / "no" / "such") - disk_free(tmp_path)) < 1 << 30


def test_the_sample_is_the_largest_source_that_is_converted_whole():
    small, large, huge = (sample()._replace(nbytes=size) for size in (10, 5 * MB, 1 << 40))
    assert choose([small, huge, large]) == {"map": large}
    assert choose([]) == {}


def test_a_source_that_says_next_to_nothing_is_no_sample_for_large_ones():
    tiny, huge = sample()._replace(nbytes=23), sample()._replace(nbytes=70 * MB)
    assert choose([tiny, huge]) == {"map": huge}
    assert choose([tiny]) == {"map": tiny}


def test_a_source_whose_first_records_come_late_is_no_sample():
    one = sample(next(path for path in sorted(SAMPLES.iterdir()) if path.is_dir()))
    tiny, large, slow = (
        one._replace(nbytes=nbytes, seconds=seconds)
        for nbytes, seconds in ((23, 0.1), (1 << 30, 9.0), (1 << 40, 900.0))
    )
    assert choose([tiny, slow, large]) == {"phase1": large}
    assert choose([slow, slow._replace(nbytes=1 << 41)]) == {"phase1": slow}


def test_an_export_of_one_large_record_beside_a_tiny_one_is_estimated_sanely(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "tiny.json").write_text('[{"id":"a","content":1}]')
    (tmp_path / "old" / "large.json").write_text('[{"id":"b","content":"%s"}]' % ("sea and salt, " * 1_300_000))
    plan = make_plan(tmp_path / "old", tmp_path / "store", progress=False)
    nbytes = {one.uid: one.bytes_to_write for one in plan.users}
    assert nbytes["large"] < 3 * 18.2 * MB
    assert nbytes["tiny"] < 100_000
    assert plan.seconds < 60
    assert plan.measured[0].what == "all 1 record of large"


@pytest.mark.parametrize("folder", ["phase1", "scoped", "exports"])
def test_what_every_user_costs_is_measured_with_a_user_of_one_memory(folder, temporary):
    for source in find_sources(SAMPLES.parent / folder).sources:
        least = estimate._smallest(source, temporary / source.uid)
        assert sum(batch.num_rows for batch in least.batches(progress=False)) in (1, 2)
        assert least.misnamed() is None


@pytest.mark.parametrize("kind", ["map", "phase1"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_sample_is_converted_and_leaves_nothing(temporary, monkeypatch, kind, whole):
    path = SAMPLES / "mesh_snapshot.bin"
    if kind == "phase1":
        path = next(one for one in sorted(SAMPLES.iterdir()) if one.is_dir())
    if not whole:
        monkeypatch.setattr(estimate, "WHOLE", 0)
        monkeypatch.setattr(estimate, "_SAMPLE_ROWS", 50)
    one = sample(path)
    found = measure(one)
    assert found.kind == kind
    assert found.records == (one.records if whole else 50)
    assert 0 < found.bytes_read <= one.nbytes
    assert found.bytes_written > 0
    assert 0 <= found.fixed_seconds <= found.seconds
    assert f"{one.records:,} records of ann" in found.what
    assert found.what.startswith("all " if whole else "the first 50 of ")
    assert list(temporary.iterdir()) == []


def test_a_sample_that_cannot_be_converted_is_a_note(temporary, monkeypatch):
    def full(sample):
        raise MeshlabError("the disk is full", hint="free space")

    monkeypatch.setattr(survey, "measure", full)
    plan = make_plan(SAMPLES / "mesh_snapshot.bin", temporary / "store", user="ann", progress=False)
    assert plan.measured == []
    assert plan.problems == []
    assert any("no sample of kind map" in note and "the disk is full" in note for note in plan.notes)
    assert plan.bytes_to_write > 0
