"""What control groups tell: memory, CPU, I/O and processes of a unit, on cgroup v2, v1, or both side by side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from kloros.units import US_PER_S

_NO_LIMIT = 1 << 60  # v1 writes "no limit" as a number of this size
_NS_PER_US = 1_000
_LEAVES = (".service", ".scope", ".socket", ".mount", ".swap")


class MemoryUse(NamedTuple):
    """Bytes; None: not told here. oom_kills: processes that the kernel killed in it for want of memory.

    hits: how often it ran into its limit.
    """

    current: int | None = None
    peak: int | None = None
    limit: int | None = None
    oom_kills: int | None = None
    hits: int | None = None


class Cgroups:
    """The hierarchies below `root`. Every question is answered with None where there is nobody to answer it."""

    def __init__(self, root: Path = Path("/sys/fs/cgroup")) -> None:
        self._root = root
        candidates = (root, root / "unified")
        self.v2 = next((each for each in candidates if (each / "cgroup.controllers").exists()), None)

    @property
    def has_memory(self) -> bool:
        """Whether anybody counts memory by unit."""
        return any(self._memory_groups("/system.slice"))

    def units(self) -> list[str]:
        """The paths of all units that have a control group: `/system.slice/nginx.service`."""
        base = self.v2 if self.v2 is not None else self._root / "systemd"
        return sorted(self._below(base, "")) if base.is_dir() else []

    def _below(self, base: Path, path: str, depth: int = 0) -> Iterator[str]:
        try:
            children = [child.name for child in (base / path.lstrip("/")).iterdir() if child.is_dir()]
        except OSError:
            return
        for name in children:
            inner = f"{path}/{name}"
            if name.endswith(_LEAVES):
                yield inner
            elif depth < 8:
                yield from self._below(base, inner, depth + 1)

    def memory(self, path: str) -> MemoryUse:
        """Of the group at `path`, as its controller tells it, v2 first."""
        for group in self._memory_groups(path):
            return self._memory_v2(group) if (group / "memory.current").exists() else self._memory_v1(group)
        return MemoryUse()

    def _memory_groups(self, path: str) -> Iterator[Path]:
        inner = path.strip("/")
        if not inner:
            return
        if self.v2 is not None and (self.v2 / inner / "memory.current").exists():
            yield self.v2 / inner
        if (self._root / "memory" / inner / "memory.usage_in_bytes").exists():
            yield self._root / "memory" / inner

    def _memory_v2(self, group: Path) -> MemoryUse:
        events = _keyed(group / "memory.events")
        limit = _number(group / "memory.max")
        return MemoryUse(
            _number(group / "memory.current"), _number(group / "memory.peak"), limit,
            events.get("oom_kill"), events.get("max"),
        )  # fmt: skip

    def _memory_v1(self, group: Path) -> MemoryUse:
        limit = _number(group / "memory.limit_in_bytes")
        return MemoryUse(
            _number(group / "memory.usage_in_bytes"),
            _number(group / "memory.max_usage_in_bytes"),
            None if limit is None or limit >= _NO_LIMIT else limit,
            _keyed(group / "memory.oom_control").get("oom_kill"),
            _number(group / "memory.failcnt"),
        )

    def cpu_us(self, path: str) -> int | None:
        """CPU time used so far, in microseconds."""
        inner = path.strip("/")
        if self.v2 is not None and (used := _keyed(self.v2 / inner / "cpu.stat").get("usage_usec")) is not None:
            return used
        used_ns = _number(self._root / "cpuacct" / inner / "cpuacct.usage") if inner else None
        return None if used_ns is None else used_ns // _NS_PER_US

    def throttled(self, path: str) -> tuple[int, float] | None:
        """(How often its CPU quota held it back, for how many seconds in all)."""
        if self.v2 is None:
            return None
        stat = _keyed(self.v2 / path.strip("/") / "cpu.stat")
        return (stat["nr_throttled"], stat.get("throttled_usec", 0) / US_PER_S) if stat.get("nr_throttled") else None

    def io_bytes(self, path: str) -> int | None:
        """Bytes read from and written to disks so far."""
        if self.v2 is None:
            return None
        try:
            text = (self.v2 / path.strip("/") / "io.stat").read_text(encoding="ascii")
        except OSError:
            return None
        fields = (field.partition("=") for field in text.split())
        return sum(int(value) for name, _, value in fields if name in ("rbytes", "wbytes") and value.isdigit())

    def waited_us(self, path: str, resource: str) -> int | None:
        """Microseconds in which something in it had to wait for `resource`: cpu, memory, io."""
        if self.v2 is None:
            return None
        with suppress(OSError, ValueError, IndexError):
            text = (self.v2 / path.strip("/") / f"{resource}.pressure").read_text(encoding="ascii")
            return int(text.splitlines()[0].rpartition("total=")[2])
        return None

    def pids(self, path: str) -> list[int]:
        """The processes in it."""
        base = self.v2 if self.v2 is not None else self._root / "systemd"
        try:
            return [int(line) for line in (base / path.strip("/") / "cgroup.procs").read_text("ascii").split()]
        except (OSError, ValueError):
            return []

    def by_number(self, number: int) -> str | None:
        """The path of the v2 group with that id, by which sockets name theirs."""
        if self.v2 is None:
            return None
        for path in self.units():
            with suppress(OSError):
                if (self.v2 / path.lstrip("/")).stat().st_ino == number:
                    return path
        return None


def unit_of(path: str) -> str:
    """The unit whose group (or a group inside it) is at `path`; empty for none."""
    names = [name for name in path.split("/") if name.endswith(_LEAVES)]
    # Inside a user's own manager the inner unit is that user's; from outside it is user@1000.service.
    return names[0] if names else ""


def _number(path: Path) -> int | None:
    """The number in a file; None when it says `max`, or is not there."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _keyed(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
