"""The core without its extras: ``python tests/minimal.py`` tries it where nothing else is installed.

``make minimal`` makes such an environment.  ``--hide`` does without one: modules of all
distributions that the core does not need are not found, here and in every command.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
EXTRAS = {"fleet": "distributed", "lab": "jupyterlab", "s3": "obstore", "server": "starlette"}
"""Of each extra a module that only it brings."""

REFUSED = {
    "serve": "server",
    "lab folder --no-browser": "lab",
    f"notebooks run {REPOSITORY / 'notebooks' / '00_tour.ipynb'}": "lab",
    "sync push --remote s3://bucket/prefix": "s3",
    "verify --dask tcp://127.0.0.1:9": "fleet",
}
"""Calls that need an extra."""

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "somewhere"}


# Hiding


class CoreOnly(PathFinder):
    """Finds no module of a distribution that the core does not need."""

    hidden: frozenset[str] = frozenset()

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        """The module, unless it is hidden."""
        return None if fullname.partition(".")[0] in cls.hidden else super().find_spec(fullname, path, target)


def hide() -> None:
    """Hide what the core does not need."""
    core = needed()
    owners = metadata.packages_distributions().items()
    CoreOnly.hidden = frozenset(module for module, names in owners if not core & set(map(normal, names)))
    sys.meta_path[sys.meta_path.index(PathFinder)] = CoreOnly


def needed() -> set[str]:
    """The distributions that come with the core, by what each requires."""
    from packaging.requirements import Requirement

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting, found = [*map(Requirement, project["dependencies"])], {("meshlab", "")}
    while waiting:
        wanted = waiting.pop()
        for extra in {"", *wanted.extras}:
            if (one := (normal(wanted.name), extra)) not in found:
                found.add(one)
                required = map(Requirement, metadata.requires(wanted.name) or [])
                waiting += [r for r in required if r.marker is None or r.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def normal(name: str) -> str:
    """A distribution's name in the one spelling of all there are."""
    return re.sub(r"[-_.]+", "-", name).lower()


# Trying


def use_library(folder: Path) -> None:
    """From the first append to a checkpoint, a load and a query."""
    import meshlab

    store = meshlab.open(folder / "store")
    ann = store["ann"]
    ann.append({"Insert": {"id": "m1", "amplitude": 0.5}})
    ann.append_many([{"Update": {"id": "m1", "amplitude": 0.6}}, {"Insert": {"id": "m2"}}])
    assert ann.verify(progress=False).damage == []
    assert store.events(progress=False).to_pandas()["op"].tolist() == ["insert", "update", "insert"]
    assert ann.checkpoint(progress=False).records == 2
    assert ann.state(progress=False).get("m1") == {"id": "m1", "amplitude": 0.6}
    assert store.sql("select count(*) as n from events").to_arrow().to_pylist() == [{"n": 3}]
    assert ann.vault().recall("m1")["access_count"] == 1
    assert store.remote(str(folder)).push(progress=False).users[0].status == "pushed"


def use_commands(folder: Path, program: list[str]) -> None:
    """Help, a sound log, and a refusal for every extra."""

    def call(arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **KEYS, "MESH_STORE": "store"}
        command = [*program, *arguments.split()]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    assert "Usage: meshlab" in call("--help").stdout
    verified = call("verify ann")
    assert verified.returncode == 0, verified.stderr
    assert " 4 events, " in verified.stderr and verified.stderr.endswith(" 0 rejects\n"), verified.stderr
    for arguments, extra in REFUSED.items():
        done = call(arguments)
        check_refusal(done.returncode, done.stdout + done.stderr, extra)


def check_refusal(code: int, said: str, extra: str) -> None:
    """The last words are a line on what is missing and one that names the extra; there is no traceback."""
    assert code == 1, said
    assert "Traceback" not in said, said
    error, hint = said.splitlines()[-2:]
    assert error.startswith("meshlab: error: "), said
    assert hint == f"hint: pip install 'meshlab[{extra}]'", said


def main(arguments: list[str]) -> None:
    """Try everything, or with ``--hide meshlab ...`` run one command."""
    program = [str(Path(sys.executable).with_name("meshlab"))]
    if arguments[:1] == ["--hide"]:
        hide()
        program = [sys.executable, __file__, "--hide", "meshlab"]
        if arguments[1:]:
            from meshlab.__main__ import run

            sys.argv = arguments[1:]
            run()
    there = [module for module in EXTRAS.values() if find_spec(module) is not None]
    assert not there, f"not a minimal environment: it has {', '.join(there)}"
    with tempfile.TemporaryDirectory() as folder:
        use_library(Path(folder))
        use_commands(Path(folder), program)
    print("the core works without extras")


if __name__ == "__main__":
    main(sys.argv[1:])
