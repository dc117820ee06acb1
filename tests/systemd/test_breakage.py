"""A machine is broken in every way we know, and the suite finds, asks, investigates, concludes, and acts or flags.

BREAKAGE_PAGE=docs/breakage.md scripts/test tests/systemd/test_breakage.py     # writes the table anew
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.breakages import BREAKAGES
from tests.systemd.breakages.course import Course
from tests.systemd.breakages.disks import small_disks
from tests.systemd.breakages.page import row, table, with_table
from tests.systemd.breakages.proving import Proving, break_and_mend, settle_in
from tests.systemd.breakages.resources import FEW_INODES, SMALL_DISK
from tests.systemd.conftest import Installed
from tests.systemd.machine import booted
from tests.systemd.suite import Suite

ANSWER_WITHIN_S, MEND_WITHIN_S = 110.0, 60.0
KINDS = [breakage.kind for breakage in BREAKAGES]
# What the breakages bring about besides: who was required and failed, what the kernel says of the one that was killed,
# and a daemon of the suite that hears no trigger because it is killed.
SIDE_EFFECTS = ("try-stock.service", "kernel: ", "shadow")


NEEDS_MEMORY = "OOM kill"


@pytest.fixture(scope="module")
def proving(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proving]:
    """All breakages, made at once and mended at once."""
    wanted = {SMALL_DISK: [], FEW_INODES: ["-N", "64"]}
    with (
        small_disks(tmp_path_factory.mktemp("disks"), wanted) as disks,
        booted(installed.binds, installed.files, disks=disks, kernel_log=True) as machine,
    ):
        suite = Suite(machine)
        calm_percent = settle_in(suite)
        breakages = BREAKAGES
        if machine.show("system.slice", "MemoryCurrent") == "[not set]":
            breakages = tuple(breakage for breakage in BREAKAGES if breakage.kind != NEEDS_MEMORY)
        yield break_and_mend(suite, breakages, ANSWER_WITHIN_S, MEND_WITHIN_S, calm_percent)


@pytest.fixture
def course(proving: Proving, kind: str) -> Course:
    """What became of one of them."""
    if kind not in proving.courses:
        pytest.skip("the machine has no memory controller to give to its units")
    return proving.courses[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_asked_about_once_concluded_and_comes_to_its_end(course: Course) -> None:
    assert course.complaints() == []


@pytest.mark.parametrize("kind", KINDS)
def test_mending_closes_it(course: Course, proving: Proving) -> None:
    if course.breakage.gap_type == "pressure_cpu" and not course.is_closed and proving.still_busy:
        pytest.skip("the host has so much else to do that there is still pressure")
    assert course.is_closed, [message["signal"] for message in course.messages]


def test_no_question_stays_open(proving: Proving) -> None:
    excused = "cpu" if proving.still_busy else "none of them"
    assert [question for question in proving.still_open if excused not in question.lower()] == []


def test_nothing_else_is_found(proving: Proving) -> None:
    assert [found for found in proving.others if not any(effect in found[1] for effect in SIDE_EFFECTS)] == []


def test_the_table(proving: Proving) -> None:
    """What was broken and what was concluded, for people."""
    text = table(row(course, proving.broken_ts, proving.mended_ts) for course in proving.courses.values())
    print(f"\n{text}")
    if page := os.environ.get("BREAKAGE_PAGE"):
        Path(page).write_text(with_table(Path(page).read_text(), text))
