"""Executing a notebook: HTML, and its first figure as PNG."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from meshlab.errors import MeshlabError, NotFound, storage_errors

CELL_TIMEOUT = 600
"""Seconds one cell may take."""

LOOK = "open it with 'meshlab lab' and run it cell by cell"


class Rendered(NamedTuple):
    """The files an executed notebook left; ``figure`` is None when it drew none."""

    html: Path
    figure: Path | None


def render_notebook(source: Path, folder: Path, *, store: Path) -> Rendered:
    """Run a notebook where it stands and write the result, as HTML and PNG, into a folder.

    The notebook sees ``store`` as $MESH_STORE; its own file is not changed.  Raises
    ``MeshlabError`` when a cell fails.
    """
    notebook = execute(source, {"MESH_STORE": str(store.resolve())})
    html, figure = folder / f"{source.stem}.html", folder / f"{source.stem}.png"
    html.write_text(_as_html(notebook), encoding="utf-8")
    png = next(_figures(notebook), None)
    if png is None:
        return Rendered(html, None)
    figure.write_bytes(png)
    return Rendered(html, figure)


def execute(source: Path, environment: Mapping[str, str]) -> Any:
    """The notebook with the outputs of a fresh run; ``environment`` is added to this one."""
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    except ImportError as error:
        raise NotFound(f"notebooks cannot run: {error}", hint="pip install 'meshlab[lab]'") from None
    # Without the first of these the kernel warns about frozen modules.
    env = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", **os.environ, **environment}
    with storage_errors("read", source):
        notebook = nbformat.read(source, as_version=4)
    try:
        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            resources={"metadata": {"path": str(source.parent)}},
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )
        return client.execute(env=env)
    except CellExecutionError as error:
        raise MeshlabError(f"{source} fails: {error.ename}: {error.evalue}", hint=LOOK) from None
    except (CellTimeoutError, DeadKernelError) as error:
        raise MeshlabError(f"{source} does not end well: {error}", hint=LOOK) from None


def _as_html(notebook: Any) -> str:
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter().from_notebook_node(notebook)
    return str(body)


def _figures(notebook: Any) -> Iterator[bytes]:
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            png = output.get("data", {}).get("image/png")
            if png:
                yield base64.b64decode(png)
