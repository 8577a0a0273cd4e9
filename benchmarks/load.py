"""Loading all columns, verified and from the sealed copy, and an aggregate."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks import loaders
from benchmarks.inputs import Inputs
from benchmarks.measure import Figure, interleave, timed
from benchmarks.report import SPEED, Bound, Row, seconds

FASTER = Bound(1.0)
PANDAS = "pandas.read_json"
"""It takes so long that it is measured once."""

_HOUR = 3_600_000_000
"""One hour in µs."""


def measure_sealed(inputs: Inputs, rounds: int) -> list[Row]:
    """From the sealed copy: all columns, and an aggregate."""
    return [*_sealed(inputs, rounds), *_totals(inputs, rounds)]


def measure(inputs: Inputs, rounds: int) -> list[Row]:
    readers = {
        "DuckDB read_json": loaders.duckdb_fields,
        "DuckDB select *": loaders.duckdb_bare,
        "pyarrow.json": loaders.pyarrow_fields,
        "polars.read_ndjson": loaders.polars_fields,
    }
    _check_rows(inputs, readers)
    contenders = {name: timed(partial(read, inputs.log)) for name, read in readers.items()}
    figures = interleave({"meshlab": timed(partial(_load_all, inputs.user)), **contenders}, rounds)
    figures |= interleave({PANDAS: timed(lambda: _counted(inputs, loaders.pandas_fields))}, 1)
    bounds = {"DuckDB read_json": (Bound(0.5), Bound(1.0)), "DuckDB select *": (None, None)}
    return [
        _row("load, verified, all columns", figures, name, *bounds.get(name, (FASTER, None)))
        for name in (*readers, PANDAS)
    ]


def _sealed(inputs: Inputs, rounds: int) -> list[Row]:
    folder = inputs.sealed_user.root
    contenders = {
        "meshlab": timed(partial(_load_all, inputs.sealed_user)),
        "DuckDB read_json": timed(partial(loaders.duckdb_fields, folder)),
        "DuckDB select *": timed(partial(loaders.duckdb_bare, folder)),
    }
    figures = interleave(contenders, rounds)
    work = "load, sealed, all columns"
    return [
        _row(work, figures, "DuckDB read_json", Bound(2.0), Bound(3.0)),
        _row(work, figures, "DuckDB select *", None, None),
    ]


def _totals(inputs: Inputs, rounds: int) -> list[Row]:
    folder = inputs.sealed_user.root
    queries = {
        "meshlab": partial(_totals_by_arrow, inputs),
        "meshlab, store.sql": partial(_totals_by_sql, inputs),
        "DuckDB over JSON lines": partial(loaders.duckdb_totals, folder),
        "DuckDB over text by position": partial(loaders.duckdb_totals_by_position, folder),
    }
    if len({_as_text(query()) for query in queries.values()}) != 1:
        raise SystemExit("the totals per hour and op differ between meshlab and DuckDB")
    figures = interleave({name: timed(query) for name, query in queries.items()}, rounds * 3)
    work = "aggregate, sealed: bytes and events per hour and op"
    return [
        _row(work, figures, "DuckDB over JSON lines", Bound(20.0), Bound(40.0)),
        _row(work, figures, "DuckDB over text by position", None, None),
        _row(work, figures, "meshlab, store.sql", None, None),
    ]


def _totals_by_arrow(inputs: Inputs) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    events = inputs.sealed_user.events(columns=("ts", "op", "nbytes"), progress=False).to_arrow()
    hours = pc.divide(events["ts"].cast(pa.int64()), _HOUR)
    table = pa.table({"hour": hours, "op": events["op"], "bytes": events["nbytes"]})
    totals = table.group_by(["hour", "op"]).aggregate([("bytes", "sum"), ("bytes", "count")])
    starts = pc.multiply(totals["hour"], _HOUR).cast(pa.timestamp("us", "UTC"))
    return pa.table({"hour": starts, "op": totals["op"], "bytes": totals["bytes_sum"], "events": totals["bytes_count"]})


def _totals_by_sql(inputs: Inputs) -> Any:
    query = """select time_bucket(interval 1 hour, ts) as hour, op, sum(nbytes) as bytes, count(*) as events
        from events group by all"""
    return inputs.store.sql(query, users=inputs.sealed_user.uid, progress=False).to_arrow()


def _as_text(totals: Any) -> str:
    """The totals in a form that compares: sorted, hours without the zone only one side gives."""
    rows = [
        (f"{row['hour']:%Y-%m-%d %H}", row["op"], int(row["bytes"]), int(row["events"])) for row in totals.to_pylist()
    ]
    return str(sorted(rows))


def _load_all(user: Any) -> Any:
    return user.events(progress=False).to_arrow()


def _counted(inputs: Inputs, read: Any) -> None:
    if (found := len(read(inputs.log))) != inputs.events:
        raise SystemExit(f"{found} rows were read, expected {inputs.events}")


def _check_rows(inputs: Inputs, readers: dict[str, Any]) -> None:
    """All give the same number of rows, and the columns that were promised."""
    counts = {name: len(read(inputs.log)) for name, read in readers.items()}
    counts["meshlab"] = len(_load_all(inputs.user))
    if set(counts.values()) != {inputs.events}:
        raise SystemExit(f"the loaders differ in rows: {counts}")


def _row(work: str, figures: dict[str, Figure], name: str, floor: Bound | None, aim: Bound | None) -> Row:
    ours, theirs = figures["meshlab"], figures[name]
    return Row(work, seconds(ours), f"{name} {seconds(theirs)}", theirs.median / ours.median, SPEED, floor, aim)
