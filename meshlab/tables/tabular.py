"""Results that are an Arrow table, in whatever form the caller works with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from meshlab.errors import MeshlabError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class Tabular:
    """Base of all results: ``to_arrow`` is the table, everything else comes from it.

    Arrow tools take the object as it is: ``pa.table(result)``, ``pl.from_arrow(result)``,
    ``duckdb.sql("from result")``.
    """

    def to_arrow(self) -> pa.Table:
        """The Arrow table."""
        raise NotImplementedError

    def to_pandas(self) -> pd.DataFrame:
        """A pandas frame: floats bit for bit; integers with gaps are ``Int64`` or ``UInt64``, so none is rounded."""
        return to_pandas(self.to_arrow())

    def to_polars(self) -> pl.DataFrame:
        """A polars frame.  Raises ``MeshlabError`` when polars is not installed."""
        return to_polars(self.to_arrow())

    def to_pylist(self) -> list[dict[str, Any]]:
        """The rows as dicts."""
        rows: list[dict[str, Any]] = self.to_arrow().to_pylist()
        return rows

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The Arrow stream protocol."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return int(self.to_arrow().num_rows)


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """A pandas frame of an Arrow table, without loss: integers with gaps stay integers.

    >>> to_pandas(pa.table({"n": pa.array([None, 2**64 - 1], pa.uint64())})).n.tolist()
    [<NA>, 18446744073709551615]
    """
    import pandas as pd

    nullable = {pa.int64(): pd.Int64Dtype(), pa.uint64(): pd.UInt64Dtype()}
    gappy = {column.type for column in table.columns if column.null_count}
    return table.to_pandas(types_mapper={kind: nullable[kind] for kind in nullable if kind in gappy}.get)


def to_polars(table: pa.Table) -> pl.DataFrame:
    """A polars frame of an Arrow table.  Raises ``MeshlabError`` when polars is not installed."""
    try:
        import polars as pl
    except ImportError:
        raise MeshlabError("polars is not installed", hint="pip install polars, or use to_arrow()") from None
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
