"""Arrow data into a file whose suffix names the format; the file appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from meshlab.errors import MeshlabError, StorageError, storage_errors

SUFFIXES = (".parquet", ".arrow", ".csv")


class BadTarget(MeshlabError, ValueError):
    """An output file whose suffix names no known format."""

    default_hint = "name a file that ends in .parquet, .arrow or .csv"


def check_target(path: Path) -> Path:
    """The path, if its suffix names a format and its place can hold a file."""
    if path.suffix not in SUFFIXES:
        raise BadTarget(f"{path}: cannot tell the format from the suffix {path.suffix!r}")
    if path.is_dir():
        raise StorageError(f"cannot write {path}: it is a directory", hint="name a file")
    if not path.parent.is_dir():
        raise StorageError(f"cannot write {path}: {path.parent} is no directory", hint="create the directory first")
    return path


def write_file(path: Path, schema: Any, batches: Iterable[Any]) -> int:
    """Write record batches to a file, replacing it at the end; returns the rows written."""
    rows = 0
    with storage_errors("write", path), _replacing(check_target(path), schema) as write:
        for batch in batches:
            write(batch)
            rows += batch.num_rows
    return rows


@contextmanager
def _replacing(path: Path, schema: Any) -> Iterator[Callable[[Any], None]]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with _WRITERS[path.suffix](temporary, schema) as write:
            yield write
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _parquet(path: Path, schema: Any) -> Iterator[Callable[[Any], None]]:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
        yield writer.write_batch


@contextmanager
def _arrow(path: Path, schema: Any) -> Iterator[Callable[[Any], None]]:
    """Dictionaries are written out: a file may hold one only for each column, a stream of batches many."""
    import pyarrow as pa

    plain = pa.schema([field.with_type(_decoded(field.type)) for field in schema])
    with pa.OSFile(os.fspath(path), "wb") as sink, pa.ipc.new_file(sink, plain) as writer:
        yield lambda batch: writer.write_batch(batch.cast(plain))


def _decoded(kind: Any) -> Any:
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


@contextmanager
def _csv(path: Path, schema: Any) -> Iterator[Callable[[Any], None]]:
    import pyarrow as pa
    from pyarrow import csv

    flat = pa.RecordBatch.from_pylist([], schema=schema)
    with csv.CSVWriter(path, flat_columns(flat).schema) as writer:
        yield lambda batch: writer.write_batch(flat_columns(batch))


_WRITERS = {".parquet": _parquet, ".arrow": _arrow, ".csv": _csv}


def flat_columns(batch: Any) -> Any:
    """A batch that CSV can hold: structs as one column per member (``comfort_metrics.flux``), lists as JSON.

    Bytes that are not UTF-8 become backslash escapes.
    """
    import pyarrow as pa

    names, columns = [], []
    for name, column in zip(batch.schema.names, batch.columns):
        for flat_name, flat in _flatten(name, column):
            names.append(flat_name)
            columns.append(flat)
    return pa.RecordBatch.from_arrays(columns, names=names)


def _flatten(name: str, column: Any) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa

    if pa.types.is_struct(column.type):
        for member, values in zip(column.type, column.flatten()):
            yield from _flatten(f"{name}.{member.name}", values)
    elif pa.types.is_nested(column.type):
        yield name, _texts(column, _json_text)
    elif pa.types.is_binary(column.type):
        yield name, _texts(column, lambda raw: raw.decode("utf-8", "backslashreplace"))
    else:
        yield name, column.cast(_decoded(column.type))


def _texts(column: Any, as_text: Callable[[Any], str]) -> Any:
    import pyarrow as pa

    return pa.array([None if value is None else as_text(value) for value in column.to_pylist()], pa.string())


def _json_text(value: Any) -> str:
    from meshlab.cli.output import to_json

    return to_json(value).decode()
