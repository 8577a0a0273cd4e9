"""``meshlab lab``: JupyterLab on the notebooks, in a folder of the user's."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from meshlab.cli import workbench
from meshlab.cli.output import Settings, flush, say
from meshlab.errors import NotFound, StorageError
from meshlab.wording import counted

FIRST = "/lab/tree/notebooks/00_tour.ipynb"


@click.command("lab")
@click.argument("folder", required=False, default=Path("meshlab-lab"), type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(1, 65535), default=8888, show_default=True, help="The port to try first.")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open a browser window.")
@click.argument("options", metavar="[-- OPTIONS]", nargs=-1)
@click.pass_obj
def command(settings: Settings, folder: Path, port: int, browser: bool, options: tuple[str, ...]) -> None:
    """Copy the notebooks to a folder of yours and open JupyterLab there.

    FOLDER is made when it does not exist  [default: meshlab-lab]; with the notebooks come
    the samples and documents they refer to.  Files in it that differ from those that come
    with meshlab are yours: they stay, unless you say otherwise.  Lab listens on this
    machine only (127.0.0.1).  Notebooks see the store given by --store as $MESH_STORE.
    OPTIONS behind -- go to Lab: as root, in a container, it takes no less than
    --allow-root.

    \b
      meshlab lab my-lab -- --allow-root
    """
    if str(folder).startswith("-"):
        raise click.UsageError("name a folder; options of Lab stand behind it: meshlab lab meshlab-lab -- --allow-root")
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is no directory", hint="name a folder, which need not exist")
    if find_spec("jupyterlab") is None:
        raise NotFound("JupyterLab is not installed", hint="pip install 'meshlab[lab]'")
    _fill(folder)
    if settings.store:
        os.environ["MESH_STORE"] = os.path.abspath(settings.store)
    if hasattr(os, "geteuid") and os.geteuid() == 0 and "--allow-root" not in options:
        raise click.UsageError("JupyterLab refuses to run as root: meshlab lab FOLDER -- --allow-root lets it")
    arguments = ["--ip=127.0.0.1", f"--port={port}", f"--notebook-dir={folder}", f"--LabApp.default_url={FIRST}"]
    arguments += [] if browser else ["--no-browser"]
    flush()
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *arguments, *options])


def _fill(folder: Path) -> None:
    """Copy what is missing; what differs only when the user, asked, says so."""
    bench = workbench.look(folder)
    workbench.copy(bench.new, folder)
    if bench.new:
        say(f"copied {counted(len(bench.new), 'file')} to {folder}")
    if not bench.differing:
        return
    names = [os.path.relpath(target, folder) for _, target in bench.differing]
    more = f" and {len(names) - 6:,} more" if len(names) > 6 else ""
    listed = ", ".join(names[:6]) + more
    say(f"{counted(len(names), 'file')} in {folder} differ from those that come with meshlab: {listed}")
    if sys.stdin.isatty() and click.confirm("replace them, and lose what was changed?", default=False, err=True):
        workbench.copy(bench.differing, folder)
    else:
        say("they stay as they are")
