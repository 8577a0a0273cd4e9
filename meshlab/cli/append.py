"""``meshlab append``: events from stdin into a user's log."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import click

from meshlab.cli.output import Settings, flush, say, to_json, write_json_line
from meshlab.errors import BadEvent
from meshlab.events import Other, encode_event
from meshlab.jsontext import NotJson, parse_json
from meshlab.wal.frame import MAX_FRAME

GO_ON_FROM_HERE = "the lines before it are in the log: correct this one and append from it on"
NOTHING_YET = "nothing was appended: correct this line"
BATCH_HELP = "Lines per frame. A frame is in the log whole or not at all; a bad line ends the one before it early."
KEY_HELP = "Put all lines into one frame that carries this key. The log keeps it and does not look for repeats."
ALL_OR_NOTHING = "nothing was appended: with --key all lines are one frame"


class Line(NamedTuple):
    """One event of the input and the number of its line, from 1."""

    number: int
    event: Any


@click.command("append")
@click.argument("uid")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help=BATCH_HELP)
@click.option("--key", help=KEY_HELP)
@click.pass_obj
def command(settings: Settings, uid: str, batch: int, key: str | None) -> None:
    """Append JSON events from stdin to the log of UID.

    Each line of stdin is one event.  For each frame one JSON object goes to stdout once
    its events are durable: the input lines it took ("line", "lines"), the seq of its
    first and last event, and its place in the log ("lsn").  The first line that is no
    event ends the command; what was acknowledged stays.

    \b
      echo '{"Insert":{"id":"m1","amplitude":0.5}}' | meshlab append ann
    """
    user = settings.open()[uid]
    stdin = sys.stdin.buffer
    if stdin.isatty():
        say("reading events from the terminal, one JSON object per line; Ctrl-D ends")
    if key is not None:
        _append(user, list(read_lines(stdin, hint=ALL_OR_NOTHING)), key)
    else:
        for lines in in_batches(read_lines(stdin, hint=GO_ON_FROM_HERE), batch):
            _append(user, lines, None)


def in_batches(lines: Iterator[Line], size: int) -> Iterator[list[Line]]:
    """The lines in batches; those before a line that is refused come before its ``BadEvent``."""
    pending: list[Line] = []
    refused = None
    try:
        for line in lines:
            pending.append(line)
            if len(pending) == size:
                yield pending
                pending = []
    except BadEvent as error:
        refused = error
    if pending:
        yield pending
    if refused:
        raise refused


def read_lines(stdin: BinaryIO, *, hint: str) -> Iterator[Line]:
    """The events of the input; blank lines are passed over.

    Raises ``BadEvent``, naming the line, for one that may not be appended.
    """
    number = 0
    while data := stdin.readline(MAX_FRAME + 1):
        number += 1
        if data.strip():
            try:
                yield Line(number, _read_event(data))
            except BadEvent as error:
                told = hint if number > 1 else NOTHING_YET
                raise BadEvent(f"line {number} of stdin: {error.message}", hint=told) from None


def _read_event(data: bytes) -> Any:
    if len(data) > MAX_FRAME:
        raise BadEvent(f"longer than {MAX_FRAME} bytes")
    try:
        value = parse_json(data.strip())
    except NotJson as error:
        raise BadEvent(f"not JSON: {error}") from None
    event = value if isinstance(value, dict) else Other(value)
    encode_event(event)
    return event


def _append(user: Any, lines: list[Line], key: str | None) -> None:
    if not lines:
        return
    receipt = user.append_many([line.event for line in lines], key=key)
    answer = {
        "line": lines[0].number,
        "lines": len(lines),
        "seq": receipt.first_seq,
        "last_seq": receipt.last_seq,
        "lsn": receipt.lsn,
        "nbytes": receipt.nbytes,
    }
    write_json_line(to_json(answer))
    flush()
