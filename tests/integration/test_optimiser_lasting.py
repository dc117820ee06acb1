"""What the optimiser put in force lasts as long as it is to, whatever happens to clocks, daemons and itself."""

from __future__ import annotations

import pytest
from support.optimisers import QUICK, Office, Opened

SETTINGS = QUICK.replace("window_s", "unhealthy_share = 1.0\nwindow_s")
OTHERS = {"quick": 0.1, "calm": 0.1, "semantic_dedup_consumer": 0.1}


def test_a_clock_that_is_set_back_makes_no_lease_longer(office: Office) -> None:
    office.propose()
    office.table.clock.step_wall(-30 * 86_400.0)
    for _ in range(3):
        office.advance(301)
        office.beat()
    assert office.verdicts() == [("INCONCLUSIVE", "budget")]
    assert office.world.daemons["slow"].granted_s is None


@pytest.mark.parametrize("outcome", ["ok", "failed"])
def test_a_daemon_that_starts_anew_gets_back_what_it_was_granted(open_office: Opened, outcome: str) -> None:
    with open_office(SETTINGS) as office:
        told = office.world.daemons["slow"]
        for _ in range(2):
            office.pass_by(300, slow=0.1, **OTHERS)
            office.propose(parameters={"factor": "1.5"})
            office.pass_by(10, slow=0.1, **OTHERS)
            if told.granted_s == 6.0:
                office.pass_by(300, slow=0.1, **OTHERS)
                office.beat()
        assert (office.verdicts(), told.granted_s) == ([("CONFIRMED", "budget")], 9.0)
        told.granted_s, told.pid, told.began_s = None, 7, office.table.clock.monotonic_s()
        office.advance(1)
        office.report("slow", 4.0, outcome)
        office.beat()
        assert told.granted_s in (6.0, 9.0)


def test_a_pace_that_was_confirmed_outlasts_a_night_without_the_optimiser(open_office: Opened) -> None:
    with open_office(SETTINGS) as office:
        office.pass_by(300, slow=1.0, **OTHERS)
        office.propose("REDUCE_LOAD", parameters={"pace": "0.5"})
        office.pass_by(300, slow=0.1, **OTHERS)
        office.beat()
        assert office.verdicts() == [("CONFIRMED", "pace")]
        office.advance(5)
        office.beat()
        world, clock = office.world, office.table.clock
    clock.advance(8 * 3600)
    world.paces["slow"] = 1.0  # the scheduler was told until when
    with open_office(SETTINGS) as office:
        office.advance(5)
        office.beat()
        assert office.world.paces["slow"] == 0.5
