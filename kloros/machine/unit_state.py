"""One unit as systemd and its files tell it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from kloros.machine.systemd_bus import SystemdBus
from kloros.units import US_PER_S, us_to_seconds

_HAVE_PROPERTIES = {"service": "Service", "socket": "Socket", "mount": "Mount", "swap": "Swap", "scope": "Scope"}
_BESIDE = ("ExecCondition", "ExecStartPre", "ExecStartPost", "ExecStop", "ExecStopPost")
_EXITED = 1  # CLD_EXITED of waitid(2)
_NOT_SET = (1 << 64) - 1


class UnitState(NamedTuple):
    """`own` are the properties of its kind (Service...), `unit` those that every unit has."""

    name: str
    unit: dict[str, Any]
    own: dict[str, Any]

    def text(self, name: str) -> str:
        """A property as text; empty when there is none."""
        value = self.own.get(name, self.unit.get(name))
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> int | None:
        """A property as a number; None when there is none, or it is not set, or infinite."""
        value = self.own.get(name, self.unit.get(name))
        return None if isinstance(value, bool) or not isinstance(value, int) or value == _NOT_SET else value

    def names(self, name: str) -> list[str]:
        """A property that is a list of texts."""
        value = self.own.get(name, self.unit.get(name))
        return [str(each) for each in value] if isinstance(value, list) else []

    def seconds(self, name: str) -> float | None:
        """A property in microseconds (`...USec`), in seconds; None when it is off or infinite."""
        number = self.number(name)
        return us_to_seconds(number) if number else None

    @property
    def load_error(self) -> str:
        """What systemd says about why it could not be loaded."""
        error = self.unit.get("LoadError")
        return str(error[1]) if isinstance(error, (tuple, list)) and len(error) == 2 else ""

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """(program, arguments) of ExecStart."""
        value = self.own.get("ExecStart")
        return [(str(each[0]), [str(word) for word in each[1]]) for each in value] if isinstance(value, list) else []

    @property
    def failed_command(self) -> str:
        """Of the commands beside ExecStart the one that failed: `ExecStartPre=/bin/false`; empty when none did."""
        for name in _BESIDE:
            for each in self.own.get(name) or []:
                if each[8] and (each[8] != _EXITED or each[9]):
                    return f"{name}={' '.join(str(word) for word in each[1])}"
        return ""

    @property
    def group(self) -> str:
        """The path of its control group, now or when it last ran."""
        slice_path = slice_group(self.text("Slice"))
        return self.text("ControlGroup") or f"{slice_path}/{self.name}"

    @property
    def files(self) -> list[str]:
        """Its unit file and drop-ins."""
        return [path for path in (self.text("FragmentPath"), *self.names("DropInPaths")) if path]


def read_unit(bus: SystemdBus, name: str) -> UnitState | None:
    """Everything systemd says of the unit; None for what cannot be one. Raises CannotObserve."""
    path = bus.unit_path(name)
    if path is None:
        return None
    interface = _HAVE_PROPERTIES.get(name.rpartition(".")[2])
    own = bus.properties(path, interface) if interface else {}
    return UnitState(name, bus.properties(path, "Unit"), own)


def active_state(bus: SystemdBus, name: str) -> tuple[str, str]:
    """(ActiveState, Result) of another unit; empty where there is none."""
    path = bus.unit_path(name)
    if path is None:
        return "", ""
    interface = _HAVE_PROPERTIES.get(name.rpartition(".")[2])
    result = bus.read(path, interface, "Result") if interface else ""
    return str(bus.read(path, "Unit", "ActiveState") or ""), str(result or "")


def slice_group(name: str) -> str:
    """The path of a slice's control group: `/a.slice/a-b.slice` for `a-b.slice`."""
    stem = name.removesuffix(".slice")
    if not stem or stem == "-":
        return ""
    parts = stem.split("-")
    return "".join(f"/{'-'.join(parts[: count + 1])}.slice" for count in range(len(parts)))


def changed_at(paths: Iterable[str]) -> dict[str, float]:
    """When each file was last changed, in epoch seconds; those that cannot be seen are left out."""
    found: dict[str, float] = {}
    for path in paths:
        with suppress(OSError):
            found[path] = Path(path).stat().st_mtime_ns // 1_000 / US_PER_S
    return found
