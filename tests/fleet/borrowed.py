"""The S3 gateway of ``tests/remote``: packages of tests cannot import each other by name."""

import importlib.util
import sys
from pathlib import Path


def _beside(name):
    spec = importlib.util.spec_from_file_location(f"meshlab_tests_remote_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


FOLDER = Path(__file__).resolve().parents[1] / "remote"
gateway = _beside("gateway")
