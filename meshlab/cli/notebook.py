"""Executing a notebook: HTML, and its first figure as PNG."""

from __future__ import annotations

import ast
import asyncio
import base64
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

from meshlab.errors import MeshlabError, NotFound, StorageError, storage_errors

CELL_TIMEOUT = 600
"""Seconds one cell may take."""

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
    defaults in its parameters cell; its own file is not changed.  Raises ``MeshlabError``
    when there is no such parameter, and when a cell fails: then the page shows how far it
    went.
    """
    notebook = _read(source)
    if parameters:
        _inject(notebook, source, parameters)
    _make(folder)
    html, figure = folder / f"{source.stem}.html", folder / f"{source.stem}.png"
    failure = _execute(notebook, source, {"MESH_STORE": str(store.resolve())} if store else {})
    png = next(_figures(notebook), None)
    with storage_errors("write", html):
        html.write_text(_as_html(notebook, source.stem), encoding="utf-8")
        figure.unlink(missing_ok=True)
        if png is not None:
            figure.write_bytes(png)
    if failure:
        raise MeshlabError(f"{source} {failure}", hint=f"{html} shows how far it went")
    return Rendered(html, None if png is None else figure)


def _make(folder: Path) -> None:
    """Make the folder of the results, before a run that may take minutes."""
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is no directory", hint="name a folder, which need not exist")
    with storage_errors("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass


def _read(source: Path) -> Any:
    """The notebook of a file.  Raises ``MeshlabError`` when it is none, ``NotFound`` without the libraries."""
    try:
        import nbformat
    except ImportError as error:
        raise NotFound(f"notebooks cannot run: {error}", hint="pip install 'meshlab[lab]'") from None
    try:
        with storage_errors("read", source):
            return nbformat.read(source, as_version=4)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise MeshlabError(f"{source} is no notebook: {first_line(error)}", hint="open it with 'meshlab lab'") from None


def _execute(notebook: Any, source: Path, environment: Mapping[str, str]) -> str:
    """Run all cells, ``environment`` added to this one; returns what went wrong, empty when nothing did."""
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        store_widget_state=False,
        resources={"metadata": {"path": str(source.parent)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    )
    try:
        _run(client, {**_QUIET, **os.environ, **environment})
    except CellExecutionError as error:
        return f"fails: {error.ename}: {first_line(error.evalue)}"
    except (CellTimeoutError, DeadKernelError) as error:
        return f"does not end well: {first_line(error)}"
    except NoSuchKernel as error:
        return f"needs a kernel that is not here: {error.name}"
    return ""


def _run(client: Any, env: Mapping[str, str]) -> None:
    """Run a client in a thread, where it takes no signals: Ctrl-C kills the kernel, and is raised."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: asyncio.run(client.async_execute(env=env)))
        try:
            running.result()
        except KeyboardInterrupt:
            provisioner = getattr(client.km, "provisioner", None)
            if provisioner is not None and provisioner.process is not None:
                provisioner.process.kill()
            raise


_QUIET = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "TQDM_DISABLE": "1"}
"""Without the first the kernel warns about frozen modules; a page needs no progress bars."""


def first_line(error: object) -> str:
    """What an error says, without what may follow."""
    return next(iter(str(error).splitlines()), "")


def _inject(notebook: Any, source: Path, parameters: Mapping[str, Any]) -> None:
    """Put a cell that sets the parameters behind the one that has their defaults, as papermill does."""
    from nbformat.v4 import new_code_cell

    tagged = [at for at, cell in enumerate(notebook.cells) if _PARAMETERS in cell.metadata.get("tags", ())]
    known = _assigned(notebook.cells[tagged[0]].source, source) if tagged else []
    for name in parameters:
        if name not in known:
            untagged = "it sets none in its cell 'parameters'" if tagged else "it has no cell with the tag 'parameters'"
            hint = f"it takes {', '.join(known)}" if known else untagged
            raise MeshlabError(f"{source.name} has no parameter {name!r}", hint=hint)
    lines = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    notebook.cells.insert(tagged[0] + 1, new_code_cell(lines, metadata={"tags": [_INJECTED]}))


def _assigned(code: str, source: Path) -> list[str]:
    """The names a cell sets."""
    try:
        body = ast.parse(code).body
    except SyntaxError as error:
        hint = "it may hold nothing but 'name = value'"
        raise MeshlabError(f"the parameters of {source} cannot be read: {error.msg}", hint=hint) from None
    found = (node for part in body if isinstance(part, ast.Assign | ast.AnnAssign) for node in ast.walk(part))
    return [node.id for node in found if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


_SCRIPTS = ("jquery_url", "mathjax_url", "mermaid_js_url", "mermaid_layout_elk_js_url", "require_js_url")
"""What a page would load from elsewhere, and none of ours needs."""


def _as_html(notebook: Any, title: str) -> str:
    """The page, whole in itself; of a widget it has the picture, for there is no kernel behind a page."""
    from nbconvert import HTMLExporter

    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(_VIEW, None)
    exporter = HTMLExporter(**dict.fromkeys(_SCRIPTS, ""))
    body, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})
    return str(body)


def _figures(notebook: Any) -> Iterator[bytes]:
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            png = output.get("data", {}).get("image/png")
            if png:
                yield base64.b64decode(png)
