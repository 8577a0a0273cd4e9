"""Logs made to be slow: twice the bytes cost about twice the work, to read and to open."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meshlab.wal import gather, recovery, salvage
from meshlab.wal.frame import NO_SUM, write_frame
from meshlab.wal.paths import segment_name

DAY, TIME = "20250701", "2025-07-01T10:00:00.000000Z"
FRAME = write_frame([b'{"Delete":"one"}'], TIME, seq=1, prev=NO_SUM).data.rstrip()
BROKEN = FRAME.replace(b'"one"', b'"uno"')
MANY = BROKEN.replace(b'"n":1,', b'"n":99999999,')
MEMBER = b'{"timestamp":"%b","event":{"Delete":"a"},"seq":7}' % TIME.encode()
PATTERNS = {
    "bare lines glued": b'{"Delete":"a"}',
    "bare lines glued by fifties": b'{"Delete":"a"}' * 50 + b"\n",
    "equal frames glued": FRAME,
    "equal frames": FRAME + b"\n",
    "spaces": b" ",
    "carriage returns": b"\r",
    "NULs and a letter": bytes(8) + b"x",
    "lines of NULs": bytes(8) + b"\n",
    "newlines": b"\n",
    "members without an end": MEMBER + b"\n",
    "broken sums": BROKEN + b"\n",
    "broken sums glued": BROKEN,
    "broken sums of many lines": MANY + b"\n",
    "broken sums of many lines glued": MANY,
    "NULs before broken sums of many lines": bytes(8) + b"\n" + MANY + b"\n",
    "starts without an end": b'{"timestamp":"',
    "sum keys alone": b',"sum":"',
    "brackets opened": b'{"Insert":',
}


class Work:
    """Counts calls and bytes of what is dear: sums, the Python decoders, salvage, searches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = self.calls = 0
        for module, name in [
            (salvage, "read_frame"),
            (salvage, "parse_line"),
            (salvage, "read_tail"),
            (gather, "parse_line"),
            (gather, "split_run"),
            (recovery, "read_frame"),
            (recovery, "read_tail"),
        ]:
            monkeypatch.setattr(module, name, self._counted(getattr(module, name)))
        monkeypatch.setattr(salvage, "_SCANNER", self)
        spend = salvage.Effort.spend
        monkeypatch.setattr(salvage.Effort, "spend", lambda effort, cost: self._walked(spend(effort, cost)))

    def _counted(self, function: Callable[[bytes], object]) -> Callable[[bytes], object]:
        def counted(data: bytes) -> object:
            self.calls += 1
            self.bytes += len(data)
            return function(data)

        return counted

    def _walked(self, afforded: bool) -> bool:
        self.calls += 1
        return afforded

    def raw_decode(self, text: str, at: int) -> tuple[object, int]:
        value, end = _DECODER.raw_decode(text, at)
        self.calls += 1
        self.bytes += end - at
        return value, end


_DECODER = salvage._SCANNER


def effort_of(root, monkeypatch, action) -> tuple[int, int]:
    with monkeypatch.context() as patch:
        work = Work(patch)
        action(root)
    return work.calls, work.bytes


@pytest.mark.parametrize("action", ["read", "open"])
@pytest.mark.parametrize("name", PATTERNS)
def test_twice_the_bytes_cost_about_twice_the_work(name, action, tmp_path, read_log, monkeypatch):
    act = read_log if action == "read" else recovery.find_end
    costs = []
    for size in (150_000, 300_000):
        pattern = PATTERNS[name]
        (tmp_path / segment_name(DAY)).write_bytes(pattern * (size // len(pattern)) + b"\n")
        costs.append(effort_of(tmp_path, monkeypatch, act))
    print(f"{name}: (calls, bytes) {costs[0]}, then {costs[1]}")
    for once, twice in zip(*costs, strict=True):
        assert twice <= 2.2 * once + 2_000
    assert costs[1][1] <= 2 * 300_000 * (salvage._HASHED + 4)


def test_a_frame_the_search_gives_up_on_still_counts_for_the_next_seq(tmp_path, monkeypatch):
    valid = write_frame([b'{"Delete":"two"}'], TIME, seq=70, prev=NO_SUM).data.rstrip()
    (tmp_path / segment_name(DAY)).write_bytes(valid + b'{"Delete":"a"}\n' + MANY * 50 + b"\n")
    monkeypatch.setattr(salvage, "_MOST_HASHED", 1000)
    assert recovery.find_end(tmp_path).seq >= 70


def test_a_frame_cannot_have_more_lines_than_fit():
    effort = salvage.Effort(len(MANY))
    assert list(salvage.frame_starts(MANY, 0, len(MANY), 99_999_999, effort)) == []
    assert not effort.spent
