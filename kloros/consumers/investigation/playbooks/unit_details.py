"""Parts of the look at a unit: its program, its user, what it stumbled over, its dependencies, its files."""

from __future__ import annotations

from kloros.consumers.investigation.evidence import Evidence, lasting, several, size
from kloros.consumers.investigation.troubles import path_in, port_in, ports_among
from kloros.errors import CannotObserve
from kloros.machine import programs, users
from kloros.machine.deadline import Deadline
from kloros.machine.mounts import Room, mounts
from kloros.machine.names import readable
from kloros.machine.unit_state import UnitState, active_state, changed_at
from kloros.machine.whole import Machine
from kloros.units import US_PER_S

_MOST_DEPENDENCIES = 60
_LITTLE_ROOM, _LITTLE_SHARE = 1 << 20, 0.01
_STRONG = ("Requires", "Requisite", "BindsTo")
_NEEDED_BY = ("RequiredBy", "RequisiteOf", "BoundBy")
_FAULTS = {
    "missing": "no such file", "directory": "is a directory", "not_executable": "is not executable",
    "bad_format": "is neither a program nor a script with an interpreter", "unseen": "may not be looked at",
}  # fmt: skip


def look_at_program(evidence: Evidence, state: UnitState) -> None:
    """ExecStart= (or what failed to be run instead), User=, Group=, WorkingDirectory=: whether they are there."""
    path = evidence.text("step_program") or next((path for path, _ in state.commands), "")
    if path.startswith("/"):
        evidence.saw(exec_path=path)
        if state.text("RootDirectory") or state.text("RootImage"):
            evidence.lack(f"{path} (it lies in the unit's own root directory)")
        else:
            _look_at_file(evidence, path)
    user, group, work_dir = evidence.text("user"), evidence.text("group"), evidence.text("work_dir")
    if user and not users.user_exists(user) and not state.own.get("DynamicUser"):
        evidence.saw(user_missing=True)
        evidence.note(f"User={user}: there is no such user")
    if group and not users.group_exists(group) and not state.own.get("DynamicUser"):
        evidence.saw(group_missing=True)
        evidence.note(f"Group={group}: there is no such group")
    if work_dir.startswith("/") and programs.look_at_program(work_dir).fault == "missing":
        evidence.saw(work_dir_missing=True)
        evidence.note(f"WorkingDirectory={work_dir}: no such directory")


def _look_at_file(evidence: Evidence, path: str) -> None:
    program = programs.look_at_program(path)
    evidence.saw(exec_fault=program.fault or "none", interpreter=program.interpreter)
    if program.fault == "bad_interpreter":
        evidence.note(f"ExecStart={path}: its interpreter {program.interpreter} does not exist")
    elif program.fault == "unseen":
        evidence.lack(f"{path} (permission denied)")
    elif program.fault is not None:
        access = programs.describe_access(path)
        evidence.note(f"ExecStart={path}: {_FAULTS[program.fault]}" + (f" ({access})" if access else ""))


def look_at_trouble(evidence: Evidence, state: UnitState, machine: Machine) -> None:
    """What the trouble that it names is about: who holds the port, who may use the file."""
    trouble, line = evidence.text("trouble"), evidence.text("trouble_line")
    if trouble == "address_in_use":
        words = [word for _, arguments in state.commands for word in arguments]
        _look_at_ports(evidence, state.name, [port_in(line), *ports_among(words)], machine)
    elif trouble in ("permission_denied", "missing_file", "read_only"):
        _look_at_path(evidence, path_in(line), state, trouble)
    elif trouble == "no_space":
        _look_at_room(evidence, path_in(line), machine)


def _look_at_path(evidence: Evidence, path: str | None, state: UnitState, trouble: str) -> None:
    who = state.text("User") or "root"
    if trouble == "permission_denied":
        evidence.note(f"{state.name} runs as {who}")
    if path is None:
        return
    access = programs.describe_access(path)
    is_missing = access is None and programs.look_at_program(path).fault == "missing"
    evidence.saw(path=path, path_is_there=True if access is not None else False if is_missing else None)
    if access is not None:
        evidence.note(f"{path}: {access}")
    elif is_missing:
        evidence.note(f"{path}: no such file")
    else:
        evidence.lack(f"{path} (permission denied)")


