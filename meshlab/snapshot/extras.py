"""Fields beyond the schema while a log is folded: unknown names, and values that do not fit.

A row's ``extra`` is a JSON object; here it is a list of entries (row, name, raw JSON).
For every record the last entry of a name wins, by the same rule as a typed field, and
the winners are written as one object with its names in order, so that a state does not
depend on how the log was cut into pieces.  Raw values are never re-encoded.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from meshlab.records import FIELDS

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_KNOWN = frozenset(FIELDS)


class Extras:
    """The entries of a table of events whose first row has the number ``first``."""

    def __init__(self, column: pa.ChunkedArray, first: int) -> None:
        self.names: list[str] = []
        self._name_codes: dict[str, int] = {}
        self._values: list[bytes] = []
        self._entries = np.empty((3, 0), np.int64)  # row, name code, index into the values
        found = [self._entries]
        for chunk in column.chunks:
            if chunk.null_count < len(chunk):
                rows = np.flatnonzero(chunk.is_valid())
                found.append(self._explode(rows + first, chunk.take(pa.array(rows))))
            first += len(chunk)
        self._entries = np.concatenate(found, axis=1)

    def __bool__(self) -> bool:
        return self._entries.shape[1] > 0

    def has(self, name: str) -> bool:
        """Whether any entry has the name."""
        return name in self._name_codes

    def rows_with(self, name: str) -> Any:
        """The rows that have an entry of the name."""
        rows, names, _ = self._entries
        return rows[names == self._name_codes.get(name, -1)]

    def unknown_in(self, rows: Any) -> tuple[Any, Any]:
        """Entries of unknown names in some ascending rows: ``(index into rows, name code)``."""
        unknown = np.array([name not in _KNOWN for name in self.names], bool)
        owners, names, _ = self._entries
        wanted = np.flatnonzero(np.isin(owners, rows) & unknown[names])
        return np.searchsorted(rows, owners[wanted]), names[wanted]

    def add_base(self, column: pa.Array, rows: Any) -> None:
        """Add the entries of records that are about to change."""
        texts = column.take(pa.array(rows))
        valid = np.flatnonzero(texts.is_valid())
        entries = self._explode(rows[valid], texts.take(pa.array(valid)))
        self._entries = np.concatenate([self._entries, entries], axis=1)

    def render(self, codes: Any, counts: Any, sources: dict[str, Any]) -> dict[int, str]:
        """The ``extra`` text per record code.

        ``codes`` and ``counts`` say, per row, whose it is and whether it counts;
        ``sources`` gives per known name and code the row its field comes from, which
        drops an entry that a later typed value replaced.
        """
        rows, names, values = self._entries
        rank = np.empty(len(self.names), np.int64)
        rank[sorted(range(len(self.names)), key=self.names.__getitem__)] = np.arange(len(self.names))
        entries = np.flatnonzero(counts[rows])
        owner = codes[rows[entries]]
        entries = entries[np.lexsort((rows[entries], rank[names[entries]], owner))]
        owner, name = codes[rows[entries]], names[entries]
        last = np.append((owner[1:] != owner[:-1]) | (name[1:] != name[:-1]), True)[: len(entries)]
        for known, source in sources.items():
            mine = name == self._name_codes[known]
            last[mine] &= source[owner[mine]] == rows[entries[mine]]
        kept = entries[last]
        return self._join(owner[last].tolist(), names[kept].tolist(), values[kept].tolist())

    def _join(self, owners: list[int], names: list[int], values: list[int]) -> dict[int, str]:
        labels = [msgspec.json.encode(name) + b":" for name in self.names]
        parts: dict[int, list[bytes]] = {}
        for owner, name, value in zip(owners, names, values, strict=True):
            parts.setdefault(owner, []).append(labels[name] + self._values[value])
        return {owner: (b"{" + b",".join(pieces) + b"}").decode() for owner, pieces in parts.items()}

    def _explode(self, rows: Any, texts: pa.Array) -> Any:
        """Entries of rows and their texts; a text that stands in many rows is decoded once."""
        encoded = texts.dictionary_encode()
        names: list[int] = []
        first = len(self._values)
        ends = []
        for text in encoded.dictionary.to_pylist():
            for name, value in _decode(text).items():
                names.append(self._code(name))
                self._values.append(bytes(value))
            ends.append(len(names))
        which = encoded.indices.to_numpy()
        starts = np.array([0, *ends], np.int64)
        counts = np.diff(starts)[which]
        places = np.arange(counts.sum()) + np.repeat(starts[which] - np.cumsum(counts) + counts, counts)
        return np.stack([np.repeat(rows, counts), np.array(names, np.int64)[places], places + first])

    def _code(self, name: str) -> int:
        code = self._name_codes.setdefault(name, len(self.names))
        if code == len(self.names):
            self.names.append(name)
        return code
