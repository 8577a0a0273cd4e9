"""What a person should know of a source, gathered while it is read.

>>> notes = Notes()
>>> notes.count("second adds of a live concept ignored", "sea")
>>> notes.lines()
['second adds of a live concept ignored: 1 (sea)']
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.jsontext import json_float
from meshlab.tables.schema import RECORD_FIELDS

SHOWN = 20
"""Cases that a note names."""

NOT_FINITE = "floats that are not finite (kept; their JSON form is a text)"
_NO_ID = "records with an empty id, which no event can change"


class Notes:
    """Single lines, and cases that are counted of which the first twenty are named."""

    def __init__(self) -> None:
        self._single: list[str] = []
        self._counts: dict[str, int] = {}
        self._cases: dict[str, list[str]] = {}

    def add(self, line: str) -> None:
        """Take a line, once."""
        if line not in self._single:
            self._single.append(line)

    def count(self, what: str, case: str) -> None:
        """Take one more case of something."""
        self._counts[what] = self._counts.get(what, 0) + 1
        cases = self._cases.setdefault(what, [])
        if len(cases) < SHOWN:
            cases.append(case)

    def look(self, batch: pa.RecordBatch) -> None:
        """Take what is odd about records in ``RECORD_SCHEMA``."""
        for name, column in _floats(batch):
            odd = np.flatnonzero(pc.invert(pc.is_finite(column)).fill_null(False).to_numpy(zero_copy_only=False))
            for row in odd.tolist():
                self.count(NOT_FINITE, f"{batch['id'][row].as_py()} {name} {json_float(column[row].as_py())}")
        for _ in range(pc.sum(pc.equal(batch["id"], "")).as_py() or 0):
            self.count(_NO_ID, "''")

    def lines(self) -> list[str]:
        """The notes, one line each."""
        return self._single + [self._counted(what, count) for what, count in self._counts.items()]

    def _counted(self, what: str, count: int) -> str:
        cases = self._cases[what]
        more = f" and {count - len(cases):,} more" if count > len(cases) else ""
        return f"{what}: {count:,} ({', '.join(cases)}{more})"


def _floats(batch: pa.RecordBatch) -> list[tuple[str, Any]]:
    """The float columns of records by name, those of structs among them."""
    columns = []
    for field in RECORD_FIELDS:
        column = batch[field.name]
        if pa.types.is_floating(field.type):
            columns.append((field.name, column))
        elif pa.types.is_struct(field.type):
            parts = zip(field.type, column.flatten(), strict=True)
            columns += [(f"{field.name}.{part.name}", values) for part, values in parts if _is_float(part)]
    return columns


def _is_float(part: pa.Field) -> bool:
    return bool(pa.types.is_floating(part.type))
