"""What curiosity really asks, about several units, mounts and daemons: only what is the same is folded."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

from support.alike import is_folded

from kloros.consumers.curiosity.wording import question
from kloros.consumers.dedup.hashed_words import HashedWords
from kloros.consumers.dedup.question import text_of
from kloros.consumers.dedup.vectors import packed

UNITS = ("nginx.service", "redis.service", "kloros-decay.service")
PROBLEMS = ("failed", "start_limited", "flapping", "stuck", "waiting_to_restart")
EXITS = (
    "exit-code, status 1", "exit-code, status 203/EXEC", "exit-code, status 217/USER", "signal, signal 9", "oom-kill",
    "timeout", "watchdog", "dependency", "core-dump, signal 11",
)  # fmt: skip
LOGGED = (
    "connect() failed (<n>: Connection refused) while connecting to upstream",
    "open() <path> failed (<n>: No such file or directory)",
    "could not connect to redis", "could not connect to postgres", "out of memory", "permission denied",
)  # fmt: skip
OF_THE_MACHINE = (
    "memory_low", "swap_exhausted", "files_exhausted", "journal_overrun", "bus_silent", "introspection_overflow",
    "pressure_cpu", "pressure_memory", "pressure_io",
)  # fmt: skip
OF_DAEMONS = ("daemon_silent", "cycles_failing", "cycles_slow", "fallback_engaged")
DAEMONS = ("decay_daemon", "shadow_daemon", "scheduler_daemon")


class Asked(NamedTuple):
    """A question; `about`: two with the same are the same question."""

    text: str
    about: tuple[str, ...]


def asked(gap_type: str, gap_name: str, **evidence: str) -> Asked:
    return Asked(text_of(question(gap_type, gap_name, evidence), gap_name), (gap_type, gap_name))


def every_question() -> list[Asked]:
    failing = [
        Asked(asked("unit_unhealthy", unit, problem=problem, exit=ended).text, (unit, ended))
        for unit in UNITS
        for problem in PROBLEMS
        for ended in EXITS
    ]
    logging = [asked("journal_errors", f"{unit}: {line}") for unit in UNITS for line in LOGGED]
    machine = [asked(gap_type, gap_type.removeprefix("pressure_")) for gap_type in OF_THE_MACHINE]
    mounts = [asked(what, mount) for mount in ("/", "/var", "/home") for what in ("disk_full", "inodes_exhausted")]
    daemons = [asked(what, daemon) for daemon in DAEMONS for what in OF_DAEMONS]
    losses = [
        asked(what, f"{daemon}: {signal}", observer=daemon, signal=signal)
        for daemon in DAEMONS
        for signal in ("HEARTBEAT", "OBSERVATION")
        for what in ("bus_gap", "bus_drop")
    ]
    others = [asked("process_files_exhausted", process) for process in ("java[12]", "python3[7]")]
    others += [asked("scanner_blind", scanner) for scanner in ("journal", "units", "pressure")]
    others += [asked(what, name) for what in ("zfs_degraded", "raid_failed") for name in ("tank", "md0")]
    return failing + logging + machine + mounts + daemons + losses + others


def test_no_two_questions_about_different_things_are_folded() -> None:
    every = every_question()
    vectors = [packed(vector) for vector in HashedWords().embed([each.text for each in every])]
    wrongly = [
        (one.text, other.text)
        for (one, vector), (other, other_vector) in combinations(zip(every, vectors, strict=True), 2)
        if one.about != other.about and one.text != other.text
        and is_folded(one.text, other.text, vector, other_vector)
    ]  # fmt: skip
    assert len(every) > 200
    assert wrongly == []


def test_a_unit_that_ends_in_the_same_way_is_one_question_whether_it_failed_once_or_was_given_up() -> None:
    once, given_up = (
        asked("unit_unhealthy", "nginx.service", problem=problem, exit="exit-code, status 1")
        for problem in ("failed", "start_limited")
    )
    assert once.text != given_up.text
    vectors = [packed(vector) for vector in HashedWords().embed([once.text, given_up.text])]
    assert is_folded(once.text, given_up.text, *vectors)
