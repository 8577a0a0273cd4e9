"""``meshlab lab``: JupyterLab on the notebooks."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from meshlab.cli.output import Settings, flush
from meshlab.cli.sample import repository_folder
from meshlab.errors import NotFound


@click.command("lab")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(1, 65535), default=8888, show_default=True, help="The port to try first.")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open a browser window.")
@click.pass_obj
def command(settings: Settings, folder: Path | None, port: int, browser: bool) -> None:
    """Open JupyterLab on the notebooks.

    FOLDER is where they are, else those that come with meshlab.  It listens on this
    machine only (127.0.0.1).  Notebooks see the store given by --store as $MESH_STORE.
    """
    folder = folder or repository_folder("notebooks")
    if not folder.is_dir():
        raise NotFound(f"{folder} is no directory", hint="name a folder with notebooks")
    if find_spec("jupyterlab") is None:
        raise NotFound("JupyterLab is not installed", hint="pip install 'meshlab[lab]'")
    if settings.store:
        os.environ["MESH_STORE"] = os.path.abspath(settings.store)
    arguments = ["--ip=127.0.0.1", f"--port={port}", f"--notebook-dir={folder}", *([] if browser else ["--no-browser"])]
    flush()
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *arguments])
