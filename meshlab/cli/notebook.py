"""Executing a notebook: HTML, and its first figure as PNG."""

from __future__ import annotations

import ast
import base64
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from meshlab.errors import MeshlabError, NotFound, storage_errors

CELL_TIMEOUT = 600
"""Seconds one cell may take."""

LOOK = "open it with 'meshlab lab' and run it cell by cell"

_VIEW = "application/vnd.jupyter.widget-view+json"
_PARAMETERS, _INJECTED = "parameters", "injected-parameters"
"""The tags papermill uses: of the cell with defaults, and of the one with what was given."""


class Rendered(NamedTuple):
    """The files an executed notebook left; ``figure`` is None when it drew none."""

    html: Path
    figure: Path | None


def render_notebook(
    source: Path, folder: Path, *, store: Path | None = None, parameters: Mapping[str, Any] | None = None
) -> Rendered:
    """Run a notebook where it stands and write the result, as HTML and PNG, into a folder.

    The notebook sees ``store`` as $MESH_STORE, and ``parameters`` in place of the
    defaults in its parameters cell; its own file is not changed.  Raises
    ``MeshlabError`` when a cell fails or there is no such parameter.
    """
    notebook = execute(source, {"MESH_STORE": str(store.resolve())} if store else {}, parameters or {})
    html, figure = folder / f"{source.stem}.html", folder / f"{source.stem}.png"
    with storage_errors("write", html):
        folder.mkdir(parents=True, exist_ok=True)
        html.write_text(_as_html(notebook), encoding="utf-8")
        png = next(_figures(notebook), None)
        if png is None:
            return Rendered(html, None)
        figure.write_bytes(png)
    return Rendered(html, figure)


def execute(source: Path, environment: Mapping[str, str], parameters: Mapping[str, Any]) -> Any:
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
    if parameters:
        _inject(notebook, source, parameters)
    try:
        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            store_widget_state=False,
            resources={"metadata": {"path": str(source.parent)}},
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )
        return client.execute(env=env)
    except CellExecutionError as error:
        raise MeshlabError(f"{source} fails: {error.ename}: {error.evalue}", hint=LOOK) from None
    except (CellTimeoutError, DeadKernelError) as error:
        raise MeshlabError(f"{source} does not end well: {error}", hint=LOOK) from None


def _inject(notebook: Any, source: Path, parameters: Mapping[str, Any]) -> None:
    """Put a cell that sets the parameters behind the one that has their defaults, as papermill does."""
    from nbformat.v4 import new_code_cell

    tagged = [at for at, cell in enumerate(notebook.cells) if _PARAMETERS in cell.metadata.get("tags", ())]
    known = _assigned(notebook.cells[tagged[0]].source) if tagged else []
    for name in parameters:
        if name not in known:
            hint = f"it takes {', '.join(known)}" if known else "it has no cell with the tag 'parameters'"
            raise MeshlabError(f"{source.name} has no parameter {name!r}", hint=hint)
    lines = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    notebook.cells.insert(tagged[0] + 1, new_code_cell(lines, metadata={"tags": [_INJECTED]}))


def _assigned(code: str) -> list[str]:
    """The names a cell sets."""
    targets = (target for node in ast.parse(code).body if isinstance(node, ast.Assign) for target in node.targets)
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _as_html(notebook: Any) -> str:
    """The page; of a widget it has the picture, for there is no kernel behind a page."""
    from nbconvert import HTMLExporter

    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(_VIEW, None)
    body, _ = HTMLExporter().from_notebook_node(notebook)
    return str(body)


def _figures(notebook: Any) -> Iterator[bytes]:
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            png = output.get("data", {}).get("image/png")
            if png:
                yield base64.b64decode(png)
