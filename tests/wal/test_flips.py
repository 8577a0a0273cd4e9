"""Flipped bits, and frames that are dropped, repeated or swapped: always seen."""

from __future__ import annotations

import json

import pytest

from meshlab.events import Delete
from meshlab.testing import build_log
from meshlab.wal import classify
from meshlab.wal.paths import segment_name
from scoreboard.flips import small_log
from scoreboard.sampling import one_in


def naive_events(data: bytes) -> list[object] | None:
    """The twin: what a plain NDJSON reader takes for the events, None when it stops."""
    try:
        return [json.loads(line)["event"] for line in data.decode().split("\n") if line]
    except (ValueError, KeyError, TypeError):
        return None


def test_every_flipped_bit_leaves_a_reject_or_a_finding_and_invents_nothing(tmp_path, read_log):
    """One bit in five; all with ``MESHLAB_EVERY=1``."""
    log = small_log()
    root = log.write(tmp_path / "user")
    original = {(row.seq, row.payload) for row in read_log(root).rows}
    flips = lost = fooled = 0
    for day in log.days():
        path, data = root / segment_name(day), log.bytes(day)
        truth = naive_events(data)
        for bit in one_in(5, range(8 * len(data))):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            found = read_log(root, check=bit % 16 == 0)
            events = {(row.seq, row.payload) for row in found.rows}
            assert found.rejects, f"bit {bit} of {day} was not seen"
            assert events <= original, f"bit {bit} of {day} invented {events - original}"
            flips += 1
            lost += events != original
            naive = naive_events(bytes(flipped))
            fooled += naive is not None and naive != truth
        path.write_bytes(data)
    print(
        f"bits flipped: {flips}, seen: {flips}, with an event lost: {lost}; taken in silence by plain NDJSON: {fooled}"
    )
    assert fooled > flips // 20


@pytest.fixture
def ten_frames():
    return build_log([[Delete(f"m{number}")] for number in range(10)], day="20250701")


def write_frames(tmp_path, frames):
    (tmp_path / segment_name("20250701")).write_bytes(b"".join(frame.data for frame in frames))


def dropped(frames):
    return frames[:4] + frames[5:]


def repeated(frames):
    return frames[:5] + frames[4:]


def swapped(frames):
    return [*frames[:4], frames[5], frames[4], *frames[6:]]


def test_a_dropped_frame_is_a_chain_gap_and_its_follower_is_applied(tmp_path, read_log, ten_frames):
    write_frames(tmp_path, dropped(ten_frames.frames))
    log = read_log(tmp_path)
    assert log.classes == ["chain-gap"]
    assert "1 missing" in log.rejects[0].reason
    assert [row.seq for row in log.rows] == [1, 2, 3, 4, 6, 7, 8, 9, 10]


def test_a_repeated_frame_is_a_duplicate_and_never_applied(tmp_path, read_log, ten_frames):
    write_frames(tmp_path, repeated(ten_frames.frames))
    log = read_log(tmp_path)
    assert log.classes == ["duplicate-frame"]
    assert log.rejects[0].raw == ten_frames.frames[4].data
    assert [row.seq for row in log.rows] == list(range(1, 11))


def test_swapped_frames_are_a_gap_and_a_duplicate(tmp_path, read_log, ten_frames):
    write_frames(tmp_path, swapped(ten_frames.frames))
    log = read_log(tmp_path)
    assert sorted(log.classes) == ["chain-gap", "duplicate-frame"]
    assert [row.seq for row in log.rows] == [1, 2, 3, 4, 6, 7, 8, 9, 10]


def test_an_exchanged_frame_of_the_same_size_is_seen_by_prev(tmp_path, read_log, ten_frames):
    other = build_log([[Delete(f"x{number}")] for number in range(10)], day="20250701")
    write_frames(tmp_path, [*ten_frames.frames[:4], other.frames[4], *ten_frames.frames[5:]])
    assert read_log(tmp_path).classes == ["chain-gap", "chain-gap"]


def test_a_missing_day_is_one_chain_gap(tmp_path, read_log):
    log = build_log([[Delete(f"m{number}")] for number in range(9)], day="20250701", per_day=3)
    log.replace("20250702", None)
    found = read_log(log.write(tmp_path))
    assert found.classes == ["chain-gap"]
    assert "3 missing" in found.rejects[0].reason
    assert found.rejects[0].segment == "20250703"


def test_a_missing_first_day_is_a_chain_gap(tmp_path, read_log):
    log = build_log([[Delete(f"m{number}")] for number in range(4)], day="20250701", per_day=2)
    log.replace("20250701", None)
    assert read_log(log.write(tmp_path)).classes == ["chain-gap"]


@pytest.mark.parametrize("fault", [dropped, repeated, swapped])
def test_sums_without_the_chain_see_no_fault_between_frames(tmp_path, read_log, ten_frames, monkeypatch, fault):
    """Negative control: what the chain is for."""
    monkeypatch.setattr(classify, "follow", lambda links, cursor: ([], cursor))
    write_frames(tmp_path, fault(ten_frames.frames))
    assert read_log(tmp_path).rejects == []


def test_a_chain_of_a_million_frames_costs_no_loop_per_frame(monkeypatch):
    """Sound stretches are followed by comparison of columns."""
    import numpy as np

    from meshlab.wal import chain

    monkeypatch.setattr(chain, "_walk", None)
    count = 1_000_000
    sums = np.arange(count).astype("S16")
    links = chain.Links(np.arange(1, count + 1), np.arange(1, count + 1), np.append([chain.NO_SUM], sums[:-1]), sums)
    findings, end = chain.follow(links, chain.ORIGIN)
    assert (findings, end.seq) == ([], count)
