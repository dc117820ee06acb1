"""Asking every daemon for a HEARTBEAT, and what the answers come to."""

from __future__ import annotations

import msgspec

from kloros.chembus.facts import HeartbeatFacts, StatusRequestFacts, TickFacts
from kloros.cli.client import Client, requester
from kloros.cli.harmless import harmless

EXPECTED = (
    "chem_proxy_daemon",
    "scheduler_daemon",
    "introspection_daemon",
    "chembus_historian_daemon",
    "ledger_writer_daemon",
    "curiosity_core_consumer_daemon",
    "semantic_dedup_consumer_daemon",
    "investigation_consumer_daemon",
    "action_consumer_daemon",
    "shadow_daemon",
    "tournament_consumer_daemon",
    "decay_daemon",
    "affect_daemon",
    "optimiser_daemon",
)
# Answers come within milliseconds; a daemon that takes longer than this is called silent.
ANSWER_TIMEOUT_S = 0.5
# The scheduler's tick comes each second, whether asked or not.
TICK_TIMEOUT_S = 1.2
# Once those who were expected have answered, strangers (a user's own daemons) get this long.
STRANGERS_S = 0.05
PROXY = "chem_proxy_daemon"
SCHEDULER = "scheduler_daemon"
BLIND = "blind:"
_WELL = {"normal", "maintenance", "paused"}


class DaemonReport(msgspec.Struct, kw_only=True):
    """One daemon's answer, or its silence."""

    zooid: str
    answered: bool
    mode: str = "silent"
    uptime_s: float = 0.0
    processed_count: int = 0
    pid: int | None = None
    version: str | None = None
    schedule: str | None = None
    last_beat: int | None = None
    last_due_ts: float | None = None
    backlog: int | None = None
    lacks: str | None = None
    counters: dict[str, int] = {}


class Report(msgspec.Struct, kw_only=True):
    """How the suite is. `complaints` is empty when all is well."""

    complaints: list[str]
    daemons: list[DaemonReport]
    forwarded: int
    refused: dict[str, int]
    gaps: int
    drops: int
    maintenance: bool
    maintenance_until_ts: float | None
    maintenance_reason: str | None


def call_the_roll(client: Client) -> Report:
    """Ask everyone and wait for the answers. `client` hears HEARTBEAT and Q_SCHEDULE_TICK."""
    hearts, tick = ask_everyone(client, wants_tick=True)
    return assess(hearts, tick)


def ask_everyone(client: Client, *, wants_tick: bool) -> tuple[list[HeartbeatFacts], TickFacts | None]:
    """The heartbeats of everyone who answers, and the next tick if it is wanted and a scheduler is there."""
    client.emit("STATUS_REQUEST", StatusRequestFacts(requester=requester()))
    start_s = client.clock.monotonic_s()
    hearts: dict[tuple[str, int | None], HeartbeatFacts] = {}
    tick: TickFacts | None = None
    end_s = start_s + ANSWER_TIMEOUT_S
    while (left_s := end_s - client.clock.monotonic_s()) > 0:
        for message in client.messages(left_s):
            facts = message.facts
            if isinstance(facts, HeartbeatFacts) and facts.mode != "stopped" and facts.niche != "cli":
                hearts[facts.zooid, facts.pid] = facts
            elif isinstance(facts, TickFacts):
                tick = facts
            break
        answered = {zooid for zooid, _ in hearts}
        awaits_tick = wants_tick and tick is None and SCHEDULER in answered
        if awaits_tick:
            end_s = start_s + TICK_TIMEOUT_S
        elif answered.issuperset(EXPECTED):
            end_s = min(end_s, client.clock.monotonic_s() + STRANGERS_S)
    return list(hearts.values()), tick


def assess(hearts: list[HeartbeatFacts], tick: TickFacts | None) -> Report:
    """What the answers come to. Pure."""
    reports = [_answer(heart) for heart in hearts]
    answered = {report.zooid for report in reports}
    reports += [DaemonReport(zooid=zooid, answered=False) for zooid in EXPECTED if zooid not in answered]
    order = {zooid: index for index, zooid in enumerate(EXPECTED)}
    reports.sort(key=lambda report: (order.get(report.zooid, len(order)), report.zooid))
    # The proxy hears everything, so its refusals are the bus's; losses are each subscriber's own.
    proxy = next((report for report in reports if report.zooid == PROXY), None)
    counters = proxy.counters if proxy else {}
    prefix = "refused_"
    return Report(
        complaints=[harmless(complaint) for complaint in _complaints(reports, tick)],
        daemons=reports,
        forwarded=counters.get("forwarded", 0),
        refused={name.removeprefix(prefix): count for name, count in counters.items() if name.startswith(prefix)},
        gaps=sum(report.counters.get("gap", 0) for report in reports),
        drops=sum(report.counters.get("drop", 0) for report in reports),
        maintenance=bool(tick and tick.maintenance) or any(report.mode == "maintenance" for report in reports),
        maintenance_until_ts=tick.maintenance_until_ts if tick else None,
        maintenance_reason=tick.maintenance_reason if tick else None,
    )


def _answer(heart: HeartbeatFacts) -> DaemonReport:
    shared = {name: getattr(heart, name) for name in DaemonReport.__struct_fields__ if hasattr(heart, name)}
    return DaemonReport(answered=True, lacks=heart.detail, **(shared | {"mode": heart.mode or "alive"}))


def _complaints(reports: list[DaemonReport], tick: TickFacts | None) -> list[str]:
    complaints = []
    for report in reports:
        unit = "kloros-" + report.zooid.removesuffix("_daemon").replace("_", "-")
        if not report.answered:
            complaints.append(f"{report.zooid} does not answer (systemctl status {unit})")
        elif report.mode == "fallback":
            complaints.append(f"{report.zooid} hears no triggers and runs by its own clock")
        elif report.mode == "killed":
            complaints.append(f"{report.zooid} was stopped by governance.kill; it works again when it is restarted")
        elif report.mode not in _WELL:
            complaints.append(f"{report.zooid} is in mode {report.mode}")
        # A source that introspection cannot watch is its finding, and no fault of the suite.
        if report.lacks and not report.lacks.startswith(BLIND):
            complaints.append(f"{report.zooid}: {report.lacks}")
    is_there = any(report.zooid == SCHEDULER and report.answered for report in reports)
    if is_there and tick is None:
        complaints.append(f"the scheduler answers but did not tick within {TICK_TIMEOUT_S:g} s")
    return complaints
