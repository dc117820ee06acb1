"""Units that are down because one they require failed."""

from __future__ import annotations

from typing import Any

import pytest

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


def held_up(stock: dict[str, Any] | None = None, kind: str = "RequiredBy", **dependents: dict[str, Any]) -> HeldUp:
    needed_by = [f"{name}.service" for name in dependents]
    found = HeldUp(Bus(stock={kind: needed_by} | (stock or {}), **dependents))
    found.note(STOCK)
    return found


def change(found: HeldUp, name: str, **properties: Any) -> None:
    assert isinstance(found._bus, Bus)
    found._bus.table[name] |= properties


def times(**at_s: float) -> dict[str, int]:
    """When it last did what, in seconds of the clock that nobody sets."""
    return {f"{what}TimestampMonotonic": round(second * 1e6) for what, second in at_s.items()}


# Started well at 1000, restarted at 2000: stopped at once, and the start failed at 2030.
RESTARTED = times(ActiveExit=2000, InactiveExit=2000.1, InactiveEnter=2030, StateChange=2030)
NEVER_UP = times(InactiveExit=2000, InactiveEnter=2030, StateChange=2030)
# Ran from 1000 to 2000, when it crashed.
CRASHED = times(InactiveExit=1000, ActiveExit=2000, InactiveEnter=2000, StateChange=2000)


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


@pytest.mark.parametrize("kind", ["RequiredBy", "RequisiteOf", "BoundBy"])
@pytest.mark.parametrize("stock", [RESTARTED, NEVER_UP, CRASHED])
def test_what_was_down_before_the_failure_or_never_met_its_conditions_is_not_held_up(
    stock: dict[str, int], kind: str
) -> None:
    dependents = {
        "ended": unit(**times(InactiveExit=1500, InactiveEnter=1501)),
        "stopped_by_hand": unit(**times(InactiveExit=1000, InactiveEnter=1900)),
        "failed_of_itself": unit("failed", **times(InactiveExit=1000, InactiveEnter=1900)),
        "unmet": unit(ConditionResult=False, **times(Condition=1000)),
        "refused": unit(ConditionResult=True, AssertResult=False, **times(Condition=1000, Assert=1000)),
        "never_started": unit(ConditionResult=False, AssertResult=False),
        "met": unit(ConditionResult=True, AssertResult=True, **times(Condition=1000, Assert=1000)),
    }
    found = held_up(stock, kind, **dependents)
    change(found, "failed_of_itself.service", ActiveState="inactive")
    assert names(found) == ["never_started.service", "met.service"]


def test_what_was_stopped_for_the_restart_that_failed_is_held_up() -> None:
    assert names(held_up(RESTARTED, shop=unit(**times(InactiveExit=1000, InactiveEnter=1999.9)))) == ["shop.service"]
    looping = RESTARTED | times(InactiveExit=2029)  # the last of several starts
    assert names(held_up(looping, shop=unit(**times(InactiveExit=1000, InactiveEnter=2000.1)))) == ["shop.service"]
    assert names(held_up(NEVER_UP, shop=unit(**times(InactiveExit=1000, InactiveEnter=1999.9)))) == ["shop.service"]


def test_what_ran_on_after_the_failure_and_was_stopped_later_is_not_held_up_unless_it_is_bound() -> None:
    later = times(InactiveExit=1000, InactiveEnter=2090)
    assert names(held_up(CRASHED, shop=unit(**later))) == []
    assert names(held_up(CRASHED, "BoundBy", shop=unit(**later))) == ["shop.service"]
    tried_again = CRASHED | times(StateChange=2090.1)  # systemd refused to start it for shop's restart
    assert names(held_up(tried_again, shop=unit(**later))) == ["shop.service"]


def test_what_is_still_being_stopped_is_held_up_once_it_is_down() -> None:
    found = held_up(CRASHED, "BoundBy", shop=unit("deactivating", **times(InactiveExit=1000, InactiveEnter=900)))
    assert names(found) == []
    change(found, "shop.service", ActiveState="inactive")
    assert names(found) == ["shop.service"]


def test_what_was_started_since_is_down_for_another_reason() -> None:
    found = held_up(RESTARTED, shop=unit(**times(InactiveExit=1000, InactiveEnter=2000)))
    assert names(found) == ["shop.service"]
    bus = Bus(stock={}, shop=unit(**times(InactiveExit=3000, InactiveEnter=3001)))
    again = HeldUp(bus)
    again.recall(found.keepsake())
    assert names(again) == []
    bus.table["shop.service"] |= times(InactiveExit=1000)
    assert names(again) == []


def test_what_systemd_forgot_meanwhile_is_still_held_up() -> None:
    found = held_up(RESTARTED, shop=unit(**times(InactiveExit=1000, InactiveEnter=2000)))
    change(found, "shop.service", **times(InactiveExit=0, InactiveEnter=0))
    assert names(found) == ["shop.service"]
