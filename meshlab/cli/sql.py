"""``meshlab sql``: DuckDB SQL over a store."""

from __future__ import annotations

import click

from meshlab.cli.output import Settings, arrow_rows, format_option, write_rows


@click.command("sql")
@click.argument("query")
@format_option
@click.pass_obj
def command(settings: Settings, query: str, fmt: str) -> None:
    """Run a SQL query over a store.

    The tables are events, rejects and segments.

    \b
      meshlab sql "select op, count(*) as n, sum(nbytes) as bytes from events group by op order by n desc"
    """
    result = settings.open().sql(query)
    table = result.to_arrow_table() if hasattr(result, "to_arrow_table") else result
    write_rows(arrow_rows(table), fmt, names=table.schema.names)
