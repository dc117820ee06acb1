"""What each part of the screen says. Pure: makes sections of what is known, reads nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from kloros.chembus.facts import TickEntry
from kloros.cli.affect import MOOD_STYLES, dimension_rows, hold_rows
from kloros.cli.output import Row, bare, style_of, styled
from kloros.cli.overview.lines import Section, columns, one_line
from kloros.cli.overview.open_work import KINDS, Item
from kloros.cli.overview.state import MOOD_OLD_AFTER_S, Overview
from kloros.cli.story.narrate import SEVERITY_STYLES
from kloros.cli.units import clock_time, countdown, duration, interval

SCHEDULE_COLUMNS = ("entry", ">every", ">pace", ">next in", "last", ">missed", "last cycle", "why")
SCHEDULE_SPARE = (">missed", "last", "last cycle", ">every")
DAEMON_COLUMNS = ("daemon", "mode", "last cycle", "ago", ">waiting", "lacks")
DAEMON_SPARE = ("ago", ">waiting")
LEAST_ENTRIES = 4
MOST_OPEN = 10
MOST_NEWS = 12
_SHORT_BAR = 5
# Below so many columns the bars are half as long.
ROOMY = 90
_MODE_STYLES = {"normal": "green", "killed": "bold red", "silent": "bold red", "stopped": "bold red"}
_OUTCOME_STYLES = {"ok": "green", "over_budget": "yellow"}
_WELL = ("normal", "alive")


# Schedule


def schedule(known: Overview, now_ts: float, selected: str | None, width: int) -> Section:
    """The entries with their countdowns, a window of them around the selected one."""
    tick = known.tick
    if tick is None:
        return Section("schedule", (1,), lambda _room: [Text("waiting for the scheduler's first tick ...", "dim")])
    names = known.entries
    rows = [_entry_row(name, tick.entries[name], tick.maintenance, known, now_ts) for name in names]
    lines = columns(SCHEDULE_COLUMNS, rows, width - 2, SCHEDULE_SPARE) if rows else [Text("no entries", "dim")]
    marked = [_marked(line, name == selected) for line, name in zip(lines[1:], names, strict=True)]
    head = Text.assemble("  ", lines[0])
    index = names.index(selected) if selected in names else 0

    def drawn(room: int) -> list[Text]:
        return [head, *_window(marked, index, room - 1)]

    return Section("schedule", range(min(len(names), LEAST_ENTRIES) + 1, len(names) + 2), drawn)


def _marked(line: Text, is_selected: bool) -> Text:
    whole = Text.assemble("› " if is_selected else "  ", line)
    if is_selected:
        whole.stylize("reverse")
    return whole


def _window(lines: Sequence[Text], index: int, room: int) -> list[Text]:
    """So many of the lines, the indexed one among them; what is left out is counted on the last line."""
    if len(lines) <= room:
        return list(lines)
    shown = max(1, room - 1)
    first = min(max(0, index - shown // 2), len(lines) - shown)
    rest = [
        f"{count} more {where}" for count, where in ((first, "above"), (len(lines) - first - shown, "below")) if count
    ]
    return [*lines[first : first + shown], Text(f"  {', '.join(rest)}", "dim")]


def _entry_row(name: str, entry: TickEntry, is_resting: bool, known: Overview, now_ts: float) -> Row:
    ran = known.ran.get(name)
    outcome = ""
    if ran is not None:
        text = f"{ran.outcome.replace('_', ' ')} {duration(ran.duration_s)}"
        outcome = styled(text, _OUTCOME_STYLES.get(ran.outcome, "red"))
    return (
        styled(name, "bold"),
        interval(entry.interval_s),
        "0" if entry.held else styled(f"{entry.pace:g}", "yellow") if entry.pace != 1.0 else "1",
        _next_in(entry, is_resting, now_ts),
        "-" if entry.last_due_ts is None else clock_time(entry.last_due_ts),
        styled(str(entry.missed), "yellow") if entry.missed else "",
        outcome,
        _why(entry),
    )


def _next_in(entry: TickEntry, is_resting: bool, now_ts: float) -> str:
    if entry.held:  # a hold is shown as a pause too, so that nobody falls back
        return styled("held", "bold red")
    if entry.paused:
        return styled("paused", "yellow")
    if is_resting:
        return styled("rests", "yellow")
    return countdown(entry.next_due_ts, now_ts)


def _why(entry: TickEntry) -> str:
    if entry.paused and not entry.held:
        return styled(entry.why or "by an operator; p resumes it", "yellow")
    if entry.why:
        until = "" if entry.override_until_ts is None else f", until {clock_time(entry.override_until_ts)}"
        return styled(f"{entry.why}{until}", "yellow")
    return styled(f"after {entry.after}", "dim") if entry.after else ""


# Daemons


def daemons(known: Overview, now_ts: float, width: int) -> Section:
    """Every daemon, or a count and those that are not well."""
    modes = {zooid: known.mode(zooid, now_ts) for zooid in known.daemons}
    rows = {zooid: _daemon_row(zooid, mode, known, now_ts) for zooid, mode in modes.items()}
    unwell = [zooid for zooid, mode in modes.items() if mode not in _WELL]
    counts: dict[str, int] = {}
    for mode in modes.values():
        counts[mode] = counts.get(mode, 0) + 1
    summary = Text(", ".join(f"{count} {mode}" for mode, count in counts.items()))
    summary.stylize("yellow" if unwell else "green")
    named = ", ".join(_short(zooid) for zooid in unwell)

    def drawn(room: int) -> list[Text]:
        if room > len(rows):
            return columns(DAEMON_COLUMNS, list(rows.values()), width, DAEMON_SPARE)
        if room == 1:
            return [Text.assemble(summary, (f"  not well: {named}", "yellow")) if unwell else summary]
        return [summary, *columns(DAEMON_COLUMNS, [rows[each] for each in unwell], width, DAEMON_SPARE)]

    some = [len(unwell) + 2] if 0 < len(unwell) < len(rows) - 1 else []
    return Section("daemons", (1, *some, len(rows) + 1), drawn)


def _daemon_row(zooid: str, mode: str, known: Overview, now_ts: float) -> Row:
    heart, cycle = known.hearts.get(zooid), known.cycles.get(zooid)
    outcome, ago = "", ""
    if cycle is not None:
        text = f"{cycle.outcome.replace('_', ' ')} in {duration(cycle.duration_s)}"
        outcome = styled(text, _OUTCOME_STYLES.get(cycle.outcome, "red"))
        ago = duration(max(0.0, now_ts - cycle.started_ts))
    waiting = heart.backlog if heart is not None and heart.backlog is not None else cycle.backlog if cycle else 0
    lacks = heart.detail or "" if heart else ""
    mode = styled(mode, _MODE_STYLES.get(mode, "yellow"))
    return (_short(zooid), mode, outcome, ago, str(waiting) if waiting else "", styled(lacks, "yellow"))


def _short(zooid: str) -> str:
    return zooid.removesuffix("_daemon")


# Affect


def affect(known: Overview, now_ts: float, width: int) -> Section:
    """The mood and its cause, what holds, and its sides as bars."""
    if known.affect is None:
        return Section("affect", (1,), lambda _room: [Text("nothing was heard yet", "dim")])
    state = known.mood
    head = _mood(known, now_ts)
    sides = dimension_rows(state.get("dimensions", {}))
    if width < ROOMY:
        sides = [(name, value, styled(bare(bar)[::2], style_of(bar)), cause) for name, value, bar, cause in sides]
    held = hold_rows(state.get("holds", {}), state.get("by_hand", {}))
    holds = [Text.assemble((f"{name} ", "bold yellow"), f"until {until}: " if until else "", bare(why))
             for name, _since, until, why in held]  # fmt: skip
    bars = columns(("", "", "", ""), sides, width)[1:] if sides else []

    def drawn(room: int) -> list[Text]:
        if room == 1:
            return [one_line(Text.assemble(head, "  ", _short_bars(sides)), width)]
        return [head, *holds, *bars][:room]

    return Section("affect", range(1, len(holds) + len(bars) + 2), drawn)


def _mood(known: Overview, now_ts: float) -> Text:
    state, facts = known.mood, known.affect
    mood = str(state.get("mood", "unknown"))
    since_ts = state.get("since_ts")
    since = "" if since_ts is None else f" for {duration(max(0.0, now_ts - since_ts))}"
    cause = f": {facts.cause}" if facts and facts.cause else ""
    is_old = now_ts - known.affect_ts > MOOD_OLD_AFTER_S
    old = f"  (told {duration(now_ts - known.affect_ts)} ago)" if is_old else ""
    return Text.assemble((f"{mood}{since}", MOOD_STYLES.get(mood, "red")), cause, (old, "yellow"))


def _short_bars(sides: Sequence[Row]) -> Text:
    """The sides that are not at zero, each with a little bar."""
    line = Text()
    for name, value, bar, _cause in sides:
        if float(value) >= 0.05:
            filled = round(float(value) * _SHORT_BAR)
            line.append(f"{name} ").append("█" * filled + "░" * (_SHORT_BAR - filled), style_of(bar)).append("  ")
    return line


# Open work, news


def open_work(known: Overview, now_ts: float) -> Section:
    """Flags, findings, actions and questions that are open."""
    counts = [(kind, known.work.count(kind)) for kind in KINDS]
    total = sum(count for _, count in counts)
    if not total:
        return Section("open", (1,), lambda _room: [Text("nothing: no flags, findings, actions or questions", "green")])
    summary = Text(", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in counts if count))
    items = list(known.work.all)

    def drawn(room: int) -> list[Text]:
        if room == 1:
            return [Text.assemble(summary, ": ", _item(items[0], now_ts))]
        if len(items) <= room:
            return [_item(item, now_ts) for item in items]
        rest = f"and {len(items) - room + 1} more; in all {summary.plain}"
        return [*(_item(item, now_ts) for item in items[: room - 1]), Text(rest, "dim")]

    return Section("open", range(1, max(2, min(total, MOST_OPEN) + 1)), drawn)


def _item(item: Item, now_ts: float) -> Text:
    style = SEVERITY_STYLES.get(item.severity, "cyan")
    since = f"  for {duration(max(0.0, now_ts - item.since_ts))}"
    note = f"  ({item.note})" if item.note else ""
    word = f"{item.kind} {item.severity}".rstrip()
    return Text.assemble((f"{word:<16} ", style), item.text, (f"{since}{note}", "dim"))


def news(known: Overview) -> Section | None:
    """What happened lately, the latest last."""
    if not known.news:
        return None
    latest = list(known.news)[-MOST_NEWS:]
    return Section(
        "news", range(1, len(latest) + 1), lambda room: [Text(str(line), line.style) for line in latest[-room:]]
    )
