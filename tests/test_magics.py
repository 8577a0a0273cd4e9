"""The magics say what the methods say, in a real shell, and a mistake is two lines."""

from pathlib import Path

import pandas as pd
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import meshlab
from meshlab.magics import load

SAMPLES = Path(__file__).parents[1] / "data" / "samples"


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    settings = Config({"HistoryManager": {"enabled": False}})
    shell = InteractiveShell(config=settings, ipython_dir=str(tmp_path_factory.mktemp("ipython")))
    meshlab.load_ipython_extension(shell)
    return shell


@pytest.fixture
def store(shell):
    shell.user_ns["store"] = meshlab.open(SAMPLES / "store")
    yield shell.user_ns["store"]
    shell.user_ns.pop("store", None)


def test_ls_names_the_users_without_reading_a_log(shell, store):
    frame = shell.run_line_magic("wal", "ls")
    assert frame.index.tolist() == store.users()
    assert frame.loc["ada"].to_dict() == {"days": 10, "first_day": "20250701", "last_day": "20250710", "bytes": 470_284}


def test_stats_verify_and_windows_are_those_of_the_user(shell, store):
    user = store["bela"]
    stats, verified, windows = (shell.run_line_magic("wal", f"{what} bela") for what in ("stats", "verify", "windows"))
    assert stats.loc["bela"].to_dict() == user.stats(progress=False)
    assert verified.loc["bela", "events"] == user.verify(progress=False).events
    assert windows["source"].tolist() == [window.source for window in user.windows()]


def test_a_query_is_shown_and_bound_to_a_name(shell, store):
    query = "select op, count(*) as events from events group by op order by op"
    result = shell.run_cell_magic("wal_sql", "counts -u bela", query)
    assert shell.user_ns["counts"] is result
    assert result.to_pylist() == store.sql(query, users="bela", progress=False).to_pylist()
    assert "<table" in result._repr_html_()


def test_the_store_is_a_variable_a_path_or_the_default(shell, monkeypatch):
    shell.user_ns["other"] = meshlab.open(SAMPLES / "store")
    assert len(shell.run_line_magic("wal", "ls -s other")) == 6
    assert len(shell.run_line_magic("wal", f"ls -s {SAMPLES / 'damaged' / 'bit-flip'}")) == 1
    monkeypatch.setenv("MESH_STORE", str(SAMPLES / "gateway"))
    assert len(shell.run_line_magic("wal", "ls")) == 1


@pytest.mark.parametrize(
    ("line", "told"),
    [("ls", "does not exist"), ("stats nobody -s other", "nobody"), ("prune", "invalid choice")],
)
def test_a_mistake_is_told_without_a_traceback(shell, line, told, monkeypatch, tmp_path):
    shell.user_ns["other"] = meshlab.open(SAMPLES / "store")
    monkeypatch.setenv("MESH_STORE", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=told):
        shell.run_line_magic("wal", line)


def test_a_query_that_fails_or_a_name_that_is_none_is_told(shell, store):
    with pytest.raises(UsageError, match="hint: tables"):
        shell.run_cell_magic("wal_sql", "", "select nothing from nowhere")
    with pytest.raises(UsageError, match="no name for a variable"):
        shell.run_cell_magic("wal_sql", "1x", "select 1 as one")


def test_loading_makes_the_accessor_known(shell):
    load(shell)
    assert hasattr(pd.DataFrame, "wal")