def _look_at_room(evidence: Evidence, path: str | None, machine: Machine) -> None:
    """Which file system is full, and whether it still is: the one of the path, else any that is."""
    rooms = mounts(machine.proc, path)
    full = [room for room in rooms if _is_full(room)]
    for room in full[:3]:
        what = "no inodes" if room.free_inodes == 0 else f"{size(room.free_bytes)} of {size(room.total_bytes)}"
        evidence.note(f"{readable(room.point)}: {what} free")
    if full:
        evidence.saw(full_mount=readable(full[0].point))
    elif rooms and path is not None and not path.startswith("/dev/"):
        evidence.saw(has_room_now=True)


def _is_full(room: Room) -> bool:
    """Little is left, and little of it: a small one is not full because it is small."""
    return room.free_bytes < min(_LITTLE_ROOM, _LITTLE_SHARE * room.total_bytes) or room.free_inodes == 0


def _look_at_ports(evidence: Evidence, unit: str, ports: list[int | None], machine: Machine) -> None:
    """The first of the ports that somebody holds, else the first one."""
    wanted = [port for port in dict.fromkeys(ports) if port]
    held = [holder for port in wanted if (holder := machine.listeners.holder(port))]
    others = [holder for holder in held if holder.unit != unit]
    if others:
        holder = others[0]
        evidence.saw(port=holder.port, port_holder=str(holder), port_unit=holder.unit)
        evidence.note(f"port {holder.port} is held by {holder}")
    elif wanted and not held:
        evidence.saw(port=wanted[0], port_is_free=True)
        evidence.note(f"port {wanted[0]} is free now")


def look_at_dependencies(evidence: Evidence, state: UnitState, machine: Machine, deadline: Deadline) -> None:
    """What it needs that is not there, and what waits for it."""
    try:
        needed = [name for kind in _STRONG for name in state.names(kind)]
        states = _states(needed, machine, deadline)
        failed = [name for name, (active, _) in states.items() if active == "failed"]
        absent = [name for name, (active, _) in states.items() if active == "inactive"]
        waiting = _states([name for kind in _NEEDED_BY for name in state.names(kind)], machine, deadline)
    except CannotObserve as error:
        evidence.lack(f"its dependencies ({error.reason})")
        return
    evidence.saw(failed_dependencies=failed, absent_dependencies=absent)
    for name in failed:
        evidence.note(f"it needs {name}, which failed ({states[name][1]})")
    if absent and evidence.holds("dependency_failed"):
        evidence.note(f"it needs {several(absent)}, not active")
    held_up = [name for name, (active, _) in waiting.items() if active in ("inactive", "failed")]
    if held_up:
        evidence.saw(held_up=held_up)
        evidence.note(f"what needs it is not active either: {several(held_up)}")


def _states(names: list[str], machine: Machine, deadline: Deadline) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for name in names[:_MOST_DEPENDENCIES]:
        if deadline.is_over:
            break
        if not name.endswith((".slice", ".target")):
            found[name] = active_state(machine.systemd, name)
    return found


def look_at_files(evidence: Evidence, state: UnitState) -> None:
    """Whether its unit file, a drop-in or its program changed shortly before it began to fail."""
    first_failed_s = evidence.number("first_failed_s")
    paths = [*state.files, evidence.text("exec_path")]
    changed = changed_at(path for path in paths if path)
    if not changed:
        return
    latest = max(changed, key=lambda path: changed[path])
    evidence.saw(changed_path=latest, changed_s=changed[latest])
    if first_failed_s:
        before_s = first_failed_s - changed[latest]
        if 0 <= before_s < 86_400:
            evidence.saw(changed_before=True)
            evidence.note(f"{latest} was changed {lasting(before_s)} before the first failure that is known")
        elif before_s < 0:
            evidence.saw(changed_after=True)
            evidence.note(f"{latest} was changed after it began to fail")
    changed_us = state.number("InactiveExitTimestamp")
    if state.unit.get("NeedDaemonReload") and changed_us is not None:
        evidence.saw(needs_reload=True)
        when = lasting(max(0.0, changed[latest] - changed_us / US_PER_S))
        evidence.note(f"its unit file was changed and systemd not told (daemon-reload), {when} after its last start")
