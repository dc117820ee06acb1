"""The control groups this process is in (version 2), from its own up to the outermost it can see, and their limits."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from kloros.errors import CannotObserve

CGROUP_ROOT = Path("/sys/fs/cgroup")
# Pages that hold files are taken back when memory is wanted, as in the kernel's own MemAvailable.
_RECLAIMABLE = ("active_file", "inactive_file", "slab_reclaimable")


class MemoryUse(NamedTuple):
    """Bytes of memory and of swap that a group uses and may use at most; None where there is no limit."""

    used: int
    limit: int | None
    swap_used: int
    swap_limit: int | None


def own_groups(proc: Path = Path("/proc"), root: Path = CGROUP_ROOT) -> list[Path]:
    """The directories of the groups, the innermost first.

    Raises:
        CannotObserve: There are no control groups of version 2.
    """
    top = next((each for each in (root, root / "unified") if (each / "cgroup.controllers").is_file()), None)
    if top is None:
        raise CannotObserve(f"no control groups of version 2 at {root}")
    try:
        lines = (proc / "self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CannotObserve(f"own control group unknown ({error})") from error
    own = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")
    here = top / own.lstrip("/")
    if not here.is_dir() or ".." in here.parts:  # told in terms of a machine around us that we cannot see
        here = top
    return [here, *(parent for parent in here.parents if parent == top or top in parent.parents)]


def memory_use(group: Path) -> MemoryUse | None:
    """What the group uses; None where its memory is not counted (the machine's own root, say)."""
    current = _number(group / "memory.current")
    if current is None:
        return None
    limits = [each for each in (_number(group / "memory.max"), _number(group / "memory.high")) if each is not None]
    return MemoryUse(
        used=max(0, current - _reclaimable(group / "memory.stat")),
        limit=min(limits, default=None),
        swap_used=_number(group / "memory.swap.current") or 0,
        swap_limit=_number(group / "memory.swap.max"),
    )


def limited(group: Path) -> set[str]:
    """Of what the group may have only so much: `cpu`, `memory`, `io`. Its own pressure then tells more than the
    machine's."""
    use = memory_use(group)
    is_limited = {
        "cpu": _text(group / "cpu.max").split(" ")[0].isdigit(),
        "memory": use is not None and use.limit is not None,
        "io": bool(_text(group / "io.max")),
    }
    return {resource for resource, is_so in is_limited.items() if is_so}


def _reclaimable(path: Path) -> int:
    counts = dict(line.split(" ", 1) for line in _text(path).splitlines() if " " in line)
    return sum(int(counts.get(name, 0)) for name in _RECLAIMABLE)


def _number(path: Path) -> int | None:
    """The file's number; None when there is no such file, or it says `max`."""
    text = _text(path)
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
