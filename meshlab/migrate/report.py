"""Plans and rehearsals for people: one line, rows of a table, a short HTML for notebooks, a page to print.

A page stands for itself: no script, no picture, no other file.  Everything that comes from
a source or a plan file is escaped: markup, and what is not printable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from meshlab.markup import SHOWN, bullets, headline, safe, table
from meshlab.wording import counted, size_text, span_text

if TYPE_CHECKING:
    from meshlab.migrate.audit import RehearsedUser
    from meshlab.migrate.plan import Plan, PlannedUser
    from meshlab.migrate.rehearsal import Rehearsal

_NUMBER = re.compile(r"\d[\d,.]*(?: (?:[kMGTP]?B|s|m|h|d))?")


# Plans --------------------------------------------------------------------------------


def plan_verdict(plan: Plan) -> str:
    """Whether a plan can be rehearsed, and what it comes to, in one line."""
    told = (
        f"{counted(len(plan.users), 'user')}, {counted(plan.records, 'record')}, "
        f"{size_text(plan.bytes_to_read)} to read, {size_text(plan.bytes_to_write)} to write, "
        f"about {span_text(plan.seconds)}"
    )
    if plan.problems:
        return f"NOT ready, {counted(len(plan.problems), 'problem')}: {told}"
    return f"ready to be rehearsed: {told}" if plan.users else "NOT ready: no users"


def plan_rows(plan: Plan) -> list[dict[str, Any]]:
    """One row per user for a table: sizes in bytes, time in seconds."""
    return [
        {
            "uid": user.uid,
            "kind": user.kind,
            "files": len(user.inputs),
            "bytes": user.bytes_to_read,
            "records": user.records,
            "to_write": user.bytes_to_write,
            "time": user.seconds,
            "state_hash": user.state_hash,
            "notes": "; ".join(user.notes),
        }
        for user in plan.users
    ]


def plan_facts(plan: Plan) -> list[tuple[str, str]]:
    """What there is to say of a plan as a whole: names and texts."""
    facts = [
        ("plan", plan.id),
        ("made", f"{plan.created_at} by {plan.tool}"),
        ("source", plan.source),
        ("store", plan.store),
        ("to read", f"{size_text(plan.bytes_to_read)} ({plan.bytes_to_read:,} bytes)"),
        ("to write", f"{size_text(plan.bytes_to_write)} ({plan.bytes_to_write:,} bytes), estimated"),
        ("disk needed", f"{size_text(plan.free_needed)}; free: {size_text(plan.free)}"),
        ("time", f"about {span_text(plan.seconds)}, estimated"),
    ]
    for one in plan.measured:
        facts.append(
            (
                f"measured: {one.kind}",
                f"{one.what}: {size_text(one.bytes_read)} in {span_text(one.seconds)}, "
                f"{size_text(one.rate)} a second and {span_text(one.fixed_seconds)} for each user; "
                f"{size_text(one.bytes_written)} written",
            )
        )
    return facts + [("note", note) for note in plan.notes]


def plan_summary(plan: Plan) -> str:
    """A plan in a notebook: verdict, problems, and the first users."""
    names = ("uid", "kind", "files", "bytes", "records", "to_write", "time", "notes")
    rows = [_told(row, user) for row, user in zip(plan_rows(plan)[:SHOWN], plan.users)]
    problems = [f"{one.where}: {one.what}" + (f" ({one.hint})" if one.hint else "") for one in plan.problems[:SHOWN]]
    parts = [headline("Plan", plan.short_id, plan.verdict, good=not plan.problems and bool(plan.users))]
    parts += [bullets(problems, len(plan.problems))]
    parts += [table(names, ([row[name] for name in names] for row in rows), len(plan.users))]
    return "".join(parts)


def _told(row: dict[str, Any], user: PlannedUser) -> dict[str, Any]:
    sizes = {name: size_text(row[name]) for name in ("bytes", "to_write")}
    return row | sizes | {"time": span_text(row["time"]), "notes": len(user.notes) or ""}


def plan_page(plan: Plan) -> str:
    """A plan as an HTML page, with everything in it."""
    body = [
        _verdict(plan.verdict, good=not plan.problems and bool(plan.users)),
        _facts(plan_facts(plan)),
        _problem_section("Problems", "what keeps the plan from being carried out", plan.problems),
        _section("Users", _page_table(_USER_NAMES, [_user_cells(user) for user in plan.users])),
        _section("Steps and notes", "".join(map(_steps, plan.users))),
        _section("Input files", _page_table(("user", "file", "bytes", "SHA-256"), list(_input_cells(plan)))),
        _problem_section("Not taken", "files of the source that the plan leaves where they are", plan.left),
    ]
    return _page(f"Migration plan {plan.short_id}", body)


_USER_NAMES = ("user", "kind", "files", "to read", "records", "to write", "time", "state hash")


def _user_cells(user: PlannedUser) -> list[str]:
    return [
        user.uid,
        user.kind,
        f"{len(user.inputs):,}",
        size_text(user.bytes_to_read),
        f"{user.records:,}",
        size_text(user.bytes_to_write),
        span_text(user.seconds),
        user.state_hash,
    ]


def _input_cells(plan: Plan) -> Iterable[list[str]]:
    return ([user.uid, one.path, f"{one.size:,}", one.sha256] for user in plan.users for one in user.inputs)


def _steps(user: PlannedUser) -> str:
    steps = "".join(f"<li>{safe(step)}</li>" for step in user.operations)
    notes = "".join(f"<li>{safe(note)}</li>" for note in user.notes)
    return f"<h3>{safe(user.uid)}</h3><ol>{steps}</ol>" + (f"<ul class='notes'>{notes}</ul>" if notes else "")


# Rehearsals ---------------------------------------------------------------------------


def rehearsal_rows(rehearsal: Rehearsal) -> list[dict[str, Any]]:
    """One row per user for a table."""
    return rehearsal.to_pylist()


def rehearsal_summary(rehearsal: Rehearsal) -> str:
    """A rehearsal in a notebook: verdict, the first findings, and the first users."""
    findings = [str(one) for one in rehearsal.findings[:SHOWN]]
    rows = [
        row | {"bytes_written": size_text(row["bytes_written"]), "seconds": span_text(row["seconds"])}
        for row in rehearsal.table.slice(0, SHOWN).to_pylist()
    ]
    head = headline("Rehearsal of plan", rehearsal.plan_id[:16], rehearsal.verdict, good=rehearsal.passed)
    users = table(_FARED, ([row[name] for name in _FARED] for row in rows), len(rehearsal.users))
    return head + bullets(findings, sum(rehearsal.counts.values())) + users


_FARED = ("uid", "records", "lost", "invented", "changed", "duplicated", "moved", "bytes_written", "seconds", "error")


def rehearsal_page(rehearsal: Rehearsal) -> str:
    """A rehearsal as an HTML page, with every finding that is listed."""
    facts = [
        ("rehearsal", rehearsal.id),
        ("of plan", rehearsal.plan_id),
        ("made", f"{rehearsal.created_at} by {rehearsal.tool}"),
        ("took", f"{span_text(rehearsal.seconds)}, and {span_text(rehearsal.seconds_comparing)} to compare"),
        ("read", f"{size_text(rehearsal.bytes_read)} ({rehearsal.bytes_read:,} bytes)"),
        ("written", f"{size_text(rehearsal.bytes_written)} ({rehearsal.bytes_written:,} bytes)"),
        *rehearsal.machine.items(),
    ]
    names = ("user", "finding", "memory", "field", "before", "after", "other user", "what")
    findings = [
        [one.uid, one.kind, one.id, one.field, one.before or "", one.after or "", one.other, one.text]
        for one in rehearsal.findings
    ]
    body = [
        _verdict(rehearsal.verdict, good=rehearsal.passed),
        _facts(facts),
        _section("Findings", _page_table(names, findings) + _rest(rehearsal)) if findings else "",
        _section("Users", _page_table(_FARED_NAMES, [_fared_cells(one) for one in rehearsal.users])),
    ]
    return _page(f"Rehearsal of plan {rehearsal.plan_id[:16]}", body)


_FARED_NAMES = (
    *("user", "records", "after", "lost", "invented", "changed", "duplicated", "moved", "received"),
    *("read", "written", "time", "error"),
)


def _fared_cells(user: RehearsedUser) -> list[str]:
    counts = (user.records, user.records_after, user.lost, user.invented, user.changed)
    others = (user.duplicated, user.moved, user.received)
    sizes = (size_text(user.bytes_read), size_text(user.bytes_written), span_text(user.seconds))
    return [user.uid, *(f"{count:,}" for count in (*counts, *others)), *sizes, user.error]


def _rest(rehearsal: Rehearsal) -> str:
    told = ", ".join(f"{count:,} {kind}" for kind, count in rehearsal.counts.items())
    return f"<p>In all: {safe(told)}. At most a thousand of each are listed.</p>"


# Pieces for pages -----------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
h1 { font-size: 1.3rem } h2 { font-size: 1.1rem; margin-top: 2rem } h3 { font-size: 1rem; margin-bottom: .2rem }
.verdict { border-left: .4rem solid; padding: .6rem 1rem; font-size: 1.15rem; font-weight: 600 }
.good { border-color: #1b7f3b; background: #1b7f3b22 } .bad { border-color: #b00020; background: #b0002022 }
table { border-collapse: collapse; width: 100%; table-layout: auto }
th, td { text-align: left; vertical-align: top; padding: .25rem .5rem; border-bottom: 1px solid #8886;
  overflow-wrap: anywhere }
th { border-bottom: 2px solid #888; overflow-wrap: normal; vertical-align: bottom }
td.short { white-space: nowrap; font-variant-numeric: tabular-nums }
th.number, td.number { text-align: right }
.scroll { overflow-x: auto }
table.wide { font-size: .8em } table.wide td:not(.short) { min-width: 10em }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem }
dt { font-weight: 600 } dd { margin: 0; overflow-wrap: anywhere }
ul.notes { list-style: none; padding-left: 1rem } .notes li::before { content: "note: "; font-weight: 600 }
@media print { @page { size: A4 landscape; margin: 12mm } body { max-width: none; margin: 0; font-size: 10px }
  tr, h3 { break-inside: avoid } .scroll { overflow: visible }
  table.wide td:not(.short) { min-width: 0 } thead { display: table-header-group } }
"""


