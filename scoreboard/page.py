"""What the board says, as a table and as ``docs/scoreboard.md``."""

from __future__ import annotations

from collections.abc import Sequence

from scoreboard.board import EVERY, Result

HEAD = ("row", "promise", "rounds", "seed", "seconds", "failures", "broken twin", "it fails", "verdict")
ABOUT = (
    "# Scoreboard\n\n"
    "What the log promises, tried with faults. Each row is a check with a count and a seed, and has a *control*: "
    "the same check over a twin that is broken on purpose, which has to fail. A check that a broken twin passes "
    "proves nothing.\n\n"
)
LEGEND = (
    "\n- *rounds*: how often the promise was tried: kills, power cuts, faults at a file operation, cuts, bits, "
    "events, requests, steps of a history. A round of *append* to *push* breaks an action off at one file "
    "operation, by a power cut or an error, looks, breaks the recovery off too, looks, and lets the next one end.\n"
    "- *seed*: of the first process; a row that is spread over some gives each the next seed.\n"
    "- *seconds*: by the clock, over all processes of the row.\n"
    "- *it fails*: the round at which the control failed; it ends there.\n"
    "- *verdict*: `holds` when no round failed and the control did.\n\n"
    "Stores stand on a file system in memory (`/dev/shm`) where the machine has one with room. That is honest: a "
    "SIGKILL takes nothing from the page cache, so a real disk would show no more, and power fails on a simulated disk "
    "that forgets what was not synced.\n\n"
    "`python -m scoreboard --only NAME --seed N` runs one row again, `--scale 0.1` a tenth of each count, "
    "`--quick` what `make test` runs. The checks are in `scoreboard/`, one module each.\n"
)
FOUND = (
    "\n## What it has found\n\n"
    "- A torn end of an earlier day, and a crash in the very write that was to name it as torn, left that day "
    "damaged for good: the name counted although its frame was torn. Found by *power*, 2 in 5,000; mended in "
    "`meshlab/wal/recovery.py`, kept as a test in `tests/wal/test_crash.py`.\n"
    "- A folder as a bucket relied on directories and objects whose names a failed put had left unsynced: a loss of "
    "power could take what a later push had acknowledged. Found by *push*; mended in `meshlab/remote/bucket.py`, "
    "kept as two tests in `tests/remote/test_bucket.py`.\n"
    "- A `wal.lock` that the disk took only in part was a `ValueError` instead of an error of the disk. Found by "
    "*append*; mended in `meshlab/wal/lock.py`, kept as a test in `tests/wal/test_poison.py`.\n"
    "- Behind a failed sync everything but an append is refused, and the hint did not say that an append is what mends "
    "it. Found by *rollback*, whose check had expected to go on; the hint says so now, and the check appends first.\n"
)


def cells(result: Result) -> list[str]:
    """A result as a row of the table."""
    control = f"at round {result.control.checked:,}" if result.control.failures else "never"
    return [
        result.row.name,
        result.row.promise,
        f"{result.outcome.checked:,}",
        str(result.seed),
        f"{result.seconds:,.0f}",
        f"{len(result.outcome.failures):,}",
        result.row.twin,
        control,
        result.verdict,
    ]


def table(rows: Sequence[Sequence[str]], head: Sequence[str] = HEAD) -> str:
    """A Markdown table.

    >>> print(table([["a", "b"]], ["one", "two"]))
    | one | two |
    | --- | --- |
    | a | b |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def page(results: Sequence[Result], command: str, remark: str) -> str:
    """The whole document."""
    told = [f"- *{result.row.name}*: {result.outcome.detail}." for result in results if result.outcome.detail]
    failed = [f"- *{one.row.name}*: {failure}" for one in results for failure in one.outcome.failures[:5]]
    parts = [ABOUT, f"`{command}`: {remark}\n\n", table([cells(result) for result in results]), "\n", LEGEND, FOUND]
    parts += ["\n## What was in it\n\n", "\n".join(told), "\n"]
    if failed:
        parts += ["\n## What failed\n\n", "\n".join(failed), "\n"]
    return "".join(parts)


def shortfall(results: Sequence[Result]) -> list[str]:
    """Which rows were run with fewer rounds than the full board."""
    short = []
    for result in results:
        checked, notes = result.outcome.checked, result.outcome.notes
        full = notes["faults possible"] if result.row.count == EVERY else result.row.count
        if checked < full * 0.99:
            short.append(f"{result.row.name} {checked:,} of {full:,}")
    return short
