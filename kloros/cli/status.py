"""`kloros status`: who is there, how they are, what was refused or lost."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from kloros.cli.output import JsonOption, Row, as_json, say, styled, table
from kloros.cli.units import clock_time, duration

if TYPE_CHECKING:
    from kloros.cli.roll_call import DaemonReport, Report

COLUMNS = ("daemon", "mode", ">up", ">last beat", "due", ">waiting", ">handled", ">pid", "lacks")
EXIT_UNWELL = 1

_MODE_STYLES = {"normal": "green", "fallback": "yellow", "maintenance": "yellow", "paused": "yellow"}


def status(json: JsonOption = False) -> int:
    """Ask every daemon how it is. Exit code 0: all well; 1: something is wrong; 3: no bus."""
    from kloros.cli.client import Client
    from kloros.cli.roll_call import call_the_roll

    with Client("HEARTBEAT", "Q_SCHEDULE_TICK", name="kloros_status") as client:
        report = call_the_roll(client)
    if json:
        as_json(report)
    else:
        table(COLUMNS, rows(report), spare=(">handled", "due", ">waiting", ">last beat"))
        for line in lines(report):
            say(line)
        for complaint in report.complaints:
            print(f"kloros: {complaint}", file=sys.stderr)
    return EXIT_UNWELL if report.complaints else 0


def rows(report: Report) -> list[Row]:
    """The table: a line for each daemon."""
    return [_row(daemon) for daemon in report.daemons]


def _row(daemon: DaemonReport) -> Row:
    if not daemon.answered:
        return (daemon.zooid, styled("silent", "bold red"), "-", "-", "-", "-", "-", "-", "")
    return (
        daemon.zooid,
        styled(daemon.mode, _MODE_STYLES.get(daemon.mode, "bold red")),
        duration(daemon.uptime_s),
        "-" if daemon.last_beat is None else str(daemon.last_beat),
        "-" if daemon.last_due_ts is None else clock_time(daemon.last_due_ts),
        "-" if daemon.backlog is None else str(daemon.backlog),
        str(daemon.processed_count),
        "-" if daemon.pid is None else str(daemon.pid),
        styled(daemon.lacks or "", "yellow"),
    )


def lines(report: Report) -> list[str]:
    """What stands under the table: the bus's figures, and maintenance."""
    refused = sum(report.refused.values())
    by_reason = ", ".join(f"{count} {reason}" for reason, count in sorted(report.refused.items()))
    bus = [f"{report.forwarded} messages forwarded"]
    bus.append(f"{refused} refused ({by_reason})" if refused else "none refused")
    bus.append(f"{report.gaps} lost on the way" if report.gaps else "none lost")
    if report.drops:
        bus.append(f"{report.drops} dropped from full queues")
    told = [styled("bus: " + ", ".join(bus), "yellow" if refused or report.gaps or report.drops else "")]
    if report.maintenance:
        until = "" if report.maintenance_until_ts is None else f" until {clock_time(report.maintenance_until_ts)}"
        reason = f" ({report.maintenance_reason})" if report.maintenance_reason else ""
        told.append(styled(f"maintenance: on{until}{reason}", "yellow"))
    return told
