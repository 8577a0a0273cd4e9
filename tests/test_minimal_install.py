"""The core needs none of its extras; ``make minimal`` proves the same on a real installation."""

import subprocess
import sys

import pytest

from tests import minimal

JOB = [sys.executable, minimal.__file__]


def run(*arguments, folder):
    return subprocess.run([*JOB, *arguments], cwd=folder, capture_output=True, text=True)


def test_the_core_works_and_names_the_extra_that_is_missing_when_all_else_is_hidden(tmp_path):
    done = run("--hide", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the core works without extras\n"


def test_the_job_refuses_an_environment_that_has_extras(tmp_path):
    done = run(folder=tmp_path)
    assert done.returncode == 1
    assert "not a minimal environment" in done.stderr


def test_every_extra_that_a_user_installs_is_tried():
    project = minimal.tomllib.loads((minimal.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"]) - {"dev"}
    assert set(minimal.REFUSED.values()) == set(minimal.EXTRAS) == extras


def test_what_the_core_needs_is_followed_to_the_end():
    core = minimal.needed()
    assert {"meshlab", "ipywidgets", "ipython", "traitlets", "contourpy"} <= core
    assert not core & {"jupyterlab", "starlette", "obstore", "dask", "pytest"}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0, "meshlab: error: x is not installed\nhint: pip install 'meshlab[s3]'\n"),
        (1, "meshlab: error: x is not installed\nhint: look around\n"),
        (1, "Traceback (most recent call last):\nModuleNotFoundError: No module named 'obstore'\n"),
    ],
)
def test_a_twin_of_a_refusal_that_does_not_name_the_extra_is_found(code, said):
    with pytest.raises(AssertionError):
        minimal.check_refusal(code, said, "s3")
