"""The bytes of a batch of appends, and the receipts they will earn."""

from __future__ import annotations

from meshlab.errors import BadEvent, StorageError
from meshlab.wal.commit import Receipt, Request
from meshlab.wal.frame import MAX_SEQ_DIGITS, write_frame
from meshlab.wal.recovery import LogEnd


def frames(batch: list[Request], end: LogEnd, time: str) -> tuple[bytes, list[tuple[Request, Receipt]], LogEnd]:
    """The bytes to append, the receipts they will earn, and the end of the log behind them.

    What a crash left is ended by a newline and named first.  A frame that is too large
    fails its own request only.
    """
    assert end.segment is not None
    parts = [b"\n"] if end.newline else []
    size, seq, total = end.size + len(parts), end.seq, end.sum
    for torn in end.torn:
        frame = write_frame([torn.event()], time, seq=seq + 1, prev=total)
        parts.append(frame.data)
        size, seq, total = size + len(frame.data), frame.last_seq, frame.sum
    receipts = []
    for request in batch:
        try:
            frame = write_frame(request.events, time, seq=seq + 1, prev=total, key=request.key)
        except BadEvent as error:
            request.error = error
            continue
        parts.append(frame.data)
        receipts.append((request, Receipt(frame.first_seq, frame.last_seq, end.segment, size, len(frame.data))))
        size, seq, total = size + len(frame.data), frame.last_seq, frame.sum
    _refuse_past_last(seq)
    return b"".join(parts), receipts, LogEnd(end.segment, size, seq, total, False, [], end.segment)


def _refuse_past_last(seq: int) -> None:
    """Refuse a seq no reader takes: a frame with an impossible one stands in the log."""
    if seq >= 10**MAX_SEQ_DIGITS:
        raise StorageError(
            f"the next event would be number {seq}: readers take {MAX_SEQ_DIGITS} digits",
            hint="a frame in the log has an impossible seq: run 'meshlab verify'; nothing was written",
        )
