"""The house stands in one direction: a module imports only from layers below its own."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "meshlab"
LAYERS = [
    {"errors"},
    {"times", "jsontext", "records", "wording", "bars"},
    {"dialects", "markup"},
    {"events"},
    {"wal"},
    {"tables"},
    {"snapshot"},
    {"timeline"},
    {"plan"},
    {"replay"},
    {"diff", "history"},
    {"store"},
    {"phase1"},
    {"vault"},
    {"growth", "migrate", "remote"},
    {"service", "fleet", "plots"},
    {"widgets", "accessor"},
    {"magics"},
    {"testing"},
    {"cli"},
]
LATE = {("store", "vault"), ("store", "growth"), ("store", "remote"), ("store", "fleet"), ("growth", "plots")}
"""Doors to a later room: imported inside a function, when somebody goes through."""

RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FREE_OF_TABLES = {"pyarrow", "pandas", "polars", "duckdb"}
MAX_LINES = 450

MODULES = sorted(PACKAGE.rglob("*.py"))


def layer_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """Dotted names of all a module imports, also inside functions."""
    package = ["meshlab", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            yield from (".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names)


def house_imports_of(path):
    """The meshlab layers a module imports; the front door itself is 'meshlab'."""
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "meshlab":
            yield parts[1] if len(parts) > 1 and parts[1] in RANK else "meshlab"


def name_of(path):
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_imports_only_from_layers_below(path):
    layer = layer_of(path)
    if layer in ("__init__", "__main__"):
        return
    assert layer in RANK, f"{name_of(path)} is in no layer: give it a place in LAYERS"
    above = {name for name in house_imports_of(path) if not _is_below(name, layer)}
    assert not above, f"{name_of(path)} is in layer {layer!r} and imports {sorted(above)}"


def _is_below(imported, layer):
    if imported == "meshlab":
        return RANK[layer] >= RANK["testing"]
    return imported == layer or RANK[imported] < RANK[layer] or (layer, imported) in LATE


@pytest.mark.parametrize("path", [p for p in MODULES if RANK.get(layer_of(p), 99) <= RANK["wal"]], ids=name_of)
def test_the_log_needs_no_table_library(path):
    assert not FREE_OF_TABLES & {name.split(".")[0] for name in imports_of(path)}


@pytest.mark.parametrize(("one", "other"), [("reader", "writer"), ("writer", "reader")])
def test_reader_and_writer_share_the_format_and_not_each_other(one, other):
    modules = {".".join(name.split(".")[:3]) for name in imports_of(PACKAGE / "wal" / f"{one}.py")}
    assert f"meshlab.wal.{other}" not in modules


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_is_too_long_to_read(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def private_imports(tree):
    """Names with an underscore that are imported from a module, or asked of one that was imported."""
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names if _is_private(alias.name))
            modules |= {alias.asname or alias.name for alias in node.names if (node.module or "").startswith("meshlab")}
    asked = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name))
    for node in asked:
        if _is_private(node.attr) and node.value.id in modules and node.value.id.islower():
            yield f"{node.value.id}.{node.attr}"


def _is_private(name):
    return name.startswith("_") and not name.endswith("__")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_takes_a_private_name_of_another(path):
    assert list(private_imports(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_a_twin_that_takes_private_names_is_found():
    twin = "from meshlab.snapshot import layers\nfrom meshlab.wal.commit import _link\nlayers._verified.clear()"
    assert list(private_imports(ast.parse(twin))) == ["meshlab.wal.commit._link", "layers._verified"]
