"""Whether a unit died for want of memory: by its control group, and by what the kernel said."""

from __future__ import annotations

import re

from kloros.consumers.investigation.evidence import Evidence, counted, size
from kloros.errors import CannotObserve
from kloros.machine.deadline import Deadline
from kloros.machine.journal_query import no_journal
from kloros.machine.unit_state import UnitState
from kloros.machine.whole import Machine
from kloros.units import US_PER_S

_KERNEL_LINES = 500
_FULL = 0.95
_KILLED = re.compile(r"Killed process (?P<pid>\d+) \((?P<name>[^)]*)\)")
_AROUND_S = 120
_NEAR_US = 2 * US_PER_S


def look_at_memory(evidence: Evidence, state: UnitState, machine: Machine, deadline: Deadline) -> None:
    """How much it may have, had and has; who was killed for it."""
    use = machine.cgroups.memory(state.group)
    peak = use.peak or state.number("MemoryPeak")
    current = use.current or state.number("MemoryCurrent")
    limit = state.number("MemoryMax") or use.limit
    evidence.saw(memory_peak=peak, memory_now=current, memory_max=limit, oom_kills=use.oom_kills, limit_hits=use.hits)
    if limit:
        known = [f"at most {size(limit)} (MemoryMax=)"]
        known += [f"{size(current)} now"] if current else []
        known += [f"{size(peak)} at its peak"] if peak else []
        evidence.note("memory: " + ", ".join(known))
    if use.oom_kills:
        evidence.saw(oom=True, oom_scope="unit")
        killed = counted(use.oom_kills, "process", "processes")
        evidence.note(f"its control group counts {killed} killed for want of memory (oom_kill)")
    if peak and limit and peak >= _FULL * limit:
        evidence.saw(memory_was_full=True)
    was_killed = evidence.text("signal") == "KILL" or "KILL" in evidence.names("kills") or evidence.holds("oom")
    if was_killed:
        if limit and not peak and not machine.cgroups.has_memory:
            evidence.lack("its memory (nobody counts memory by unit on this machine: no memory controller)")
        _ask_the_kernel(evidence, state, machine, deadline)


def _ask_the_kernel(evidence: Evidence, state: UnitState, machine: Machine, deadline: Deadline) -> None:
    failed_s = evidence.number("first_failed_s") or None
    since_us = round((failed_s - _AROUND_S) * US_PER_S) if failed_s else None
    try:
        lines = machine.journal.of_kernel(_KERNEL_LINES, deadline, since_us)
    except CannotObserve as error:
        evidence.lack(no_journal(error))
        return
    pid, program = state.number("ExecMainPID") or 0, evidence.text("exec_path").rpartition("/")[2]
    ended_us = round(evidence.number("last_end_s") * US_PER_S)
    constraint = ""
    for line in lines:
        if "oom-kill:" in line.message:
            constraint = line.message
        elif match := _KILLED.search(line.message):
            # The kernel names the group only so often in a while; the process it names each time.
            is_near = abs(ended_us - line.ts_us) <= _NEAR_US and program.startswith(match["name"])
            if state.name in constraint or int(match["pid"]) == pid or (is_near and not constraint):
                in_its_group = "Memory cgroup" in line.message
                evidence.saw(oom=True, oom_scope="unit" if in_its_group else "machine", oom_process=match["name"])
                evidence.note(f"kernel: {line.message}")
            constraint = ""
