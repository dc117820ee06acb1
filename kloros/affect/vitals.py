"""Takes the machine's vital signs, relative to what it has: never in absolute megabytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kloros.affect.state import Reading, Vitals
from kloros.errors import CannotObserve
from kloros.machine.heat import SYS, zones
from kloros.machine.meminfo import read_meminfo
from kloros.machine.own_cgroup import CGROUP_ROOT, limited, memory_use, own_groups
from kloros.machine.pressure import RESOURCES, Shares, read_pressure

# Between two looks so far apart the kernel's running total tells exactly what its own mean over 10 s only follows.
_SHORTEST_SPAN_S, _LONGEST_SPAN_S = 0.5, 30.0

Found = Iterator[tuple[str, Reading]]


class Senses:
    """What can be perceived of this machine. A sense that fails leaves the others be."""

    def __init__(
        self, disk_paths: Iterable[Path], proc: Path = Path("/proc"), sys: Path = SYS, cgroups: Path = CGROUP_ROOT
    ) -> None:
        self._disk_paths = tuple(disk_paths)
        self._proc, self._sys, self._cgroups = proc, sys, cgroups
        self._totals_us: dict[tuple[Path, str], tuple[float, int]] = {}

    def take(self, now_s: float) -> Vitals:
        """The vital signs of now: each where it is worst. What cannot be perceived is told with the reason.

        now_s: monotonic; pressure is that of the time since the last look.
        """
        readings: dict[str, Reading] = {}
        blind: dict[str, str] = {}
        groups = self._groups(blind)
        senses: dict[str, Callable[[], Found]] = {
            **{f"{resource} pressure": self._pressure_sense(resource, groups, now_s) for resource in RESOURCES},
            "memory": lambda: self._memory(groups),
            "load": self._load,
            "disks": self._disks,
            "heat": self._heat,
        }
        for sense, perceive in senses.items():
            try:
                for name, reading in perceive():
                    readings[name] = _worse(name, readings.get(name), reading)
            except CannotObserve as lack:
                blind[sense] = str(lack)
        return Vitals(readings, blind)

    def _groups(self, blind: dict[str, str]) -> list[Path]:
        try:
            return own_groups(self._proc, self._cgroups)
        except CannotObserve as lack:
            blind["limits"] = str(lack)
            return []

    def _pressure_sense(self, resource: str, groups: list[Path], now_s: float) -> Callable[[], Found]:
        def perceive() -> Found:
            tight = [group for group in groups if resource in limited(group)]
            places = [(self._proc / "pressure" / resource, "")]
            places += [(group / f"{resource}.pressure", _name(group)) for group in tight]
            is_seen = False
            for path, where in places:
                try:
                    shares = read_pressure(path)
                except CannotObserve:
                    continue
                is_seen = True
                for kind in ("some", "full"):
                    if kind in shares and (resource, kind) != ("cpu", "full"):
                        yield f"{resource}_{kind}", Reading(self._percent(path, kind, shares[kind], now_s), where)
            if not is_seen:
                read_pressure(places[0][0])  # says why

        return perceive

    def _percent(self, path: Path, kind: str, shares: Shares, now_s: float) -> float:
        then_s, total_us = self._totals_us.get((path, kind), (now_s, 0))
        self._totals_us[path, kind] = now_s, shares.total_us
        span_s, waited_s = now_s - then_s, (shares.total_us - total_us) / 1e6
        if not _SHORTEST_SPAN_S <= span_s <= _LONGEST_SPAN_S or waited_s < 0:
            return shares.avg10
        return min(100.0, 100 * waited_s / span_s)

    def _memory(self, groups: list[Path]) -> Found:
        for group in groups:
            use = memory_use(group)
            if use is not None and use.limit:
                yield "memory_used", Reading(100 * use.used / use.limit, _name(group))
            if use is not None and use.swap_limit:
                yield "swap_used", Reading(100 * use.swap_used / use.swap_limit, _name(group))
        sizes_kib = read_meminfo(self._proc / "meminfo")
        yield "memory_used", Reading(100 * (1 - sizes_kib["MemAvailable"] / sizes_kib["MemTotal"]))
        if swap_kib := sizes_kib.get("SwapTotal"):
            yield "swap_used", Reading(100 * (1 - sizes_kib.get("SwapFree", 0) / swap_kib))

    def _load(self) -> Found:
        try:
            load = float((self._proc / "loadavg").read_text(encoding="ascii").split()[0])
            lines = (self._proc / "stat").read_text(encoding="ascii").splitlines()
        except (OSError, ValueError, IndexError) as error:
            raise CannotObserve(f"the load is not told ({error})") from error
        processors = sum(line.startswith("cpu") and not line.startswith("cpu ") for line in lines)
        yield "load", Reading(load / max(1, processors))

    def _disks(self) -> Found:
        seen: set[int] = set()
        for path in self._disk_paths:
            try:
                device, state = path.stat().st_dev, os.statvfs(path)
            except OSError:  # not here, or not for us to look into
                continue
            if device in seen:
                continue
            seen.add(device)
            used, free = state.f_blocks - state.f_bfree, state.f_bavail
            if used + free:
                yield "disk_used", Reading(100 * used / (used + free), str(path))  # as df counts
            if state.f_files:
                yield "inodes_used", Reading(100 * (1 - state.f_ffree / state.f_files), str(path))
        if not seen:
            raise CannotObserve("none of the paths in [disk] can be looked at")

    def _heat(self) -> Found:
        found = zones(self._sys)
        if not found:
            raise CannotObserve("no sensor with a critical temperature")
        for zone in found:
            yield "heat", Reading(zone.margin_k, f"{zone.name}: {zone.now_c:.0f} °C")


def _worse(name: str, known: Reading | None, reading: Reading) -> Reading:
    if known is None:
        return reading
    is_worse = reading.value < known.value if name == "heat" else reading.value > known.value
    return reading if is_worse else known


def _name(group: Path) -> str:
    return group.name if group.name not in ("cgroup", "unified") else "the container"
