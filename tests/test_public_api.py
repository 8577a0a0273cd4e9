"""The front door: light to open, small, and documented."""

import inspect
import json
import subprocess
import sys

import pytest

import meshlab

HEAVY = ["pyarrow", "pandas", "polars", "duckdb", "matplotlib", "ipywidgets", "IPython", "tqdm", "click"]
PUBLIC = [name for name in dir(meshlab) if not name.startswith("_") and not inspect.ismodule(getattr(meshlab, name))]


def test_import_loads_no_heavy_library():
    code = f"import json, sys, meshlab; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert json.loads(loaded) == []


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented(name):
    assert inspect.getdoc(getattr(meshlab, name)), f"meshlab.{name} has no docstring"
