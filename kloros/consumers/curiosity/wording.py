"""Findings put into questions as a person would ask them, with a first guess at the answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kloros.consumers.curiosity.evidence import clipped, stable_name

MAX_QUESTION_CHARS = 400
MAX_HYPOTHESIS_CHARS = 600

_RESOURCES = {"cpu": "the CPUs", "memory": "the memory", "io": "the disks"}
_ENDED_BY = {
    "timeout": "a time-out", "dependency": "a failed dependency", "start-limit-hit": "too many starts",
    "oom-kill": "an out-of-memory kill", "resources": "missing resources", "protocol": "a broken start protocol",
    "exec-condition": "an unmet condition", "condition": "an unmet condition",
}  # fmt: skip
_GUESSES = {
    "203/EXEC": "The program in ExecStart cannot be run: it is missing, not executable, or its interpreter is missing.",
    "217/USER": "The user in User= does not exist.",
    "216/GROUP": "The group in Group= does not exist.",
    "200/CHDIR": "The directory in WorkingDirectory= is missing or closed to it.",
    "209/STDOUT": "Its output cannot be opened.",
    "226/NAMESPACE": "A path that its sandbox names is missing.",
    "243/CREDENTIALS": "A credential that it loads is missing.",
    "oom-kill": "It needed more memory than it, or the machine, may have.",
    "watchdog": "It hung: its watchdog was not fed in time.",
    "timeout": "It did not start, or stop, in the time it has.",
    "dependency": "Something that it requires failed first.",
    "core-dump": "A fault in the program itself.",
    "signal": "Somebody or something killed it.",
    "start-limit-hit": "It failed again and again until systemd gave up.",
    "exit-code": "The program itself refused; its last lines in the journal should say why.",
}
_GUESSES_BY_TYPE = {
    "unit_unhealthy": "Its last lines in the journal should say why.",
    "journal_errors": "A fault in the program, its settings, or something that it depends on.",
    "journal_overrun": "One program logs the same error without pause.",
    "pressure_cpu": "One group of processes takes more CPU than it used to.",
    "pressure_memory": "One group of processes holds more memory than the machine can spare.",
    "pressure_io": "One group of processes reads or writes without pause.",
    "memory_low": "One group of processes has grown.",
    "swap_exhausted": "Memory has been short for long, and swap is full of what was pushed out.",
    "disk_full": "Logs, caches or one growing directory.",
    "inodes_exhausted": "A directory with very many small files.",
    "files_exhausted": "One program opens files and does not close them.",
    "process_files_exhausted": "It opens files and does not close them, or its limit is too low for its work.",
    "daemon_silent": "It hangs, was stopped, or cannot reach the bus.",
    "cycles_failing": "A fault in it, or something that it needs is missing.",
    "cycles_slow": "It has more to do than its interval allows, or the machine is busy.",
    "fallback_engaged": "The scheduler does not run, or its triggers do not arrive.",
    "bus_silent": "The bus's proxy is away.",
    "bus_gap": "It was too slow to read, or its connection broke.",
    "bus_drop": "It is too slow for what it hears.",
    "scanner_blind": "What it looks at is missing here, or it may not look.",
    "introspection_overflow": "One cause makes very many findings.",
}


def question(gap_type: str, gap_name: str, evidence: Mapping[str, str]) -> str:
    """The question that a finding raises."""
    name = stable_name(gap_type, gap_name)
    words = _of_unit(name, evidence) if gap_type == "unit_unhealthy" else _of_others(gap_type, name, evidence)
    return clipped(words, MAX_QUESTION_CHARS)


def hypothesis(gap_type: str, evidence: Mapping[str, str], detail: str, measures: Sequence[str]) -> str:
    """A first guess, and what was seen and measured."""
    cause = f"{evidence.get('exit', '')} {evidence.get('result', '')}"
    guess = next((text for mark, text in _GUESSES.items() if mark in cause), _GUESSES_BY_TYPE.get(gap_type, ""))
    told = [each for each in measures if not each.startswith(("message=", "error=", "reason="))]
    seen = f"Seen: {detail}" if detail else ""
    measured = f"({', '.join(told)})" if told else ""
    return clipped(" ".join(part for part in (guess, seen, measured) if part), MAX_HYPOTHESIS_CHARS)


def _of_unit(unit: str, evidence: Mapping[str, str]) -> str:
    how = _how_it_ended(evidence.get("exit") or evidence.get("result") or "")
    with_what = f" with {how}" if how else ""
    return {
        "start_limited": f"Why does {unit} fail{with_what} again and again, until systemd gives up?",
        "flapping": f"Why does {unit} have to be restarted again and again"
        + (f", lately after {how}?" if how else "?"),
        "stuck": f"Why does {unit} neither get started nor stopped?",
        "waiting_to_restart": f"Why does {unit} fail{with_what} whenever it is started?",
    }.get(evidence.get("problem", ""), f"Why does {unit} fail{with_what}?")


def _how_it_ended(how: str) -> str:
    """`exit-code, status 203/EXEC` as a person says it: exit status 203/EXEC."""
    result, _, rest = how.partition(", ")
    if result == "exit-code" and rest:
        return f"exit {rest}"
    if result in ("signal", "watchdog", "core-dump"):
        return {"signal": rest or "a signal", "watchdog": "a watchdog time-out", "core-dump": "a core dump"}[result]
    return "" if result in ("", "unknown", "success", "exit-code") else _ENDED_BY.get(result, result)


def _of_others(gap_type: str, name: str, evidence: Mapping[str, str]) -> str:
    if gap_type == "journal_errors":
        source, _, template = name.partition(": ")
        return f"Why does {source} log the error “{template}”?" if template else f"Why does {source} log errors?"
    if gap_type.startswith("pressure_"):
        resource = _RESOURCES.get(gap_type.removeprefix("pressure_"), name)
        return f"What keeps {resource} so busy that work has to wait?"
    if gap_type in ("bus_gap", "bus_drop"):
        observer, _, signal = name.partition(": ")
        who, what = evidence.get("observer", observer), evidence.get("signal", signal)
        return f"Why does {who} {'miss' if gap_type == 'bus_gap' else 'drop'} messages of {what}?"
    if gap_type in _QUESTIONS:
        return _QUESTIONS[gap_type].format(name=name.replace("{", "(").replace("}", ")"))
    return f"What is wrong with {name} ({re.sub('[_ ]+', ' ', clipped(gap_type, 64))})?"


_QUESTIONS = {
    "journal_overrun": "Why are errors logged faster than they can be read?",
    "memory_low": "What uses up the memory?",
    "swap_exhausted": "What uses up the swap?",
    "disk_full": "What fills the disk at {name}?",
    "inodes_exhausted": "What uses up the inodes of {name}?",
    "files_exhausted": "What keeps nearly all of the machine's file descriptors open?",
    "process_files_exhausted": "Why does {name} keep nearly as many files open as it may?",
    "daemon_silent": "Why is {name} not heard any more?",
    "cycles_failing": "Why do the cycles of {name} fail?",
    "cycles_slow": "Why do the cycles of {name} take longer than they may?",
    "fallback_engaged": "Why does {name} hear no triggers?",
    "bus_silent": "Why is nothing heard on the bus?",
    "scanner_blind": "Why can the scanner {name} not look?",
    "introspection_overflow": "Why are more findings open than can be kept?",
}
