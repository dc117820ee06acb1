"""What the live view looks like in a terminal of a given size. Pure: draws a scene, reads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from kloros.cli.harmless import harmless_text
from kloros.cli.output import Row, bare, style_of, styled
from kloros.cli.schedule import rows as schedule_rows
from kloros.cli.story.narrate import SEVERITY_STYLES, Line
from kloros.cli.story.picture import Picture
from kloros.cli.units import clock_time, countdown, duration
from kloros.consumers.introspection.findings import Finding
from kloros.units import US_PER_S

# From here on schedule and daemons stand side by side.
WIDE_COLUMNS = 140
MIN_STORY_LINES = 6
MIN_SCHEDULE_LINES = 3
MOST_WORK_LINES = 5
_MODE_STYLES = {"normal": "green", "killed": "bold red"}
_OUTCOME_STYLES = {"ok": "green", "over_budget": "yellow"}


@dataclass(frozen=True)
class Scene:
    """Everything there is to draw."""

    picture: Picture
    zooids: Sequence[str]
    findings: Sequence[Finding]
    scanners: Sequence[str]
    now_ts: float


def draw(scene: Scene, width: int, height: int) -> RenderableType:
    """The whole screen."""
    is_wide = width >= WIDE_COLUMNS
    finding_room = 3 if height < 30 else 8
    findings = _findings(scene, finding_room)
    daemons = _daemons(scene)
    aside_height = len(findings) + 1 + len(scene.zooids) + 2
    spare = height - 2 - MIN_STORY_LINES - aside_height - (0 if is_wide else MIN_SCHEDULE_LINES + 1)
    work = _work(scene, min(MOST_WORK_LINES, spare - 1))
    aside_height += len(work)
    schedule_room = height - 2 - MIN_STORY_LINES - (0 if is_wide else aside_height + 1)
    schedule, schedule_height = _schedule(scene, max(MIN_SCHEDULE_LINES, schedule_room))
    aside = Group(_rule("daemons"), daemons, _rule("open findings"), *findings, *work)
    left = Group(_rule("schedule"), schedule)
    if is_wide:
        pair = Table.grid(expand=True, padding=(0, 2))
        pair.add_column(ratio=1, no_wrap=True)
        pair.add_column(ratio=1, no_wrap=True)
        pair.add_row(left, aside)
        upper: list[RenderableType] = [pair]
        used = 1 + max(schedule_height + 1, aside_height)
    else:
        upper = [left, aside]
        used = 1 + schedule_height + 1 + aside_height
    story = [_story_line(line) for line in scene.picture.latest_lines(max(1, height - used - 1))]
    return Group(_title(scene), *upper, _rule("latest signals"), *story)


def _title(scene: Scene) -> RenderableType:
    tick = scene.picture.tick
    parts: list[str | tuple[str, str]] = [("KLoROS", "bold"), f"  {clock_time(scene.now_ts)}"]
    if tick is None:
        parts.append("  waiting for the scheduler's first tick ...")
    else:
        parts.append(f"  up {duration(tick.uptime_s)}  tick {scene.picture.ticks}")
        if tick.maintenance:
            parts.append(("  MAINTENANCE", "bold yellow"))
        if tick.lateness_p99_ms is not None:
            parts.append(f"  late {duration(tick.lateness_p99_ms / 1e3)} (p99)")
    parts.append(("  q or Ctrl-C ends it", "dim"))
    if tick is not None and tick.clock is not None and tick.clock.synchronised is False:
        parts.append(("  clock not synchronised", "yellow"))
    return _one_line(Text.assemble(*parts))


def _rule(title: str) -> RenderableType:
    return Rule(Text(title, "bold"), align="left", style="dim")


def _grid(columns: Sequence[str], rows: Iterable[Row]) -> Table:
    """A table without lines, one line per row; where the terminal is narrow its last column gives way first."""
    grid = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        grid.add_column(column.removeprefix(">"), justify=justify, no_wrap=column != columns[-1])
    for row in rows:
        grid.add_row(*(_one_line(Text(bare(cell), style_of(cell))) for cell in row))
    return grid


def _schedule(scene: Scene, room: int) -> tuple[RenderableType, int]:
    """The schedule in at most `room` lines, and how many it takes."""
    tick = scene.picture.tick
    if tick is None:
        return Text("..."), 1
    rows = list(schedule_rows(tick, scene.now_ts))
    shown = rows if len(rows) < room else rows[: room - 2]
    # As `kloros schedule show`, less the signal and what was missed: the name says the one, the notes the other.
    columns = ("entry", ">every", ">pace", ">next in", ">last beat", "at", "notes")
    lines = [(row[0], row[2], row[3], row[4], row[5], row[6], _notes(row)) for row in shown]
    if len(shown) < len(rows):
        lines.append((styled(f"and {len(rows) - len(shown)} more", "dim"), "", "", "", "", "", ""))
    return _grid(columns, lines), len(lines) + 1


def _notes(row: Row) -> str:
    missed = "" if bare(row[7]) == "0" else f"{bare(row[7])} missed "
    return styled(f"{missed}{row[8]}".strip(), "yellow")


def _daemons(scene: Scene) -> RenderableType:
    known = [*scene.zooids, *(zooid for zooid in scene.picture.hearts if zooid not in scene.zooids)]
    return _grid(("daemon", "mode", "last cycle", ""), [_daemon(scene, zooid) for zooid in known])


def _daemon(scene: Scene, zooid: str) -> Row:
    heart, cycle = scene.picture.hearts.get(zooid), scene.picture.cycles.get(zooid)
    mode = styled("starting", "dim")
    if heart is not None:
        mode = styled(heart.mode or "alive", _MODE_STYLES.get(heart.mode or "", "yellow"))
    if cycle is None:
        return (zooid, mode, "", heart.detail or "" if heart else "")
    since = countdown(scene.now_ts, cycle.started_ts) if scene.now_ts > cycle.started_ts else "now"
    outcome = f"{cycle.outcome.replace('_', ' ')} in {duration(cycle.duration_s)}"
    lacks = heart.detail or "" if heart else ""
    return (zooid, mode, styled(outcome, _OUTCOME_STYLES.get(cycle.outcome, "red")), f"{since} ago {lacks}".strip())


def _findings(scene: Scene, room: int) -> list[RenderableType]:
    if not scene.findings:
        is_looked = bool(scene.picture.cycles)
        text = f"none: {', '.join(scene.scanners)} all quiet" if is_looked else "looking ..."
        return [_one_line(Text(text, "green" if is_looked else "dim"))]
    shown = scene.findings if len(scene.findings) <= room else scene.findings[: room - 1]
    lines = [_finding(finding, scene.now_ts) for finding in shown]
    if len(shown) < len(scene.findings):
        lines.append(Text(f"and {len(scene.findings) - len(shown)} more", "dim"))
    return lines


def _work(scene: Scene, room: int) -> list[RenderableType]:
    """What was asked, concluded and done of late, under its own heading; the feed below moves on."""
    lines = list(scene.picture.work)[-room:] if room > 0 else []
    return [_rule("at work"), *map(_story_line, (line._replace(is_reaction=False) for line in lines))] if lines else []


def _finding(finding: Finding, now_ts: float) -> RenderableType:
    style = SEVERITY_STYLES.get(finding.severity.word, "")
    since = duration(max(0.0, now_ts - finding.first_seen_us / US_PER_S))
    return _one_line(Text.assemble((f"{finding.severity.word:<9}", style), finding.summary, (f"  for {since}", "dim")))


def _story_line(line: Line) -> RenderableType:
    return _one_line(Text(str(line), line.style))


def _one_line(text: Text) -> Text:
    harmless_text(text)
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
