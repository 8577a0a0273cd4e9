"""The front door: light to open, small, and documented with examples that run."""

import ast
import doctest
import inspect
import json
import os
import subprocess
import sys
import types
from importlib import import_module
from pathlib import Path

import pytest

import meshlab

PACKAGE = Path(meshlab.__file__).parent
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
KITS = ["meshlab.testing", "meshlab.widgets"]
MAX_IMPORT_SECONDS = 0.150
FRONTS = ["meshlab.fleet.fleet.Fleet", "meshlab.fleet.crew.Crew", "meshlab.remote.remote.Remote"]
"""Objects that the front door hands out, which no ``__all__`` names."""


# Light and small


def test_import_loads_no_heavy_library():
    code = f"import json, sys, meshlab; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert json.loads(loaded) == []


def processor_seconds(code):
    """What a fresh Python needs to run some code; it counts no time in which others had the processor."""
    with subprocess.Popen([sys.executable, "-c", code]) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_utime + usage.ru_stime


def import_seconds(module, rounds=5):
    """What an import costs beyond Python itself: the least of some rounds, which noise can only make more."""
    bare, loaded = ([processor_seconds(code) for _ in range(rounds)] for code in ("pass", f"import {module}"))
    return min(loaded) - min(bare)


def test_import_takes_less_than_150_ms():
    assert import_seconds("meshlab") < MAX_IMPORT_SECONDS


def test_a_twin_that_loads_pandas_takes_longer():
    assert import_seconds("meshlab, pandas", rounds=1) > MAX_IMPORT_SECONDS


def test_the_public_names_are_these():
    assert sorted(meshlab.__all__) == PUBLIC
    assert dir(meshlab) == PUBLIC


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'closed'"):
        _ = meshlab.closed


# Documented


def undocumented(tree, inherited=frozenset()):
    """Public classes, functions and methods without a docstring, but for methods that a base documents."""
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.name[0] != "_":
            if not ast.get_docstring(node) and node.name not in inherited:
                yield node.name
            if isinstance(node, ast.ClassDef):
                bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
                told = {method for base, method in METHODS if base in bases}
                yield from (f"{node.name}.{name}" for name in undocumented(node, told))


def _documented_methods(tree):
    """The documented methods of a module, each with its class."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef) and ast.get_docstring(part)]
            yield from ((node.name, method.name) for method in methods)


MODULES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
METHODS = {pair for tree in MODULES.values() for pair in _documented_methods(tree)}


def test_every_module_class_function_and_method_without_an_underscore_has_a_docstring():
    bare = [str(path.relative_to(PACKAGE)) for path, tree in MODULES.items() if not ast.get_docstring(tree)]
    bare += [f"{path.relative_to(PACKAGE)}: {name}" for path, tree in MODULES.items() for name in undocumented(tree)]
    assert not bare, f"no docstring: {bare}"


def test_a_twin_without_a_docstring_is_found():
    twin = ast.parse('class Told:\n    """Told."""\n    def bare(self): ...\n    def _own(self): ...\ndef bare(): ...')
    assert list(undocumented(twin)) == ["Told.bare", "bare"]


# With examples


def parts_of(kind):
    """The public methods and properties a class defines itself, by their names."""
    found = {name: inspect.unwrap(getattr(part, "fget", part)) for name, part in vars(kind).items() if name[0] != "_"}
    return {f"{kind.__name__}.{name}": part for name, part in found.items() if callable(part)}


def examples(thing):
    """The source of the examples in a docstring that are run."""
    found = doctest.DocTestParser().get_examples(thing.__doc__ or "")
    return [example.source for example in found if not example.options.get(doctest.SKIP)]


def has_example(thing, *, of_module):
    """Whether a docstring has an example; of some, one in the docstring of their module will do."""
    told = examples(sys.modules[thing.__module__]) if of_module else []
    return bool(examples(thing)) or any(thing.__name__ in source for source in told)


def without_example(things, *, of_module=False):
    return sorted(name for name, thing in things.items() if not has_example(thing, of_module=of_module))


def test_every_public_name_has_an_example_that_runs():
    things = {name: getattr(meshlab, name) for name in PUBLIC}
    union = things.pop("MeshEvent")
    assert isinstance(union, types.UnionType)
    assert set(union.__args__) <= set(things.values())  # each is told by itself
    assert without_example(things) == []


@pytest.mark.parametrize("kind", [meshlab.Store, meshlab.UserStore], ids=lambda kind: kind.__name__)
def test_every_method_of_the_front_door_has_an_example_that_runs(kind):
    assert without_example(parts_of(kind)) == []


@pytest.mark.parametrize("kit", KITS)
def test_every_name_of_a_kit_has_an_example_that_runs(kit):
    module = import_module(kit)
    assert without_example({name: getattr(module, name) for name in module.__all__}, of_module=True) == []


@pytest.mark.parametrize("front", FRONTS)
def test_the_objects_the_front_door_hands_out_have_an_example_in_their_module(front):
    module, _, name = front.rpartition(".")
    assert without_example({name: getattr(import_module(module), name)}, of_module=True) == []


def test_twins_without_an_example_are_found():
    class Twin:
        def told(self):
            """Told.

            >>> 1 + 1
            2
            """

        def skipped(self):
            """Not run.

            >>> 1 + 1  # doctest: +SKIP
            3
            """

        @property
        def bare(self):
            """No example."""

    assert without_example(parts_of(Twin)) == ["Twin.bare", "Twin.skipped"]
    assert without_example({"open": meshlab.open, "twin": lambda: None}) == ["twin"]


def test_the_examples_are_among_those_that_are_run(pytestconfig):
    assert "--doctest-modules" in pytestconfig.getini("addopts")
    assert "meshlab" in pytestconfig.getini("testpaths")
