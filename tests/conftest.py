"""What every test run shares: no ambient settings, reproducible examples, no silent skips."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

SANITIZE = Path(__file__).with_name("sanitize.cfg")
REQUIRE_ALL = os.environ.get("MESHLAB_REQUIRE_ALL") == "1"

os.environ.pop("MESH_STORE", None)
os.environ["MPLBACKEND"] = "agg"

settings.register_profile("meshlab", derandomize=True, print_blob=True, deadline=None, database=None)
settings.load_profile("meshlab")


def pytest_configure(config):
    # nbval looks a relative path up in the working directory, which differs in xdist workers.
    config.option.nbval_sanitize_with = str(SANITIZE)


def pytest_report_header():
    return "hypothesis: derandomized" + (", MESHLAB_REQUIRE_ALL: a skip is a failure" if REQUIRE_ALL else "")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return _refuse_skip((yield), item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _refuse_skip((yield), collector.nodeid)


def _refuse_skip(report, nodeid):
    if REQUIRE_ALL and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{nodeid} was skipped, which MESHLAB_REQUIRE_ALL forbids: {report.longrepr}"
    return report


@pytest.fixture
def keeps_priority(monkeypatch):
    """Commands that give way to others do not lower this process, in which all tests behind would run."""
    for name in ("checkpoint", "vacuum", "sync.prove", "sync.push"):
        monkeypatch.setattr(f"meshlab.cli.{name}.give_way", lambda: None)
