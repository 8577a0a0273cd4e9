"""The reference of the command line: ``python docs/cli.py`` writes ``docs/cli.md`` from the commands themselves.

Nothing in it depends on the machine: no width of a terminal, no path, no number of cores.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from meshlab.cli import main  # noqa: E402 (found by the line above)

PAGE = REPOSITORY / "docs" / "cli.md"
DEFAULT = re.compile(r"\s*\[default: (.*)\]$")
REMARK = re.compile(r"(?<=\S)( {3,})(?=\S)")
EXAMPLES = "\b\n"
"""Stands before lines that click does not wrap: in a help text these are examples."""

WORDS = {
    "text": "text",
    "path": "path",
    "file": "path",
    "size": "size",
    "time": "span",
    "integer": "number",
    "integer range": "number",
}

HEAD = """\
# The command line

Made by `python docs/cli.py` from the commands themselves; `meshlab COMMAND --help` says the same.

- `[UID]...` takes any number of users, none as well.
- A *size* is a number of bytes or events, such as `64MB`, `1.5GiB`, `4096` or `100k`; `none` is no limit.
- A *span* is a time, such as `90s`, `10m`, `6h`, `1d` or seconds; `none` is no limit.
- A *moment* is an RFC 3339 time, such as `2025-07-07T12:00:00Z`, or the place of an event, such as `20250707:1234`.
- Results go to stdout, messages to stderr. An error is one line and a hint.
- `MESHLAB_DEBUG=1` shows the traceback of an error nobody foresaw.
- `mesh-checkpoint UID` is `meshlab checkpoint UID`.

| exit code | when |
| --- | --- |
| 0 | all is well |
| 1 | an error, a wrong option included |
| 2 | damage was found, or a dry run has changes to make; each command says which |
| 130, 141 | ended by Ctrl-C; whoever read its stdout has gone |
"""


def page() -> str:
    """The whole of ``docs/cli.md``."""
    commands = list(tree("meshlab", main))
    links = ", ".join(f"[{path.removeprefix('meshlab ')}](#{path.replace(' ', '-')})" for path, _ in commands)
    return "\n".join([HEAD, f"{links}\n", *(part for command in commands for part in section(*command))])


def tree(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """A command and those below it, in the order in which ``--help`` has them."""
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            yield from tree(f"{path} {name}", command.commands[name])


def section(path: str, command: click.Command) -> Iterator[str]:
    """The parts of the page on one command: usage, help, arguments, options."""
    context = click.Context(command, info_name=path)
    yield f"## {path}\n\n```text\n{' '.join([path, *command.collect_usage_pieces(context)])}\n```\n"
    yield from map(paragraph, inspect.cleandoc(command.help or "").split("\n\n"))
    options = [option for option in command.params if isinstance(option, click.Option) and not is_told_once(option)]
    if options:
        yield table(("option", "takes", "default", "what it does"), [option_row(option, context) for option in options])


def is_told_once(option: click.Option) -> bool:
    """Whether every command has this option, as ``--help``."""
    return option.name in ("help", "version")


def paragraph(text: str) -> str:
    """A paragraph of a help text: examples with what they do as a comment, other text in one line."""
    if text.startswith(EXAMPLES):
        lines = REMARK.sub(r"\1# ", inspect.cleandoc(text.removeprefix(EXAMPLES)))
        return f"```sh\n{lines}\n```\n"
    return f"{escaped(' '.join(text.split()))}\n"


def option_row(option: click.Option, context: click.Context) -> tuple[str, ...]:
    """Names, what it takes, its default, and its help."""
    told = DEFAULT.search(option.help or "")
    names = [*option.opts, *option.secondary_opts]
    what = DEFAULT.sub("", option.help or "")
    return ", ".join(f"`{name}`" for name in names), takes(option, context), default(option, told), escaped(what)


def takes(option: click.Option, context: click.Context) -> str:
    """What stands behind an option."""
    if option.is_flag:
        return ""
    kind = option.type
    if isinstance(kind, click.Choice):
        return ", ".join(f"`{choice}`" for choice in kind.choices)
    word = f"`{option.metavar}`" if option.metavar else WORDS[kind.name]
    if not isinstance(kind, click.IntRange):
        return word
    return f"{word}, {kind.min:,} or more" if kind.max is None else f"{word}, {kind.min:,} to {kind.max:,}"


def default(option: click.Option, told: re.Match[str] | None) -> str:
    """What holds without the option, told by its help where no value says it."""
    if told:
        return escaped(told[1])
    if option.required:
        return f"required, or `${option.envvar}`" if option.envvar else "required"
    if isinstance(option.show_default, str):
        return option.show_default
    if not option.show_default or option.default is None:
        return ""
    if option.is_flag:
        return f"`{(option.opts if option.default else option.secondary_opts)[0]}`"
    return f"`{option.default}`"


def escaped(text: str) -> str:
    """Text in which Markdown finds no mark-up of its own."""
    return re.sub(r"([*<>|])", r"\\\1", text)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Rows as a table."""
    lines: list[Any] = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(REPOSITORY))
