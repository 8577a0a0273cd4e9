"""The long contents that a log brings, in a temporary file while it is read.

Memory holds some 60 bytes of each: its digest and its place.  The file is in the
system's directory for temporary files (``TMPDIR``) and at most as large as the log.

>>> with kept_apart() as texts:
...     coded = texts.add(pa.RecordBatch.from_pylist([{"id": "m1", "content": "x" * 300}]))
...     whole = pa.Table.from_batches(with_contents(pa.table(coded), texts.contents()))
>>> len(coded["content"][0].as_py()), len(whole["content"][0].as_py())
(65, 300)
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from meshlab.errors import storage_errors
from meshlab.snapshot.contents import TEXTS, Contents, encode_batch


class Texts:
    """Long contents in the order they came, in one file; those that come again in another batch stand there again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def add(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch with codes for its contents, of which the long ones are written.  Raises ``StorageError``."""
        coded, texts = encode_batch(batch)
        if texts.num_rows:
            with storage_errors("write", self._path):
                if self._writer is None:
                    self._writer = pa.ipc.new_file(str(self._path), TEXTS)
                self._writer.write_table(texts)
        return coded

    def contents(self) -> Contents:
        """What has been added, to be looked up; nothing more is added then."""
        written = [self._path] if self._writer is not None else []
        self.close()
        return Contents(lambda: written)

    def close(self) -> None:
        """Write what is waiting."""
        if self._writer is not None:
            with storage_errors("write", self._path):
                self._writer.close()
            self._writer = None


@contextmanager
def kept_apart() -> Iterator[Texts]:
    """A temporary file for long contents, which goes at the end."""
    with storage_errors("write", Path(tempfile.gettempdir())):
        folder = tempfile.TemporaryDirectory(prefix="meshlab-", ignore_cleanup_errors=True)
    with folder as name:
        texts = Texts(Path(name) / "texts.arrow")
        try:
            yield texts
        finally:
            texts.close()


def with_contents(state: pa.Table, contents: Contents) -> Iterator[pa.RecordBatch]:
    """Records with codes for contents as whole ones, in batches of bounded size."""
    for batch in state.to_batches():
        low = 0
        for texts in contents.parts(batch["content"], sparing=True):
            part = batch.slice(low, len(texts))
            yield part.set_column(part.schema.get_field_index("content"), "content", texts)
            low += len(texts)
