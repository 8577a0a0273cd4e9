"""``meshlab serve``: appends and reads over HTTP."""

from __future__ import annotations

import importlib.util
import logging
import sys
import time
from pathlib import Path
from typing import Any

import click

from meshlab.cli.output import Settings
from meshlab.cli.units import Size, Span
from meshlab.errors import MeshlabError

NEEDED = ("httptools", "prometheus_client", "starlette", "uvicorn")


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; beyond loopback needs --tokens.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="The port; 0 takes any free one."
)
@click.option(
    "--tokens",
    type=click.Path(path_type=Path),
    help="Who may do what: a TOML file of token hashes, read anew when it changes.",
)
@click.option("--cors", metavar="ORIGIN", multiple=True, help="Let pages of this origin use it (may be repeated).")
@click.option("--body", type=Size(), default="1MiB", show_default=True, help="Largest event, as a body or a line.")
@click.option("--batch", type=Size(), default="8MiB", show_default=True, help="Largest batch.")
@click.option("--lines", type=click.IntRange(1), default=10_000, show_default=True, help="Most lines of a batch.")
@click.option("--rate", type=Size(), default="10k", show_default=True, help="Events per second of one user.")
@click.option(
    "--waiting", type=click.IntRange(1), default=10_000, show_default=True, help="Most events waiting for the disk."
)
@click.option(
    "--connections", type=click.IntRange(1), default=1_000, show_default=True, help="Most connections at a time."
)
@click.option("--timeout", type=Span(), default="30s", show_default=True, help="A request must have arrived by then.")
@click.option("--drain", type=Span(), default="20s", show_default=True, help="When told to end, answer for so long.")
@click.option("--min-free", type=Size(), default="64MiB", show_default=True, help="Not ready with less free space.")
@click.option(
    "--limit",
    type=Size(),
    default="none",
    help="/metrics tells when the logs reach this size.  [default: a full disk]",
)
@click.option(
    "--count-user", "users", metavar="UID", multiple=True, help="Tell this user apart in /metrics (may be repeated)."
)
@click.option("--no-access-log", "quiet", is_flag=True, help="Log no requests, only what happens to the gateway.")
@click.pass_obj
def command(settings: Settings, host: str, port: int, tokens: Path | None, quiet: bool, **values: Any) -> None:
    """Serve the store over HTTP, until SIGTERM or Ctrl-C.

    POST /api/mesh/wal appends an event and answers when it is on disk; docs/gateway.md
    has the other routes.  Without --tokens every program of this machine may do
    everything, and no other machine can connect.  The log, one JSON object per line,
    goes to stderr.

    \b
      meshlab serve
      meshlab --store /srv/mesh serve --host 0.0.0.0 --port 8443 --tokens /etc/meshlab/tokens.toml
    """
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise MeshlabError(f"{name} is not installed", hint="pip install 'meshlab[server]'")
    _run(settings, host, port, tokens, quiet, values)


def _run(settings: Settings, host: str, port: int, tokens: Path | None, quiet: bool, values: dict[str, Any]) -> None:
    from meshlab.service.gateway.access import AccessLog
    from meshlab.service.gateway.app import Gateway, Options
    from meshlab.service.gateway.auth import Tokens
    from meshlab.service.gateway.descriptors import take_shares
    from meshlab.service.gateway.files import MeasuredFiles
    from meshlab.service.gateway.server import is_loopback, listen, serve
    from meshlab.service.jsonlog import json_logger
    from meshlab.service.metrics import Metrics
    from meshlab.service.survey import Survey
    from meshlab.store import Store

    limits = _limits(values)
    logger = json_logger("meshlab.serve", sys.stderr)
    json_logger("uvicorn", sys.stderr, level=logging.WARNING)
    known = Tokens(tokens, steady=time.monotonic, complain=lambda error: _complain(logger, error))
    listener = listen(host, port)
    if not is_loopback(listener) and known.is_open:
        listener.close()
        raise MeshlabError(
            f"{host} can be reached from other machines and there are no tokens",
            hint="give --tokens FILE, or listen on 127.0.0.1",
        )
    shares = take_shares(limits.connections)
    if shares.connections < limits.connections:
        logger.warning("few files may be open", extra={"fields": {**shares._asdict(), "hint": "raise LimitNOFILE"}})
    metrics = Metrics(values["users"])
    store = Store(settings.store, files=MeasuredFiles(metrics))
    gateway = Gateway(
        store,
        known,
        metrics,
        options=Options(
            limits._replace(connections=shares.connections), tuple(values["cors"]), (host,), logs=shares.logs
        ),
        survey=Survey(store.path, limit=None if values["limit"] is None else int(values["limit"])),
        access=AccessLog(None if quiet else sys.stderr),
        logger=logger,
    )
    serve(gateway, listener, logger)


def _limits(values: dict[str, Any]) -> Any:
    from meshlab.service.gateway.admission import Limits
    from meshlab.service.gateway.origins import is_origin

    for name in ("body", "batch", "timeout", "drain"):
        if not values[name]:
            raise click.UsageError(f"--{name} must be over 0")
    most = Limits().waiting_bytes // 2
    for name in ("body", "batch"):
        if values[name] > most:
            raise click.UsageError(f"--{name} must be {most >> 20} MiB at most: twice as much may wait in all")
    for origin in values["cors"]:
        if not is_origin(origin):
            raise click.UsageError(f"--cors {origin} is no origin: give scheme://host or scheme://host:port, no path")
    if values["rate"] is not None and values["rate"] < 1:
        raise click.UsageError("--rate must be one event per second at least, or none")
    return Limits(
        body=int(values["body"]),
        batch=int(values["batch"]),
        lines=values["lines"],
        rate=values["rate"],
        waiting=values["waiting"],
        connections=values["connections"],
        request=values["timeout"],
        drain=values["drain"],
        min_free=int(values["min_free"] or 0),
    )


def _complain(logger: logging.Logger, error: MeshlabError) -> None:
    logger.error("tokens", extra={"fields": {"error": error.message, "hint": error.hint}})
