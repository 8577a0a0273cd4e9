"""Stops are the places that can be restored: no hole is passed over, no moment is made up."""

import shutil
from pathlib import Path

import pytest

import meshlab
from meshlab.errors import NotFound
from meshlab.times import midnight
from meshlab.wal.paths import segment_name
from meshlab.widgets.chapters import Chapters

from .conftest import DAYS, story

SAMPLES = Path(__file__).parents[2] / "data" / "samples"


def checkpointed(user):
    """The story with a checkpoint behind each day."""
    whole = story(user.root.parent / "whole")
    user.root.mkdir()
    for day in DAYS:
        shutil.copy2(whole / segment_name(day), user.root)
        user.checkpoint(progress=False)
    return user


def restored(user, stops):
    """Every stop as a replay has it: the number of live memories, or the error."""
    return [len(user.state(stop.lsn or stop.moment, progress=False)) for stop in stops]


def every_stop(stops):
    return [stops[index] for index in range(len(stops))]


def test_there_is_a_stop_before_the_first_event_and_behind_each(user):
    story(user.root)
    stops = Chapters(user, progress=False)
    assert len(stops) == 13
    assert (stops[0].moment, stops[0].name) == (None, "the beginning of the log")
    assert stops[12].name == f"{DAYS[2]}:{user.events(progress=False).to_pylist()[-1]['offset']}"
    found = [stop.chapter.lookup.live(stop.place) for stop in every_stop(stops)[1:]]
    assert found == restored(user, every_stop(stops)[1:])


def test_a_hole_ends_a_chapter_and_the_next_begins_at_a_checkpoint(user):
    checkpointed(user)
    (user.root / segment_name(DAYS[1])).unlink()
    stops = Chapters(user, progress=False)
    first, second = stops.chapters
    assert (len(first.lookup), first.hole != "", second.lookup.start.name, second.hole) == (4, True, "checkpoint 2", "")
    assert [stop.moment for stop in every_stop(stops)][1:] == sorted(stop.moment for stop in every_stop(stops)[1:])
    behind = [stop for stop in every_stop(stops) if stop.chapter is second]
    assert [stop.chapter.lookup.live(stop.place) for stop in behind] == restored(user, behind)
    with pytest.raises(meshlab.MeshlabError):
        user.state(midnight(DAYS[1]) + 1_500_000, progress=False)


def test_a_phase_1_user_begins_at_the_newest_access_of_the_snapshot():
    (root, *_) = sorted((SAMPLES / "phase1").glob("*-*"))
    user = meshlab.open(root.parent)[root.name]
    stops = Chapters(user, progress=False)
    assert len(stops) > 1
    chosen = [stops[index] for index in (0, 1, len(stops) - 1)]
    assert chosen[0].name == "the phase-1 snapshot"
    assert [stop.chapter.lookup.live(stop.place) for stop in chosen] == restored(user, chosen)


def test_a_moment_leads_to_the_last_stop_before_it(user):
    checkpointed(user)
    stops = Chapters(user, progress=False)
    assert stops.at(0) == 0
    assert stops.at(midnight(DAYS[1]) + 2_000_000) == 6
    assert stops.at(midnight(DAYS[2]) + 10**12) == 12


def test_a_user_who_is_not_there_is_not_found(user):
    with pytest.raises(NotFound):
        Chapters(user, progress=False)
