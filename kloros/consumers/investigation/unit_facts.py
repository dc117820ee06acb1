"""What systemd and the journal say of a unit, put into evidence. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from kloros.consumers.investigation.ends import SETUP_STEPS, Life, read_life, signal_name
from kloros.consumers.investigation.evidence import Evidence, counted, lasting
from kloros.consumers.investigation.troubles import last_trouble, telling_line
from kloros.machine.journal_query import JournalLine
from kloros.machine.unit_state import UnitState
from kloros.units import US_PER_S

_CODES = {1: "exited", 2: "killed", 3: "dumped"}
_RECENT_US = 3_600 * US_PER_S
_QUOTED = 4
_NO_NEWS = ("Start", "Stopp")
_DULL = ("Failed with result", "Main process exited", "Failed to start", "Killing process")
_BAD_NEWS = (
    "Failed",
    "failed",
    "timed out",
    "timeout",
    "exited",
    "too quickly",
    "killed",
    "Killing",
    "Sent signal",
    "ignoring",
)
# Properties of a unit that other rules ask for, by the name they have in evidence.
_SECONDS = {"start_timeout_s": "TimeoutStartUSec", "stop_timeout_s": "TimeoutStopUSec", "watchdog_s": "WatchdogUSec"}
_LIMITS = {"memory_max": "MemoryMax", "tasks_max": "TasksMax", "files_max": "LimitNOFILESoft"}


def tell_state(evidence: Evidence, state: UnitState, now_us: int) -> None:
    """What systemd says of it now."""
    result = state.text("Result")
    active, sub = state.text("ActiveState"), state.text("SubState")
    changed_us = state.number("StateChangeTimestamp")
    in_state_s = (now_us - changed_us) / US_PER_S if changed_us else None
    evidence.saw(
        load_state=state.text("LoadState"), load_error=state.load_error or None, active_state=active, sub_state=sub,
        result=result if result not in ("", "success") else None, restarts=state.number("NRestarts"),
        restart_policy=state.text("Restart") or None, kind=state.text("Type") or None, in_state_s=in_state_s,
        user=state.text("User") or None, group=state.text("Group") or None,
        work_dir=state.text("WorkingDirectory").lstrip("!-") or None, oom_policy=state.text("OOMPolicy") or None,
        start_burst=state.number("StartLimitBurst"), start_interval_s=state.seconds("StartLimitIntervalUSec"),
    )  # fmt: skip
    evidence.saw(**{name: state.seconds(source) for name, source in _SECONDS.items()})
    evidence.saw(**{name: state.number(source) for name, source in _LIMITS.items()})
    since = f" for {lasting(in_state_s)}" if in_state_s is not None and in_state_s > 0 else ""
    about = [f"result {result}"] if evidence.holds("result") else []
    about += [counted(evidence.count("restarts"), "automatic restart")] if evidence.holds("restarts") else []
    evidence.note(f"{state.name} is {active} ({sub}){since}" + (f", {', '.join(about)}" if about else ""))
    if state.text("LoadState") not in ("loaded", ""):
        evidence.note(f"systemd says of its unit file: {state.text('LoadState')}; {state.load_error}".rstrip("; "))
    if state.failed_command and evidence.holds("result"):
        evidence.saw(failed_command=state.failed_command)
        evidence.note(f"{state.failed_command} failed")
    code = state.number("ExecMainCode")
    if evidence.holds("result") and code:
        _tell_end(evidence, _CODES.get(code, ""), state.number("ExecMainStatus") or 0)


def tell_life(evidence: Evidence, lines: Sequence[JournalLine]) -> Life:
    """What systemd's lines say of how it fared; what its own say of why."""
    life = read_life((line.ts_us, line.message) for line in lines if line.by_manager)
    end = life.last
    if not evidence.holds("code") and end is not None:
        _tell_end(evidence, end.code, end.status)
        evidence.saw(is_control=None if end.is_main else True)
    if life.result and not evidence.holds("result"):
        evidence.saw(result=life.result)
    recent = [each for each in life.ends if each.is_main and life.ends[-1].ts_us - each.ts_us <= _RECENT_US]
    killed = [signal_name(each.status) for each in recent if each.code in ("killed", "dumped")]
    evidence.saw(
        recent_ends=len(recent), kills=killed, sent=life.sent or None, gave_up=life.gave_up or None,
        timed_out=life.timed_out or None, oom=life.oom or None,
        dependency_failed=life.dependency or None, longest_run_s=round(life.longest_run_s, 1),
        unit_file_line=life.unit_file_line or None, watchdog_limit=life.watchdog or None,
        dumped=next((line.dumped for line in reversed(lines) if line.dumped), None),
    )  # fmt: skip
    if evidence.holds("step") and life.step == evidence.text("step"):
        evidence.saw(step_program=life.step_program, step_reason=life.step_reason)
    if end is not None:
        evidence.saw(last_end_s=end.ts_us / US_PER_S)
    if life.failed_us:
        evidence.saw(first_failed_s=life.failed_us[0] / US_PER_S, last_failed_s=life.failed_us[-1] / US_PER_S)
    _tell_own_lines(evidence, lines, life)
    for message in _worth_quoting(lines, life):
        evidence.note(f"journal: {message}")
    return life


