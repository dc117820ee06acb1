"""Which scanners there are: the built-in ones, and those that other packages offer under `kloros.scanners`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points

from kloros.config import Settings
from kloros.consumers.introspection.scanners.base import Now, Scanner
from kloros.consumers.introspection.scanners.bus_health import BusHealthScanner, BusHealthSettings
from kloros.consumers.introspection.scanners.descriptors import DescriptorsScanner, DescriptorsSettings
from kloros.consumers.introspection.scanners.disk import DiskScanner, DiskSettings
from kloros.consumers.introspection.scanners.journal import JournalScanner, JournalSettings
from kloros.consumers.introspection.scanners.memory import MemoryScanner, MemorySettings
from kloros.consumers.introspection.scanners.pressure import PressureScanner, PressureSettings
from kloros.consumers.introspection.scanners.units import UnitsScanner, UnitsSettings

ENTRY_POINT_GROUP = "kloros.scanners"


class IntrospectionSettings(Settings, frozen=True):
    """config/introspection_config.toml. `others`: whether scanners of other packages are used."""

    others: bool = True
    units: UnitsSettings = UnitsSettings()
    journal: JournalSettings = JournalSettings()
    pressure: PressureSettings = PressureSettings()
    memory: MemorySettings = MemorySettings()
    disk: DiskSettings = DiskSettings()
    descriptors: DescriptorsSettings = DescriptorsSettings()
    bus_health: BusHealthSettings = BusHealthSettings()


def built_in(settings: IntrospectionSettings, now: Now) -> Iterator[Scanner]:
    """The scanners that look at the machine, as far as they are enabled. What was before `now` is not news."""
    if settings.units.enabled:
        yield UnitsScanner(settings.units)
    if settings.journal.enabled:
        yield JournalScanner(settings.journal, now)
    if settings.pressure.enabled:
        yield PressureScanner(settings.pressure)
    if settings.memory.enabled:
        yield MemoryScanner(settings.memory)
    if settings.disk.enabled:
        yield DiskScanner(settings.disk)
    if settings.descriptors.enabled:
        yield DescriptorsScanner(settings.descriptors)
    if settings.bus_health.enabled:
        yield BusHealthScanner(settings.bus_health)


def from_other_packages() -> Iterator[tuple[str, Scanner | Exception]]:
    """(name, scanner) of each entry point, a callable that needs no arguments; or what was wrong with it."""
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            yield entry.name, entry.load()()
        except Exception as error:  # noqa: BLE001 - somebody else's code; it is named, and the rest goes on
            yield entry.name, error
