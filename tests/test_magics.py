"""The magics say what the methods say, in a real shell, and a mistake is two lines."""

import shutil
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


def test_a_variable_that_holds_no_store_is_told_and_a_store_is_not_lost_to_a_result(shell, store):
    shell.user_ns["result"] = 7
    with pytest.raises(UsageError, match="the variable result holds no store"):
        shell.run_line_magic("wal", "ls -s result")
    with pytest.raises(UsageError, match="the variable store holds a store"):
        shell.run_cell_magic("wal_sql", "store", "select 1 as one")
    assert shell.user_ns["store"] is store
    with pytest.raises(UsageError, match="no name for a variable"):
        shell.run_cell_magic("wal_sql", "class", "select 1 as one")
    shell.user_ns["store"] = str(SAMPLES / "store")
    assert len(shell.run_line_magic("wal", "ls")) == 6


def test_a_user_that_cannot_be_read_takes_nobody_along(shell, tmp_path, capsys):
    root = shutil.copytree(SAMPLES / "store", tmp_path / "store")
    (root / "bela" / "wal-20250701.log").unlink()
    (root / "bela" / "wal-20250701.log").mkdir()
    frame = shell.run_line_magic("wal", f"stats -s {root}")
    assert frame.index.tolist() == ["ada", "chiara", "dmitri", "esi", "farid"]
    assert "bela" in capsys.readouterr().err
    with pytest.raises(UsageError, match="bela"):
        shell.run_line_magic("wal", f"stats bela -s {root}")


def test_a_quotation_without_an_end_is_told(shell):
    with pytest.raises(UsageError, match="closing quotation"):
        shell.run_line_magic("wal", 'ls "a b')


def test_windows_are_told_in_words(shell, store):
    frame = shell.run_line_magic("wal", "windows bela")
    assert frame.loc["bela", ["start", "end", "hole_after"]].tolist() == ["the beginning", "now", ""]


def test_loading_makes_the_accessor_known(shell):
    load(shell)
    assert hasattr(pd.DataFrame, "wal")
