"""What is in force by the optimiser for a while only is said again, for as long as it is wanted."""

from __future__ import annotations

from kloros.daemon.cycle import Cycle
from kloros.optimisation import changes, store
from kloros.optimisation.driver import LEASE_MARGIN_S
from kloros.optimisation.levers import Budgets, Hand, Lever, NotDone, Unfit, Wanted
from kloros.optimisation.model import ActionKind
from kloros.optimisation.step_journal import Desk
from kloros.optimisation.store import Knob
from kloros.units import seconds_to_us

_LEASED = (ActionKind.INCREASE_BUDGET, ActionKind.REDUCE_LOAD)


def renew(desk: Desk, cycle: Cycle) -> int:
    """Say again what is in force by us for a while only; returns how many things that are."""
    now_us, lease_us = cycle.clock.wall_us(), seconds_to_us(desk.settings.verification.lease_s)
    renewed = 0
    for knob in store.knobs(cycle):
        if knob.kind not in _LEASED or not (knob.is_acked or knob.is_confirmed):
            continue
        renewed += 1
        lever = desk.levers[ActionKind(knob.kind)]
        until_us = now_us + lease_us if knob.is_confirmed else (knob.until_us or now_us) + seconds_to_us(LEASE_MARGIN_S)
        wanted = Wanted(knob.module, knob.name, knob.value, until_us, "renewal")
        if isinstance(lever, Budgets):
            _renew_budget(lever, wanted, desk.hand)
        elif knob.is_confirmed:
            _renew_pace(lever, wanted, knob, cycle, desk.hand)
    return renewed


def _renew_budget(lever: Budgets, wanted: Wanted, hand: Hand) -> None:
    """A daemon that was restarted does not know of its grant any more."""
    is_so = changes.same(lever.read(wanted.module, wanted.name).value, wanted.value)
    lever.announce(wanted, hand)
    if not is_so:
        hand.wait_until(lambda: changes.same(lever.read(wanted.module, wanted.name).value, wanted.value), hand.answer_s)


def _renew_pace(lever: Lever, wanted: Wanted, knob: Knob, cycle: Cycle, hand: Hand) -> None:
    """Before half of its time is over. One that somebody else has changed meanwhile is theirs."""
    reading = lever.read(wanted.module, wanted.name)
    has_lapsed = knob.until_us is not None and knob.until_us <= cycle.clock.wall_us()  # nobody was here to renew it
    if reading.is_readable and not has_lapsed and not changes.same(reading.value, wanted.value):
        store.drop_knob(cycle, knob.kind, knob.module, knob.name)
        cycle.log.info("pace_given_up", module=knob.module, reason="somebody else changed it")
        return
    now_us = cycle.clock.wall_us()
    if knob.until_us is not None and knob.until_us - now_us > (wanted.until_us - now_us) / 2:
        return
    try:
        lever.put(wanted, hand)
    except (NotDone, Unfit) as failure:
        cycle.log.warning("pace_not_renewed", module=knob.module, reason=str(failure))
        return
    knob.until_us = wanted.until_us
    store.put_knob(cycle, knob)
