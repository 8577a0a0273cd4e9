"""What the commands of ``meshlab sync`` share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
import msgspec

from meshlab.cli.output import Settings, say, write_json
from meshlab.times import format_time
from meshlab.wording import counted, size_text, span_text

remote_option = click.option(
    "--remote",
    "url",
    metavar="URL",
    envvar="MESH_REMOTE",
    required=True,
    show_envvar=True,
    help="The bucket: s3://BUCKET/PREFIX, file:///DIRECTORY or the path of a directory.",
)
"""Give a command ``--remote``."""

uids_argument = click.argument("uids", metavar="[UID]...", nargs=-1)
"""The users a command is about; all when none is named."""


def opened(settings: Settings, url: str) -> Any:
    """The bucket for the store that was given."""
    return settings.open().remote(url)


def chosen(uids: tuple[str, ...]) -> list[str] | None:
    """The users named, or None for all."""
    return list(uids) or None


def plain(value: Any) -> Any:
    """A report as JSON has it: moments as text, the count of requests in one number."""
    told = msgspec.to_builtins(value)
    if isinstance(told, dict):
        for name in ("looked_at", "proved_at", "cutoff"):
            if name in told:
                told[name] = format_time(told[name]) if told[name] > 0 else None
    return told


def write_report(report: Any) -> None:
    """A whole report as one JSON object."""
    write_json(
        {
            "url": report.url,
            "dry_run": report.dry_run,
            "seconds": round(report.seconds, 3),
            "requests": report.traffic.requests,
            **report.traffic._asdict(),
            "foreign": report.foreign,
            "users": [plain(user) for user in report.users],
        }
    )


def say_problems(report: Any) -> None:
    """What went wrong with each user, and what to do; and what was passed over."""
    for user in report.users:
        if getattr(user, "error", ""):
            say(f"failed: {user.uid}: {user.error} ({user.hint})")
    if report.foreign:
        say(f"passed over {counted(report.foreign, 'object')} among the images that no push puts")


def say_traffic(report: Any, did: str) -> None:
    """One line on what was asked of the bucket."""
    traffic = report.traffic
    moved = size_text(traffic.bytes_put + traffic.bytes_got)
    again = f", {counted(traffic.again, 'request')} made again" if traffic.again else ""
    requests = counted(traffic.requests, "request")
    failed = sum(bool(getattr(user, "error", "")) for user in report.users)
    users = counted(len(report.users) - failed, "user") + (f", {failed} failed" if failed else "")
    say(f"{did}: {users}, {moved}, {requests}{again}, in {span_text(report.seconds)}")


def counts_of(users: list[Any], name: str) -> Mapping[str, int]:
    """How many users have each value of a field."""
    values = [getattr(user, name) for user in users]
    return {value: values.count(value) for value in dict.fromkeys(values)}
