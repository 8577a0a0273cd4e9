"""The page of the benchmarks says what was measured, and nothing else."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks import page, results
from benchmarks.contenders import DESCRIPTIONS
from benchmarks.report import TABLE_END, TABLE_START

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"


@pytest.fixture(scope="module")
def kept():
    return results.read(DOCS / "benchmarks.json")


def test_every_piece_of_work_was_measured(kept):
    assert list(kept.results) == list(page.TITLES)
    assert all(result.rows for result in kept.results.values())


def test_the_page_is_what_was_measured(kept):
    assert (DOCS / "benchmarks.md").read_text("utf-8") == page.page(kept), "run python -m benchmarks"


def test_the_readme_has_its_headlines_and_every_floor_that_was_missed(kept):
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    shown = readme.partition(TABLE_START)[2].partition(TABLE_END)[0].strip()
    assert shown == page.short_table(kept), "run python -m benchmarks --readme README.md"
    missed = [row for result in kept.results.values() for row in result.rows if "below" in row.verdict]
    assert shown.count("**below floor**") == len(missed)


def test_a_figure_changed_by_hand_is_seen(kept):
    name, result = next(iter(kept.results.items()))
    better = dataclasses.replace(result, rows=[dataclasses.replace(result.rows[0], value=99.0), *result.rows[1:]])
    assert page.page(dataclasses.replace(kept, results={**kept.results, name: better})) != page.page(kept)


def test_what_is_kept_reads_back_as_it_was(kept, tmp_path):
    results.write(tmp_path / "kept.json", kept)
    assert results.read(tmp_path / "kept.json") == kept


@pytest.mark.parametrize("name", ["DuckDB", "LMDB", "SQLite", "pyarrow.json", "polars.read_ndjson", "pandas.read_json"])
def test_every_contender_stands_beside_us_and_is_described(kept, name):
    assert any(row.instead.startswith(name) for result in kept.results.values() for row in result.rows)
    assert any(name in contender for contender, *_ in DESCRIPTIONS)
