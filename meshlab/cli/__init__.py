"""The command line: ``meshlab [--store DIR] COMMAND``; one command per module.

Exit codes: 0 fine, 1 error, 2 damage found (or changes planned).  A user's mistake
is one line on stderr, ``meshlab: error: ...``, and a hint; never a traceback.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import click

from meshlab.cli import (
    append,
    checkpoint,
    checkpointd,
    demo,
    diff,
    dump,
    forecast,
    growth,
    lab,
    load,
    migrate,
    notebooks,
    repair,
    replay,
    seal,
    serve,
    simulate,
    sql,
    stats,
    sync,
    vacuum,
    verify,
    windows,
)
from meshlab.cli.output import ERROR, Settings
from meshlab.errors import MeshlabError
from meshlab.wording import escape

INTERRUPTED = 130
BROKEN_PIPE = 141
"""What a shell reports for a program that SIGINT or SIGPIPE ended."""


DEBUG = "MESHLAB_DEBUG"
"""Set in the environment, it lets errors nobody foresaw end in a traceback."""


class Commands(click.Group):
    """A group that ends every run with one of the exit codes above."""

    def main(self, args: Any = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run the command line and exit."""
        extra["standalone_mode"] = False
        sys.exit(_guarded(lambda: super(Commands, self).main(args, prog_name or "meshlab", **extra)))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C and a reader that went away end it without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise click.exceptions.Exit(BROKEN_PIPE) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--store", metavar="DIR", help="The store: a directory of users.  [default: $MESH_STORE, else ./mesh_store]"
)
@click.version_option(package_name="meshlab", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context, store: str | None) -> None:
    """Durable logs of mesh events: append, verify, load, replay.

    Results go to stdout, messages to stderr.  Exit codes: 0 fine, 1 error, 2 damage
    found or changes planned.
    """
    context.obj = Settings(store)


COMMANDS = (
    *(append, dump, load, verify, repair, seal),
    *(replay, windows, diff, checkpoint, vacuum, checkpointd, serve),
    *(stats, sql, growth, forecast, simulate),
    *(migrate, sync, demo, lab, notebooks),
)

for module in COMMANDS:
    main.add_command(module.command)


def _guarded(run: Callable[[], Any]) -> int:
    """The exit code of a run; what went wrong is said on stderr."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _say_warning  # type: ignore[assignment]
            code = run()
        if code in (INTERRUPTED, BROKEN_PIPE):
            _silence_stdout()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except MeshlabError as error:
        return _fail(error.message, error.hint)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return ERROR
    except click.UsageError as error:
        return _fail(error.format_message(), _usage_hint(error))
    except click.ClickException as error:
        return _fail(error.format_message(), None)
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE
    except OSError as error:
        _silence_stdout()
        where = f": {error.filename}" if error.filename else " while writing the result"
        return _fail(f"{error.strerror or error}{where}", "check the path, its permissions and the free space")
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        what = " ".join(f"unexpected {type(error).__name__}: {error}".split())
        return _fail(what, f"please report this; {DEBUG}=1 shows the traceback")


def _say_warning(message: Warning | str, *_: object) -> None:
    click.echo(f"meshlab: warning: {escape(str(message))}", err=True)


def _fail(message: str, hint: str | None) -> int:
    click.echo(f"meshlab: error: {escape(message)}", err=True)
    if hint:
        click.echo(f"hint: {escape(hint)}", err=True)
    return ERROR


def _usage_hint(error: click.UsageError) -> str:
    return f"'{error.ctx.command_path if error.ctx else 'meshlab'} --help' shows what is possible"


def _silence_stdout() -> None:
    """Nobody reads stdout any more: let Python's own flush at exit go nowhere."""
    try:
        fd = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, fd)
    os.close(null)
