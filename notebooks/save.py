"""Run notebooks and save them with their outputs: ``python notebooks/save.py [NOTEBOOK…]``.

All references come from this one tool, so two runs give the same bytes: the kernel
starts fresh in the notebook's folder, without the caller's store, and what differs
from run to run (times of execution, widget models) is not saved.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CELL_TIMEOUT = 120
"""Seconds one cell may take; the tests allow as many."""


def save(path: Path) -> None:
    """Run one notebook and write it back."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    ).execute(env=_environment())
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, path)


def _environment() -> dict[str, str]:
    """This environment without a store; without the setting the kernel warns about frozen modules."""
    kept = {name: value for name, value in os.environ.items() if name != "MESH_STORE"}
    return {**kept, "PYDEVD_DISABLE_FILE_VALIDATION": "1", "MPLBACKEND": "agg"}


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(map(str, HERE.glob("*.ipynb"))):
        save(Path(name).resolve())