def _tell_own_lines(evidence: Evidence, lines: Sequence[JournalLine], life: Life) -> None:
    """The unit's own words: of its last run, where it said something in that, else of earlier ones."""
    own = [line for line in lines if not line.by_manager and not line.from_kernel and line.message.strip()]
    run_us = life.starts_us[-1] if life.starts_us else 0
    if life.ends and run_us > life.ends[-1].ts_us:  # it runs again: why it ended was said before
        run_us = next((start for start in reversed(life.starts_us) if start < life.ends[-1].ts_us), 0)
    last_run = [line.message for line in own if line.ts_us >= run_us - US_PER_S // 10]
    said = last_run or [line.message for line in own]
    trouble = last_trouble(said) or last_trouble([line.message for line in own if line.priority <= 4])
    evidence.saw(own_line=telling_line(said) or None)
    if trouble is not None:
        evidence.saw(trouble=trouble.kind, trouble_line=trouble.line, trouble_passes=trouble.passes)
        evidence.note(f"journal: {trouble.line}")
    elif said:
        evidence.note(f"journal: {telling_line(said)}")
    if said:
        evidence.note(f"journal: {said[-1]}")


def _tell_end(evidence: Evidence, code: str, status: int) -> None:
    evidence.saw(code=code, status=status)
    if code == "exited":
        step = SETUP_STEPS.get(status)
        evidence.saw(step=step)
        evidence.note(f"its process exited with status {status}" + (f"/{step}" if step else ""))
    elif code:
        evidence.saw(signal=signal_name(status))
        dumped = " and dumped its core" if code == "dumped" else ""
        evidence.note(f"its process was ended by signal {status} ({signal_name(status)}){dumped}")


def _worth_quoting(lines: Sequence[JournalLine], life: Life) -> list[str]:
    """Of systemd's lines those that tell of the last trouble, in order; the common ones only where there is room."""
    begun_us = max((start for start in life.starts_us if start <= life.told_us), default=0) - US_PER_S
    said = [line for line in lines if line.by_manager and line.ts_us >= begun_us]
    telling = list(dict.fromkeys(line.message for line in said if _is_bad_news(line)))
    dull = [message for message in telling if any(mark in message for mark in _DULL)]
    kept = [message for message in telling if message not in dull][-_QUOTED:]
    shown = {*kept, *dull[: _QUOTED - len(kept)]}
    return [message for message in telling if message in shown]


def _is_bad_news(line: JournalLine) -> bool:
    if line.message.startswith(_NO_NEWS) or "Scheduled restart" in line.message:
        return False
    return line.priority <= 4 or any(mark in line.message for mark in _BAD_NEWS)
