"""What lies far from most days is left out and counted; what could be meant is not."""

import numpy as np

from meshlab.plots.near import near

DAYS = np.arange(20_000, 20_028)


def drawn(*days):
    found = np.concatenate(list(map(np.atleast_1d, days)))
    shown, note = near(found)
    return len(np.unique(found[shown])), note


def test_few_days_far_away_are_left_out():
    assert drawn(DAYS, 0) == (28, "1 day far away, 1970-01-01, not shown")
    assert drawn(DAYS, 0, 90_000) == (28, "2 days far away, 1970-01-01 and 2216-05-31, not shown")
    assert drawn(DAYS, 0, 1, 90_000) == (28, "3 days far away, 1970-01-01 to 2216-05-31, not shown")


def test_days_close_by_many_days_and_days_like_the_others_are_drawn():
    assert drawn(DAYS, 20_080) == (29, "")
    assert drawn(DAYS, np.arange(25_000, 25_010)) == (38, "")
    assert drawn(0, 20_000) == (2, "")
    assert drawn(np.arange(5), np.arange(20_000, 20_005)) == (10, "")


def test_no_day_is_no_trouble():
    shown, note = near(np.zeros(0, int))
    assert (len(shown), note) == (0, "")


def test_a_day_of_many_rows_counts_once():
    assert drawn(DAYS, np.zeros(100, int))[0] == 28
