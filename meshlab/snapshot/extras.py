"""Fields beyond the schema while a log is folded: unknown names, and values that do not fit.

A row's ``extra`` is a JSON object; here it is a list of entries (row, name, raw JSON).
For every record the last entry of a name wins, by the same rule as a typed field, and
the winners are written as one object with its names in order, so that a state does not
depend on how the log was cut into pieces.  Raw values are never re-encoded.
"""

from __future__ import annotations

from array import array
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from meshlab.events import FIELDS

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_KNOWN = frozenset(FIELDS)


class Extras:
    """The entries of a table of events whose first row has the number ``first``."""

    def __init__(self, column: pa.ChunkedArray, first: int) -> None:
        self.names: list[str] = []
        self._codes: dict[str, int] = {}
        self._rows = array("q")
        self._name_codes = array("q")
        self._values: list[bytes] = []
        start = first
        for chunk in column.chunks:
            if chunk.null_count < len(chunk):
                self._read(chunk, np.flatnonzero(chunk.is_valid()), start)
            start += len(chunk)

    def __bool__(self) -> bool:
        return bool(self._rows)

    def has(self, name: str) -> bool:
        """Whether any entry has the name."""
        return name in self._codes

    def rows_with(self, name: str) -> Any:
        """The rows that have an entry of the name."""
        if name not in self._codes:
            return np.empty(0, np.int64)
        return np.array(self._rows, np.int64)[np.array(self._name_codes, np.int64) == self._codes[name]]

    def unknown_in(self, rows: Any) -> tuple[Any, Any]:
        """Entries of unknown names in some ascending rows: ``(index into rows, name code)``."""
        unknown = np.array([name not in _KNOWN for name in self.names], bool)
        entry_rows, codes = np.array(self._rows, np.int64), np.array(self._name_codes, np.int64)
        wanted = np.flatnonzero(np.isin(entry_rows, rows) & unknown[codes])
        return np.searchsorted(rows, entry_rows[wanted]), codes[wanted]

    def add_base(self, column: pa.Array, rows: Any) -> None:
        """Add the entries of records that are about to change."""
        texts = column.take(pa.array(rows))
        valid = np.flatnonzero(texts.is_valid())
        for row, text in zip(rows[valid].tolist(), texts.take(pa.array(valid)).to_pylist(), strict=True):
            self._add(row, text)

    def render(self, codes: Any, counts: Any, sources: dict[str, Any]) -> dict[int, str]:
        """The ``extra`` text per record code.

        ``codes`` and ``counts`` say, per row, whose it is and whether it counts;
        ``sources`` gives per known name and code the row its field comes from, which
        drops an entry that a later typed value replaced.
        """
        rows, names = np.array(self._rows, np.int64), np.array(self._name_codes, np.int64)
        rank = np.empty(len(self.names), np.int64)
        rank[sorted(range(len(self.names)), key=self.names.__getitem__)] = np.arange(len(self.names))
        entries = np.flatnonzero(counts[rows])
        owner = codes[rows[entries]]
        entries = entries[np.lexsort((rows[entries], rank[names[entries]], owner))]
        owner, name = codes[rows[entries]], names[entries]
        last = np.append((owner[1:] != owner[:-1]) | (name[1:] != name[:-1]), True)[: len(entries)]
        for known, source in sources.items():
            mine = name == self._codes[known]
            last[mine] &= source[owner[mine]] == rows[entries[mine]]
        return self._join(owner[last].tolist(), entries[last].tolist())

    def _join(self, owners: list[int], entries: list[int]) -> dict[int, str]:
        parts: dict[int, list[bytes]] = {}
        labels = [msgspec.json.encode(name) + b":" for name in self.names]
        for owner, entry in zip(owners, entries, strict=True):
            parts.setdefault(owner, []).append(labels[self._name_codes[entry]] + self._values[entry])
        return {owner: (b"{" + b",".join(pieces) + b"}").decode() for owner, pieces in parts.items()}

    def _read(self, chunk: pa.Array, valid: Any, start: int) -> None:
        for row, text in zip((valid + start).tolist(), chunk.take(pa.array(valid)).to_pylist(), strict=True):
            self._add(row, text)

    def _add(self, row: int, text: str) -> None:
        for name, value in _decode(text).items():
            code = self._codes.setdefault(name, len(self.names))
            if code == len(self.names):
                self.names.append(name)
            self._rows.append(row)
            self._name_codes.append(code)
            self._values.append(bytes(value))
