"""docs/cli.md is what the commands say of themselves, and what they say is complete."""

import inspect
import os
import re
import shlex
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import click
import pytest

from meshlab.cli import main

REPOSITORY = Path(__file__).resolve().parents[1]
_SPEC = spec_from_file_location("reference", REPOSITORY / "docs" / "cli.py")
reference = module_from_spec(_SPEC)
_SPEC.loader.exec_module(reference)

COMMANDS = dict(reference.tree("meshlab", main))


def missing(command):
    """What a command does not say of itself."""
    text = inspect.cleandoc(command.help or "")
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.help:
            yield f"help of {parameter.opts[0]}"
        if isinstance(parameter, click.Argument):
            name = re.search(r"[A-Z]\w+", parameter.make_metavar(click.Context(command)))[0]
            if name not in text:
                yield f"a word on {name}"
    if reference.EXAMPLES not in text:
        yield "an example"


def examples():
    """The lines of all help texts that call meshlab, without remarks and without what stands before a pipe."""
    for command in COMMANDS.values():
        for block in inspect.cleandoc(command.help or "").split("\n\n"):
            if block.startswith(reference.EXAMPLES):
                lines = [re.split(r" {3,}\b", line.strip())[0] for line in block.splitlines()[1:]]
                yield from (part.strip() for line in lines for part in line.split(" | ") if "meshlab" in part[:10])


def parse(line):
    """Read a call of meshlab as far as its options and arguments; nothing is run."""
    command, words = main, shlex.split(line)[1:]
    words = words[2:] if words[0] == "--store" else words
    while isinstance(command, click.Group):
        command, words = command.commands[words[0]], words[1:]
    command.parse_args(click.Context(command), words)


def test_the_reference_is_what_the_commands_say_today():
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run python docs/cli.py"


def test_the_reference_does_not_depend_on_the_machine(monkeypatch, tmp_path):
    before = reference.page()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("MESH_STORE", str(tmp_path))
    monkeypatch.setattr(os, "cpu_count", lambda: 99)
    monkeypatch.chdir(tmp_path)
    assert reference.page() == before
    assert str(REPOSITORY.parent) not in before


@pytest.mark.parametrize("path", [path for path in COMMANDS if path != "meshlab"])
def test_every_command_tells_its_options_and_arguments_and_gives_an_example(path):
    assert list(missing(COMMANDS[path])) == []


def test_a_twin_that_tells_nothing_is_found():
    twin = click.Command("twin", params=[click.Option(["--dark"]), click.Argument(["uid"])], help="Do.")
    assert list(missing(twin)) == ["help of --dark", "a word on UID", "an example"]
    assert "`--dark`" in "".join(reference.section("meshlab twin", twin))


@pytest.mark.parametrize("line", sorted(set(examples())))
def test_the_examples_are_calls_that_the_commands_take(line, monkeypatch):
    monkeypatch.setenv("MESH_REMOTE", "s3://backups/mesh")
    parse(line)


def test_an_example_with_an_option_that_is_gone_is_found():
    with pytest.raises(click.UsageError, match="--daily"):
        parse("meshlab stats ann --daily")
