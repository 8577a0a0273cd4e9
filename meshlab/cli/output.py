"""What commands share: the store they were given, and rows to stdout as table, JSON or CSV.

Results go to stdout, one JSON array (or object) per command; everything said to a
person goes to stderr.  Commands that stream (``append``, ``dump``) write one JSON
object per line instead of an array, so that a reader need not wait for the end.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import click
import msgspec

from meshlab.cli import tables
from meshlab.jsontext import json_float
from meshlab.wording import escape

FINE, ERROR, DAMAGE = 0, 1, 2
"""Exit codes; ``DAMAGE`` also says that changes are planned."""

FORMATS = ("table", "json", "csv")
TABLE_ROWS = 200
"""Rows a table shows unless told otherwise; JSON and CSV have no limit."""

Row = Mapping[str, Any]
_RAW_CONTROLS = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2(?:\x80[\xaa-\xae]|\x81[\xa6-\xa9])")
"""DEL, C1, and what turns the direction of the text that follows (U+202A-202E, U+2066-2069), in UTF-8."""


@dataclass(frozen=True)
class Settings:
    """What was given before the command's name."""

    store: str | None

    def open(self) -> Any:
        """The store, by ``--store``, ``$MESH_STORE`` or its default place."""
        import meshlab

        return meshlab.open(self.store)


format_option = click.option(
    "--format",
    "fmt",
    type=click.Choice(FORMATS),
    default=FORMATS[0],
    show_default=True,
    help="How to write the result.",
)
"""Give a command ``--format``."""


def say(message: str) -> None:
    """One message for a person, on stderr."""
    click.echo(escape(message), err=True)


def say_error(message: str, hint: str) -> None:
    """What went wrong without ending the command, and what to do."""
    say(f"meshlab: error: {message}")
    say(f"hint: {hint}")


def program() -> str:
    """How to call this program again from where it was called."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return "python -m meshlab"
    if shutil.which(called.name) and Path(shutil.which(called.name) or "").samefile(called):
        return called.name
    return os.path.relpath(called)


def finish(*, damage: bool) -> None:
    """End the command with the exit code of its finding."""
    flush()
    raise click.exceptions.Exit(DAMAGE if damage else FINE)


def write_rows(rows: Iterable[Row], fmt: str, *, names: Sequence[str] | None = None, limit: int | None = None) -> None:
    """Rows to stdout; ``names`` fixes the columns, ``limit`` the rows of a table."""
    if fmt == "json":
        write_json_array(rows)
    elif fmt == "csv":
        _write_csv(rows, names)
    else:
        _write_table(rows, names, limit or TABLE_ROWS)


def write_json_array(rows: Iterable[Row]) -> None:
    """A JSON array, one row per line."""
    lead = b"["
    for row in rows:
        _write(lead + b"\n" + to_json(row))
        lead = b","
    _write(b"[]\n" if lead == b"[" else b"\n]\n")


def write_json(value: Any) -> None:
    """One JSON value and a newline: what a command that does not return rows says."""
    _write(to_json(value) + b"\n")


def write_json_line(line: bytes) -> None:
    """One line of JSON that is already encoded; ``flush`` hands it on."""
    _write(_visible(line) + b"\n")


def flush() -> None:
    """Hand what was written so far to whoever reads stdout."""
    sys.stdout.flush()


def to_json(value: Any) -> bytes:
    r"""Compact JSON in which no control character stands raw, nor one that turns the direction of text.

    >>> to_json({"content": "\x7f"})
    b'{"content":"\\u007f"}'
    """
    return _visible(msgspec.json.encode(value, enc_hook=str))


def arrow_rows(table: Any) -> Iterator[dict[str, Any]]:
    """The rows of an Arrow table (or stream of batches) as plain dicts, a batch at a time."""
    batches = table.to_batches(max_chunksize=10_000) if hasattr(table, "schema") else table
    for batch in batches:
        for row in batch.to_pylist():
            yield {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """Exact decimals without fraction (sums in SQL) are integers; other decimals are floats; NaN has its name."""
    if isinstance(value, float):
        return json_float(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "backslashreplace")
    return value


def _write_csv(rows: Iterable[Row], names: Sequence[str] | None) -> None:
    if names is None:
        rows = list(rows)
        names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    clean: Callable[[str], str] = escape if sys.stdout.isatty() else str
    writer.writerow([clean(name) for name in names])
    for row in rows:
        writer.writerow([clean(_csv_cell(row.get(name))) for name in names])


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list, tuple)):
        return to_json(value).decode()
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)


def _write_table(rows: Iterable[Row], names: Sequence[str] | None, limit: int) -> None:
    rest = iter(rows)
    shown = list(islice(rest, limit))
    if not shown:
        say("nothing to show")
        return
    click.echo(tables.render(shown, names=names, width=terminal_width()))
    if left := sum(1 for _ in rest):
        say(f"({left:,} more rows; --format json or csv writes all)")


def terminal_width() -> int | None:
    """Places in a line of the terminal, or None when stdout is no terminal."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        return shutil.get_terminal_size().columns
    return None


def _visible(data: bytes) -> bytes:
    return _RAW_CONTROLS.sub(lambda match: b"\\u%04x" % ord(match[0].decode()), data)


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
