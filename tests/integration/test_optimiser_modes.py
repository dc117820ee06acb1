"""From watching to acting: what was only observed is proposed again as soon as it may be done."""

from __future__ import annotations

from pathlib import Path

from support.bench import bench
from support.optimisers import QUICK, Office, StrawOptimiser, World, modes

from kloros.clock import VirtualClock

SELDOM = QUICK.replace("propose_again_s = 60.0", "propose_again_s = 3600.0") + "[profile]\nwindow_s = 60.0\n"
OTHERS = {"quick": 0.1, "calm": 0.1, "semantic_dedup_consumer": 0.1}


def test_what_was_observed_is_done_soon_after_its_kind_is_switched_to_auto(tmp_path: Path) -> None:
    StrawOptimiser.world = World()
    StrawOptimiser.world.daemons["slow"].own_s = 1.1
    clock = VirtualClock()
    settings = tmp_path / "config" / "optimiser_config.toml"
    settings.parent.mkdir()
    settings.write_text(f"{modes('observe')}{SELDOM}")
    with bench(StrawOptimiser, tmp_path, clock) as table:
        office = Office(table, StrawOptimiser.world)
        office.pass_by(300, slow=1.5, **OTHERS)
        office.beat()
        observed = [facts.reason_code for facts in office.heard("Q_ENACTMENT")]
        assert set(observed) == {"observed"}
        settings.write_text(f"{modes('auto')}{SELDOM}")
        table.daemon.on_reload()
        office.pass_by(60, slow=1.5, **OTHERS)
        office.beat()
        told = office.heard("Q_ENACTMENT")[len(observed) :]
        assert [(facts.action_kind, facts.status) for facts in told] == [("INCREASE_BUDGET", "SUCCESS")]
