"""Units that are down because one they require failed."""

from __future__ import annotations

from typing import Any

from kloros.consumers.introspection.scanners.held_up import HeldUp
from kloros.machine.systemd_bus import SystemdBus, UnitRow

STOCK = UnitRow("stock.service", "loaded", "failed", "failed", "/stock.service")


class Bus(SystemdBus):
    """systemd as a table: unit -> its properties."""

    def __init__(self, **units: dict[str, Any]) -> None:
        super().__init__()
        self.table = {f"{name}.service": properties for name, properties in units.items()}

    def unit_path(self, name: str) -> str | None:
        return f"/{name}" if name in self.table else None

    def read(self, path: str, interface: str, name: str) -> Any:
        return self.table.get(path[1:], {}).get(name)


def unit(state: str = "inactive", **more: Any) -> dict[str, Any]:
    return {"ActiveState": state, "UnitFileState": "enabled", "Type": "simple", "Job": (0, "/")} | more


def names(held_up: HeldUp) -> list[str]:
    return [name for name, _ in held_up.look()]


def held_up(**dependents: dict[str, Any]) -> HeldUp:
    required_by = [f"{name}.service" for name in dependents]
    found = HeldUp(Bus(stock={"RequiredBy": required_by}, **dependents))
    found.note(STOCK)
    return found


def test_an_enabled_unit_that_is_down_is_held_up_by_what_failed() -> None:
    ((name, verdict),) = held_up(shop=unit()).look()
    assert name == "shop.service"
    assert verdict.summary == "shop.service is down: stock.service, which it requires, failed"
    assert verdict.evidence["needs"] == "stock.service"


def test_what_nobody_wants_to_run_now_is_not_held_up() -> None:
    wanted_by_nobody = {
        "disabled": unit(UnitFileState="disabled"),
        "running": unit("active"),
        "done": unit(Type="oneshot", RemainAfterExit=False),
        "on_demand": unit(TriggeredBy=["on_demand.socket"]),
        "about_to": unit(Job=(7, "/job/7")),
        "failed": unit("failed"),
    }
    assert names(held_up(**wanted_by_nobody)) == []
    assert names(held_up(lasting=unit(Type="oneshot", RemainAfterExit=True))) == ["lasting.service"]


def test_it_is_known_until_it_runs_though_what_failed_was_mended_and_we_were_restarted() -> None:
    first = held_up(shop=unit())
    bus = Bus(stock={}, shop=unit())
    second = HeldUp(bus)
    second.recall(first.keepsake())
    assert names(second) == ["shop.service"]
    bus.table["shop.service"]["ActiveState"] = "active"
    assert names(second) == []
    bus.table["shop.service"]["ActiveState"] = "inactive"  # stopped by somebody who wanted that
    assert names(second) == []
