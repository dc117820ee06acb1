"""Beats through a proxy to a listener, by one contender; what became of them, and what it cost."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import QUEUE_MESSAGES, Child, Room, children, console, cpu_s, dump, percentile, room, script

FLOOR, KLOROS, APSCHEDULER = "bare timerfd + pyzmq", "KLoROS scheduler", "APScheduler 3"
FORGETFUL = "KLoROS without its ledger"
BODY_BYTES = 400  # of a bare trigger; ours are as long
WARM_UP_US = 1_000_000  # at least; every job runs once before it counts
GRACE_S = 1.0
STEP_S = 0.01

_SUITE_TOML = "[metrics]\nenabled = false\n\n[logs]\nlevel = 'info'\n"


@dataclass(frozen=True)
class Job:
    """An entry of a schedule; all jobs of a benchmark have the same interval."""

    name: str
    interval_us: int
    offset_us: int

    @property
    def signal(self) -> str:
        return f"Q_TRIGGER_{self.name.upper()}"


def spread(count: int, interval_us: int) -> list[Job]:
    """`count` jobs, evenly spread over their interval."""
    return [Job(f"bench_{number:05}", interval_us, number * interval_us // count) for number in range(count)]


def at_once(count: int, interval_us: int) -> list[Job]:
    """`count` jobs that are always due together."""
    return [Job(f"bench_{number:05}", interval_us, 0) for number in range(count)]


@dataclass
class Outcome:
    """What became of the beats that were due within the window, in milliseconds of lateness, sorted."""

    due: int
    emitted_ms: list[float] = field(default_factory=list)
    received_ms: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    span_s: float = 0.0

    @property
    def missing(self) -> int:
        return self.due - len(self.received_ms)

    def emitted(self, percent: float) -> float:
        return percentile(self.emitted_ms, percent)

    def received(self, percent: float) -> float:
        return percentile(self.received_ms, percent)


def run(contender: str, jobs: Sequence[Job], seconds: float) -> Outcome:
    """One contender for `seconds`, after its warm-up."""
    with room() as place, children(place) as start:
        return _CONTENDERS[contender](place, start, jobs, seconds)


def _bare(place: Room, start: Callable[..., Child], jobs: Sequence[Job], seconds: float, emitter: list[str]) -> Outcome:
    runtime, result = place.runtime, place.path / "heard"
    start(script("bare.py", "proxy", runtime, "--queue-messages", QUEUE_MESSAGES)).wait_line("ready")
    listener = start(script("bare.py", "listener", runtime, "--result", result))
    listener.wait_line("ready")
    jobs_file = dump(place.path / "jobs.json", [vars(job) | {"signal": job.signal} for job in jobs])
    scheduler = start(script(*emitter[:1], *emitter[1:], runtime, "--jobs", jobs_file, "--body-bytes", BODY_BYTES))
    return _watch(listener, scheduler, jobs, seconds, result)


def _floor(place: Room, start: Callable[..., Child], jobs: Sequence[Job], seconds: float) -> Outcome:
    return _bare(place, start, jobs, seconds, ["bare.py", "beats"])


def _apscheduler(place: Room, start: Callable[..., Child], jobs: Sequence[Job], seconds: float) -> Outcome:
    return _bare(place, start, jobs, seconds, ["apscheduler_beats.py"])


def _kloros(place: Room, start: Callable[..., Child], jobs: Sequence[Job], seconds: float) -> Outcome:
    return _paced_by(["-m", "kloros.orchestration.scheduler_daemon"], place, start, jobs, seconds)


def _forgetful(place: Room, start: Callable[..., Child], jobs: Sequence[Job], seconds: float) -> Outcome:
    return _paced_by(script("suite_parts.py", "forgetful"), place, start, jobs, seconds)


def _paced_by(
    scheduler: Sequence[str], place: Room, start: Callable[..., Child], jobs: Sequence[Job], seconds: float
) -> Outcome:
    result = place.path / "heard"
    (place.config / "kloros.toml").write_text(_SUITE_TOML)
    entries = (
        f"[entries.{job.name}]\nsignal = '{job.signal}'\necosystem = 'bench'\n"
        f"interval_s = {job.interval_us / 1e6}\noffset_s = {job.offset_us / 1e6}\n"
        for job in jobs
    )
    (place.config / "scheduler_config.toml").write_text("\n".join(entries))
    start(script("suite_parts.py", "forwarder", place.runtime, "--queue-messages", QUEUE_MESSAGES)).wait_line("ready")
    listener = start(script("suite_parts.py", "listener", place.runtime, "--result", result))
    listener.wait_line("ready")
    return _watch(listener, start(scheduler), jobs, seconds, result)


_CONTENDERS = {FLOOR: _floor, KLOROS: _kloros, FORGETFUL: _forgetful, APSCHEDULER: _apscheduler}


def _watch(listener: Child, scheduler: Child, jobs: Sequence[Job], seconds: float, result: Path) -> Outcome:
    listener.wait_line("first")
    warm_up_us = max(WARM_UP_US, jobs[0].interval_us)
    began_us = time.time_ns() // 1000 + warm_up_us
    time.sleep(warm_up_us / 1e6)
    cpu_before_s, before_s, before_us = cpu_s(scheduler.pid), time.monotonic(), time.time_ns() // 1000
    time.sleep(seconds)
    used_s, span_s = cpu_s(scheduler.pid) - cpu_before_s, time.monotonic() - before_s
    step_s = (time.time_ns() // 1000 - before_us) / 1e6 - span_s
    if abs(step_s) > STEP_S:
        console.print(f"  the wall clock was stepped by {step_s:+.3f} s during this one", style="bold red")
    ended_us = began_us + round(seconds * 1e6)
    time.sleep(GRACE_S)  # for what is late
    listener.stop()
    outcome = _outcome(jobs, began_us, ended_us, result)
    outcome.cpu_s, outcome.span_s = used_s, span_s
    return outcome


def _outcome(jobs: Sequence[Job], began_us: int, ended_us: int, result: Path) -> Outcome:
    due = sum(
        (ended_us - 1 - job.offset_us) // job.interval_us - (began_us - 1 - job.offset_us) // job.interval_us
        for job in jobs
    )
    heard = array("q")
    heard.frombytes(result.read_bytes())
    outcome = Outcome(due)
    for due_us, emitted_us, received_us in zip(heard[::3], heard[1::3], heard[2::3], strict=True):
        if began_us <= due_us < ended_us:
            outcome.emitted_ms.append((emitted_us - due_us) / 1000)
            outcome.received_ms.append((received_us - due_us) / 1000)
    outcome.emitted_ms.sort()
    outcome.received_ms.sort()
    return outcome