def _page(title: str, body: Iterable[str]) -> str:
    name = safe(title)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width, initial-scale=1'><title>{name}</title>"
        f"<style>{_STYLE}</style></head>\n<body><h1>{name}</h1>\n"
        + "\n".join(filter(None, body))
        + "\n</body></html>\n"
    )


def _verdict(text: str, *, good: bool) -> str:
    return f"<p class='verdict {'good' if good else 'bad'}'>{safe(text)}</p>"


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{safe(name)}</dt><dd>{safe(text)}</dd>" for name, text in facts) + "</dl>"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{safe(title)}</h2>{body}</section>"


def _problem_section(title: str, what: str, problems: Sequence[Any]) -> str:
    if not problems:
        return ""
    rows = [[one.where, one.what, one.hint] for one in problems]
    return _section(f"{title}: {what}", _page_table(("where", "what", "what to do"), rows))


def _page_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that fits the page: short cells stay in one line, long ones wrap."""
    numeric = [_is_numeric([row[at] for row in rows]) for at in range(len(names))]
    head = "".join(f"<th{_class(number=is_number)}>{safe(name)}</th>" for name, is_number in zip(names, numeric))
    body = "".join("<tr>" + "".join(map(_page_cell, row, numeric)) + "</tr>" for row in rows)
    kind = " class='wide'" if len(names) > _WIDE else ""
    table = f"<table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div class='scroll'>{table}</div>"


def _is_numeric(cells: Sequence[str]) -> bool:
    """Whether a column holds numbers only, or amounts; then it is aligned on the right, with its name."""
    given = [cell for cell in cells if cell]
    return bool(given) and all(len(cell) <= _SHORT and _NUMBER.fullmatch(cell) for cell in given)


def _class(**given: bool) -> str:
    names = " ".join(name for name, is_given in given.items() if is_given)
    return f" class='{names}'" if names else ""


_WIDE = 8
_SHORT = 14
"""Characters that are not broken up."""


def _page_cell(text: str, is_number: bool) -> str:
    return f"<td{_class(short=len(text) <= _SHORT, number=is_number)}>{safe(text)}</td>"
