"""The front door: light to open, small, and documented."""

import inspect
import json
import subprocess
import sys

import pytest

import meshlab

HEAVY = ["pyarrow", "pandas", "polars", "duckdb", "matplotlib", "ipywidgets", "IPython", "tqdm", "click"]
PUBLIC = [
    "ComfortMetrics",
    "Delete",
    "EmotionalSignature",
    "Insert",
    "MeshEvent",
    "MeshlabError",
    "Other",
    "SolitonMemory",
    "SolitonVault",
    "Store",
    "Update",
    "UserStore",
    "append_to_wal",
    "open",
    "replay_wal",
    "store_memory",
    "user_root",
]


def test_import_loads_no_heavy_library():
    code = f"import json, sys, meshlab; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert json.loads(loaded) == []


def test_the_public_names_are_these():
    assert sorted(meshlab.__all__) == PUBLIC
    assert dir(meshlab) == PUBLIC


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'closed'"):
        _ = meshlab.closed


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented(name):
    assert inspect.getdoc(getattr(meshlab, name)), f"meshlab.{name} has no docstring"
