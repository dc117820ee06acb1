"""How far parts of the machine are below the temperature at which they would be shut off or slowed down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SYS = Path("/sys")
# What firmware reports where nothing is fitted lies outside.
_PLAUSIBLE_C = range(-30, 150)
_PLAUSIBLE_LIMIT_C = range(45, 150)
_TRIPS = ("critical", "hot", "passive")
_HWMON_LIMITS = ("crit", "max")


class Zone(NamedTuple):
    """A sensor with a limit, in degrees Celsius."""

    name: str
    now_c: float
    limit_c: float

    @property
    def margin_k(self) -> float:
        """Kelvins left."""
        return self.limit_c - self.now_c


def zones(sys: Path = SYS) -> list[Zone]:
    """Every sensor whose limit is known: thermal zones by their trip points, others by their own critical value.

    Empty on machines without any, as virtual ones mostly are.
    """
    found = [*_thermal_zones(sys), *_hwmon(sys)]
    return [zone for zone in found if int(zone.now_c) in _PLAUSIBLE_C and int(zone.limit_c) in _PLAUSIBLE_LIMIT_C]


def _thermal_zones(sys: Path) -> Iterator[Zone]:
    for directory in sorted(sys.glob("class/thermal/thermal_zone*")):
        now_c = _celsius(directory / "temp")
        trips = {_text(path): path.with_name(path.name.replace("_type", "_temp")) for path in _trip_types(directory)}
        limit_c = next((limit for kind in _TRIPS if kind in trips and (limit := _celsius(trips[kind]))), None)
        if now_c is not None and limit_c is not None:
            yield Zone(_text(directory / "type") or directory.name, now_c, limit_c)


def _trip_types(directory: Path) -> list[Path]:
    return sorted(directory.glob("trip_point_*_type"), reverse=True)


def _hwmon(sys: Path) -> Iterator[Zone]:
    for sensor in sorted(sys.glob("class/hwmon/hwmon*/temp*_input")):
        stem = sensor.name.removesuffix("_input")
        limits = (_celsius(sensor.with_name(f"{stem}_{kind}")) for kind in _HWMON_LIMITS)
        limit_c = next((limit for limit in limits if limit), None)
        now_c = _celsius(sensor)
        if now_c is not None and limit_c is not None:
            label = _text(sensor.with_name(f"{stem}_label")) or stem
            yield Zone(f"{_text(sensor.with_name('name'))} {label}".strip(), now_c, limit_c)


def _celsius(path: Path) -> float | None:
    text = _text(path)
    return int(text) / 1000 if text.lstrip("-").isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:  # a sensor that sleeps, or that went away
        return ""
