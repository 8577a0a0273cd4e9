"""``meshlab sql``: DuckDB SQL over a store."""

from __future__ import annotations

import click

from meshlab.cli.findings import say_damage
from meshlab.cli.output import Settings, arrow_rows, finish, format_option, write_rows


@click.command("sql")
@click.argument("query")
@format_option
@click.pass_obj
def command(settings: Settings, query: str, fmt: str) -> None:
    """Run QUERY, in SQL, over a store.

    The tables are events, rejects and segments; nothing else can be read.  Exit code 2:
    there is damage in the logs that were read.

    \b
      meshlab sql "select op, count(*) as n, sum(nbytes) as bytes from events group by op order by n desc"
    """
    if not query.strip():
        raise click.UsageError("the query is empty")
    result = settings.open().sql(query)
    table = result.to_arrow()
    write_rows(arrow_rows(table), fmt, names=table.schema.names)
    say_damage(result.damage)
    finish(damage=bool(result.damage))
