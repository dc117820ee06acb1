"""The screen of `kloros top` in a terminal of a given size. Pure: draws a scene, reads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from kloros.cli.overview import panels
from kloros.cli.overview.desk import HELP, KEYS_LINE, READ_ONLY_KEYS_LINE, Pane
from kloros.cli.overview.lines import Section, beside, one_line, share
from kloros.cli.overview.state import TICK_SILENT_AFTER_S, Overview
from kloros.cli.units import clock_time, duration

# From here on the schedule stands on the left and the machine on the right.
WIDE_COLUMNS = 132
LEFT_SHARE = 0.6
SMALLEST = (20, 5)
_LEAST_PANE = 3


@dataclass(frozen=True)
class Scene:
    """Everything there is to draw. `away_since_ts`: since when the bus is gone."""

    known: Overview
    now_ts: float
    selected: str | None = None
    pane: Pane | None = None
    prompt: str | None = None
    notice: str | None = None
    away_since_ts: float | None = None
    read_only: bool = False


def draw(scene: Scene, width: int, height: int) -> list[Text]:
    """The screen: as many lines as it is high, none wider than it is wide."""
    if width < SMALLEST[0] or height < SMALLEST[1]:
        return [one_line(Text("kloros top: too small"), width)][:height]
    room = height - 2
    if width >= WIDE_COLUMNS:
        left_width = round(width * LEFT_SHARE)
        left = _stacked(_left(scene, left_width), left_width, room)
        right_width = width - left_width - 3
        right = _stacked(_right(scene, right_width), right_width, room)
        body = beside(left, right, left_width, width)
    else:
        body = _stacked([*_left(scene, width), *_right(scene, width)], width, room)
    body += [Text()] * (room - len(body))
    return [_title(scene, width), *body, _foot(scene, width)]


def plain(scene: Scene, width: int) -> list[str]:
    """One frame for a pipe: all of it, one part under the other."""
    sections = [*_left(scene, width), *_right(scene, width)]
    lines = [_title(scene, width)]
    for section in sections:
        lines += [Text(), *section.drawn(section.sizes[-1], width)]
    return [line.plain.rstrip() for line in lines]


def _stacked(sections: Sequence[Section], width: int, room: int) -> list[Text]:
    """The sections one under the other. Those that a person looks for first grow first."""
    order = sorted(range(len(sections)), key=lambda number: _ORDER.index(sections[number].title))
    given = dict(zip(order, share([sections[number] for number in order], room), strict=True))
    drawn = [section.drawn(given[number], width) for number, section in enumerate(sections) if given[number]]
    has_air = sum(len(lines) + 1 for lines in drawn) - 1 <= room
    for lines in drawn[:-1] if has_air else ():
        lines.append(Text())
    return [line for lines in drawn for line in lines]


_ORDER = ("help", "explained", "schedule", "open", "affect", "daemons", "news")


def _left(scene: Scene, width: int) -> list[Section]:
    sections = [panels.schedule(scene.known, scene.now_ts, scene.selected, width)]
    if scene.pane is not None:
        sections.append(_pane(scene.pane, width))
    sections.append(panels.open_work(scene.known, scene.now_ts))
    news = panels.news(scene.known)
    return sections if news is None else [*sections, news]


def _right(scene: Scene, width: int) -> list[Section]:
    return [
        panels.affect(scene.known, scene.now_ts, width),
        panels.daemons(scene.known, scene.now_ts, width),
    ]


def _pane(pane: Pane, width: int) -> Section:
    lines = [Text("help", "bold"), *(Text(line) for line in HELP)] if pane.is_help else _folded(pane, width)
    title = "help" if pane.is_help else "explained"
    return Section(title, range(min(_LEAST_PANE, len(lines)), len(lines) + 1), lambda room: lines[:room])


def _folded(pane: Pane, width: int) -> list[Text]:
    """The story, its long lines folded at words."""
    lines = [Text(pane.headline, "bold")]
    for line in pane.lines:
        rest = "  "
        for word in line.split():
            if len(rest) + len(word) >= width and rest.strip():
                lines.append(Text(rest.rstrip()))
                rest = "    "
            rest += f"{word} "
        lines.append(Text(rest.rstrip()))
    return lines


def _title(scene: Scene, width: int) -> Text:
    known, tick = scene.known, scene.known.tick
    parts: list[tuple[str, str]] = [("KLoROS", "bold"), (clock_time(scene.now_ts), "")]
    if scene.away_since_ts is not None:
        parts.append(
            (f"NO BUS for {duration(max(0.0, scene.now_ts - scene.away_since_ts))}, waiting for it", "bold red")
        )
    elif known.tick_ts is not None and scene.now_ts - known.tick_ts > TICK_SILENT_AFTER_S:
        parts.append((f"SCHEDULER SILENT for {duration(scene.now_ts - known.tick_ts)}", "bold red"))
    if tick is not None and tick.maintenance:
        until = "" if tick.maintenance_until_ts is None else f" until {clock_time(tick.maintenance_until_ts)}"
        parts.append((f"MAINTENANCE{until}", "bold yellow"))
    parts.append(_bus(known))
    if tick is not None:
        if tick.lateness_p99_ms is not None:
            parts.append((f"late {duration(tick.lateness_p99_ms / 1e3)}", ""))
        parts.append((f"up {duration(tick.uptime_s)}", ""))
        if tick.clock is not None and tick.clock.synchronised is False:
            parts.append(("clock not synchronised", "yellow"))
    line = Text()
    for number, (text, style) in enumerate(parts):
        line.append("  " if number else "").append(text, style)
    return one_line(line, width)


def _bus(known: Overview) -> tuple[str, str]:
    rate = known.bus.rate_hz
    passing = "bus" if rate is None else f"bus {rate:.1f}/s"
    lost = [(known.bus.gaps, "lost"), (known.bus.drops, "dropped"), (known.bus.refused, "refused")]
    told = [f"{count} {word}" for count, word in lost if count]
    return (f"{passing}, {', '.join(told)}", "yellow") if told else (f"{passing}, none lost", "")


def _foot(scene: Scene, width: int) -> Text:
    if scene.prompt is not None:
        return one_line(Text(scene.prompt, "bold reverse"), width)
    if scene.notice is not None:
        return one_line(Text(scene.notice, "bold"), width)
    return one_line(Text(READ_ONLY_KEYS_LINE if scene.read_only else KEYS_LINE, "dim"), width)
