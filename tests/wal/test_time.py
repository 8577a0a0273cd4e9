"""Effective time, day rotation, and clocks that jump."""

from __future__ import annotations

import warnings

import pytest

from meshlab.events import Delete
from meshlab.testing import LogBuilder
from meshlab.times import DAY, SECOND, midnight, parse_time
from meshlab.wal.paths import segment_days, segment_name
from meshlab.wal.writer import Writer

NOON = midnight("20250707") + DAY // 2


class Clock:
    """A clock that tests set."""

    def __init__(self, now: int = NOON) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def writer(tmp_path, fast_files, clock):
    return Writer(tmp_path, files=fast_files, clock=clock)


def test_effective_time_never_falls_and_is_capped_at_two_days_past_the_segment(tmp_path, read_log):
    log = LogBuilder("20250701")
    day = midnight("20250701")
    log.raw(b'{"Delete":"no time"}\n')
    log.frame([Delete("a")], time=day + 5 * SECOND)
    log.frame([Delete("back")], time=day + 2 * SECOND)
    log.raw(b'{"Delete":"no time"}\n')
    log.raw(b'{"timestamp":"not a time","event":1}\n{"timestamp":7,"event":1}\n')
    log.raw(b'{"timestamp":"2025-07-01T00:00:09+00:00","event":1}\n')
    log.frame([Delete("far")], time=day + 400 * DAY)
    log.frame([Delete("b")], day="20250702", time=day + DAY + SECOND)
    log.frame([Delete("c")], day="20250705", time=day + 4 * DAY + SECOND)
    times = [row.effective - day for row in read_log(log.write(tmp_path)).rows]
    seconds = [0, 5, 5, 5, 5, 5, 9]
    assert times == [second * SECOND for second in seconds] + [2 * DAY, 2 * DAY, 4 * DAY + SECOND]


def test_effective_time_is_the_same_at_any_chunk_size(tmp_path, read_log):
    log = LogBuilder("20250701")
    for number in range(30):
        log.frame([Delete("a")], time=midnight("20250701") + (number * 7919 % 30) * SECOND)
    root = log.write(tmp_path)
    assert [row.effective for row in read_log(root, chunk=64).rows] == [row.effective for row in read_log(root).rows]


def test_a_new_day_gets_a_new_segment_and_the_chain_runs_on(tmp_path, read_log, writer, clock):
    for day in range(3):
        clock.now = NOON + day * DAY
        writer.append(Delete(f"m{day}"))
    assert segment_days(tmp_path) == ["20250707", "20250708", "20250709"]
    log = read_log(tmp_path)
    assert ([row.seq for row in log.rows], log.rejects) == ([1, 2, 3], [])


def test_a_clock_that_jumps_back_never_writes_into_an_older_day(tmp_path, read_log, fast_files, writer, clock):
    writer.append(Delete("a"))
    clock.now = NOON + DAY
    writer.append(Delete("b"))
    old = (tmp_path / segment_name("20250707")).read_bytes()
    clock.now = NOON - DAY
    assert writer.append(Delete("c")).segment == "20250708"
    assert Writer(tmp_path, files=fast_files, clock=clock).append(Delete("d")).segment == "20250708"
    assert (tmp_path / segment_name("20250707")).read_bytes() == old
    log = read_log(tmp_path)
    assert [row.seq for row in log.rows] == [1, 2, 3, 4]
    assert [row.effective for row in log.rows] == sorted(row.effective for row in log.rows)


def test_a_segment_days_ahead_of_the_clock_is_used_with_a_warning(tmp_path, read_log, writer, clock):
    clock.now = NOON + 30 * DAY
    writer.append(Delete("far"))
    clock.now = NOON
    writer.close()
    with pytest.warns(RuntimeWarning, match="20250806 is days ahead"):
        assert writer.append(Delete("now")).segment == "20250806"
    assert read_log(tmp_path).rejects == []


@pytest.mark.parametrize(("ahead", "warned"), [(1, False), (2, False), (3, True)])
def test_the_warning_starts_beyond_two_days(tmp_path, fast_files, clock, ahead, warned):
    Writer(tmp_path, files=fast_files, clock=lambda: NOON + ahead * DAY).append(Delete("far"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Writer(tmp_path, files=fast_files, clock=clock).append(Delete("now"))
    assert bool(caught) == warned


def test_two_writers_across_midnight_with_clocks_a_second_apart_keep_one_chain(tmp_path, read_log, fast_files):
    edge = midnight("20250708")
    clocks = Clock(edge - SECOND), Clock(edge)
    writers = [Writer(tmp_path, files=fast_files, clock=clock) for clock in clocks]
    for step in range(6):
        for writer, clock in zip(writers, clocks, strict=True):
            writer.append(Delete(f"m{step}"))
            clock.now += SECOND // 3
    log = read_log(tmp_path)
    assert ([row.seq for row in log.rows], log.rejects) == (list(range(1, 13)), [])
    assert segment_days(tmp_path) == ["20250707", "20250708"]
    assert [row.segment for row in log.rows].count("20250707") == 1


def test_the_line_carries_the_clock_and_the_receipt_its_place(tmp_path, read_log, writer, clock):
    first, second = writer.append(Delete("a")), writer.append_many([Delete("b"), Delete("c")])
    rows = read_log(tmp_path).rows
    assert [(first.lsn, first.nbytes), (second.first_seq, second.last_seq)] == [("20250707:0", rows[0].nbytes), (2, 3)]
    assert (second.offset, second.nbytes) == (rows[1].offset, rows[1].nbytes + rows[2].nbytes)
    assert {row.effective for row in rows} == {NOON} == {parse_time("2025-07-07T12:00:00Z")}
