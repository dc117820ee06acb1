"""What goes wrong in the optimiser's week, and what became of each of it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from support.optimiser_week import BROKEN, SWAPPED_STEM, Illness, Planted, Said, Straw, Week, Work

END_H = 168.0
# A change made within so many hours after something passed may still be meant for it.
_ECHO_H = 1.0
# Of 200 cycles.
_BY_CHANCE = 2


def takes(seconds: float) -> Illness:
    """Each cycle needs about so long."""
    return lambda straw, work, now_s, chance: work._replace(seconds=seconds * chance.uniform(0.98, 1.02))


def times(factor: float) -> Illness:
    return lambda straw, work, now_s, chance: work._replace(seconds=work.seconds * factor)


def drifts(from_h: float, over_h: float, to_factor: float) -> Illness:
    def drifting(straw: Straw, work: Work, now_s: float, chance: random.Random) -> Work:
        return work._replace(seconds=work.seconds * (1 + (to_factor - 1) * (now_s / 3600 - from_h) / over_h))

    return drifting


def crowded(straw: Straw, work: Work, now_s: float, chance: random.Random) -> Work:
    """It runs on to its end, and has no time to breathe unless it is asked half as often."""
    straw.is_stubborn = True
    return work._replace(seconds=chance.uniform(6.5, 7.5)) if straw.pace > 0.6 else work


def fails(share: float) -> Illness:
    return lambda straw, work, now_s, chance: work._replace(fails=chance.random() < share)


def with_version(version: str, factor: float) -> Illness:
    def slower(straw: Straw, work: Work, now_s: float, chance: random.Random) -> Work:
        return work._replace(seconds=work.seconds * factor) if straw.version == version else work

    return slower


def silent(straw: Straw, work: Work, now_s: float, chance: random.Random) -> Work:
    return Work(math.inf)


def slower_than(seconds: float) -> Callable[[float, str], bool]:
    return lambda duration_s, outcome: duration_s > seconds


DEDUP = SWAPPED_STEM
PLANTED = [
    Planted("needs 55 s, may take 48 s", "shadow", 6, END_H, takes(55), expects="INCREASE_BUDGET"),
    Planted("needs 14 s, may take 12 s", "tournament_consumer", 10, END_H, takes(14), expects="INCREASE_BUDGET"),
    Planted("asked too often, takes 7 s of every 5 s", DEDUP, 14, 58, crowded, slower_than(2), "REDUCE_LOAD"),
    Planted("drifts to 40 times its time in 60 h, and is weak from the 24th on", "affect", 20, 90, drifts(20, 60, 40),
            slower_than(0.5), shows_after_h=24),
    Planted("12 times slower for 4 minutes", "curiosity_core_consumer", 26, 26 + 4 / 60, times(12), expects="nothing"),
    Planted("20 times slower for 4 minutes", "introspection", 33, 33 + 4 / 60, times(20), expects="nothing"),
    Planted("a third of its cycles fails", "ledger_writer", 44, 50, fails(0.35)),
    Planted("silent", "action_consumer", 52, 58, silent),
    Planted("a good version", DEDUP, 60, 60.5, expects="HOT_SWAP_MODULE", version="good"),
    Planted("a version that does not come up", DEDUP, 64, 64.5, expects="HOT_SWAP_MODULE", version=BROKEN),
    Planted("a version that is 3 times slower", DEDUP, 70, 71, with_version("slow", 3), slower_than(0.2),
            "HOT_SWAP_MODULE", "slow"),
    Planted("needs 5.6 s of every 5 s, may take 4 s", "introspection", 76, 84, takes(5.6)),
    Planted("everybody 40 times slower for 40 minutes", "", 96, 96 + 40 / 60, times(40), slower_than(math.inf),
            "nothing"),
    Planted("an hourly one takes 50 s, not 4 s", "decay", 104, 118, times(12), slower_than(20)),
    Planted("needs 260 s, may take 240 s; the optimiser pauses for 2 h", "investigation_consumer", 110, END_H,
            takes(260), expects="INCREASE_BUDGET"),
    Planted("4 times slower, within its thresholds", "ledger_writer", 120, END_H, times(4),
            slower_than(math.inf), "TUNE_THRESHOLD"),
]  # fmt: skip
PAUSED_H = (109.9, 112.0)


@dataclass
class Course:
    """What became of one of them."""

    planted: Planted
    found_s: float | None = None
    done: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    flagged_s: float | None = None
    mended_s: float | None = None

    @property
    def is_as_expected(self) -> bool:
        """Nothing where nothing is to be done; else the change that helps, confirmed, or a person who knows."""
        expects = self.planted.expects
        if expects == "nothing":
            return not self.done
        if expects == "flag":
            return self.flagged_s is not None
        if expects == "HOT_SWAP_MODULE":
            return self.ends == ["CONFIRMED" if self.planted.version == "good" else "REVERTED"]
        return expects in self.done and "CONFIRMED" in self.ends

    def row(self) -> list[str]:
        """Its line of the table."""
        ends = [*self.ends, *(["flag"] if self.flagged_s is not None else [])]
        by = {"nothing": "passes by itself", "TUNE_THRESHOLD": "is lived with"}.get(self.planted.expects, "by a person")
        by = "-" if self.planted.version == "good" else by
        name = self.planted.stem or "all"
        return [
            f"{name.removesuffix('_consumer')}: {self.planted.what}", f"{self.planted.from_h:g} h",
            lasted(self.found_s),
            ", ".join(_folded(self.done)) or "-", ", ".join(_folded(ends)) or "-",
            lasted(self.mended_s) if self.mended_s is not None else by,
        ]  # fmt: skip


HEADING = ["what", "when", "found after", "done", "ended as", "mended after"]


def lasted(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def _folded(words: Iterable[str]) -> list[str]:
    kept: dict[str, int] = {}
    for word in words:
        kept[word] = kept.get(word, 0) + 1
    return [word if count == 1 else f"{count} × {word}" for word, count in kept.items()]


def module_of(facts: object) -> str:
    """The daemon that a signal is about."""
    name = str(getattr(facts, "module_name", "") or "")
    return SWAPPED_STEM if name == "semantic_dedup" else name


def courses(week: Week) -> tuple[list[Course], list[Said]]:
    """What became of each; and the changes that were made of what was well."""
    found = [Course(each) for each in week.planted]
    wrong: list[Said] = []
    by_action: dict[str, Course] = {}
    for said in week.said:
        name = module_of(said.facts)
        course = _meant(found, name, said.at_s, said.facts)
        if said.signal == "Q_ENACTMENT" and said.facts.change_id:
            if course is None or course.planted.expects == "nothing":
                wrong.append(said)
            if course is None:
                continue
            course.done.append(said.facts.action_kind)
            by_action[said.facts.action_id] = course
        if said.signal == "Q_REFLECTION_REPORT":
            course = by_action.get(said.facts.action_id, course)
            if course is not None:
                course.ends.append(said.facts.verdict)
        if course is None or said.signal not in ("Q_IMPROVEMENT_ACTION", "FLAG_FOR_REVIEW", "Q_REFLECTION_REPORT"):
            continue
        since_s = said.at_s - (course.planted.from_h + course.planted.shows_after_h) * 3600
        course.found_s = since_s if course.found_s is None else course.found_s
        if said.signal == "FLAG_FOR_REVIEW" and course.flagged_s is None:
            course.flagged_s = since_s
    for course in found:
        course.mended_s = _mended(week, course)
    return found, wrong


def _meant(found: list[Course], name: str, at_s: float, facts: object) -> Course | None:
    """The latest that it can be about; what holds for all only when nothing else does."""
    about = [
        course
        for course in found
        if course.planted.stem in ("", name)
        and course.planted.from_h * 3600 <= at_s < (course.planted.until_h + _ECHO_H) * 3600
    ]
    return max(about, key=lambda course: (bool(course.planted.stem), course.planted.from_h), default=None)


def _mended(week: Week, course: Course) -> float | None:
    """When it was seen for the last time, if that is well before it would have passed by itself."""
    planted, began_s = course.planted, course.planted.from_h * 3600
    straw = week.daemons.get(planted.stem)
    if straw is None or planted.expects == "nothing" or planted.illness is silent:
        return None
    if planted.version:
        ended_s = next((said.at_s for said in week.said if said.signal == "Q_REFLECTION_REPORT"
                        and said.at_s > began_s and module_of(said.facts) == planted.stem), None)  # fmt: skip
        return None if ended_s is None or planted.version == "good" else ended_s - began_s
    within = [each for each in straw.ended if began_s <= each[0] < planted.until_h * 3600]
    bad = [planted.is_bad(duration_s, outcome) for _ended_s, duration_s, outcome in within]
    fine_from = next(
        (number for number, is_bad in enumerate(bad)
         if not is_bad and len(bad) - number >= 20 and sum(bad[number : number + 200]) <= _BY_CHANCE), None,
    )  # fmt: skip
    return None if not fine_from else within[fine_from - 1][0] - began_s
