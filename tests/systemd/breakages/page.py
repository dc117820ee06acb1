"""The table of what was broken and what came of it: printed, and kept in docs/breakage.md. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tests.systemd.breakages.course import Course

HEADING = ("what was broken", "found after", "concluded", "evidence", "ended in", "closed")
_BEGIN, _END = "<!-- table: begin -->", "<!-- table: end -->"
_EVIDENCE_LINES = 3


def row(course: Course, broken_ts: float, mended_ts: float) -> tuple[str, ...]:
    """One line of the table."""
    breakage, said = course.breakage, course.concluded or {}
    evidence = [line for line in said.get("evidence", ()) if any(re.search(each, line) for each in breakage.evidence)]
    return (
        f"**{breakage.kind}**: {breakage.broken}",
        _after(course.ts("CAPABILITY_GAP"), broken_ts),
        f"{said.get('conclusion', '-')} (`{said.get('rule', '-')}`, {said.get('confidence', 0):.2f})",
        "; ".join(evidence[:_EVIDENCE_LINES]) or "-",
        _end(course),
        _closed(course, mended_ts),
    )


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """As Markdown, which reads well in a terminal too."""
    lines = [HEADING, ("---",) * len(HEADING), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def with_table(page: str, text: str) -> str:
    """The page with another table in it."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{text}{_END}{after}"


def kinds_in(page: str) -> list[str]:
    """The kinds of breakage that the page's table tells of."""
    _, _, rest = page.partition(_BEGIN)
    lines = rest.partition(_END)[0].strip().splitlines()[2:]
    return [line.split("**")[1] for line in lines]


def _after(ts: float | None, since_ts: float) -> str:
    return "-" if ts is None else f"{max(0.0, ts - since_ts):.1f} s"


def _end(course: Course) -> str:
    done = course.of("Q_ACTION_COMPLETE")
    acted = [f"{facts['action_type']} ({facts.get('mode')}): {facts['outcome'].replace('_', ' ')}" for facts in done]
    flags = course.of("FLAG_FOR_REVIEW")
    cure = flags[0].get("cure") if flags else None
    return "; ".join([*acted, *([f"flag: {cure}" if cure else "flag"] if flags else [])]) or "-"


def _closed(course: Course, mended_ts: float) -> str:
    closed_ts = course.ts("CAPABILITY_RESTORED")
    if closed_ts is None:
        return "no"
    return "by itself" if course.breakage.ends.by_itself else f"{_after(closed_ts, mended_ts)} after mending"
