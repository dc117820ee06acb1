"""Whatever comes off the bus, in whatever order and however often: bounds, quotas, flags and ends hold in the daemon's
own loop, with its tables, levers and gates."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import event, given, settings
from hypothesis import strategies as st
from support.optimiser_week import SWAPPED, SWAPPED_STEM, Week

from kloros.chembus.facts_work import ImprovementFacts
from kloros.config import convert
from kloros.optimisation import register, store
from kloros.optimisation.flags import without_figures
from kloros.optimisation.model import THRESHOLDS, ActionKind, Verdict
from kloros.optimisation.settings import OptimiserSettings, detector_of
from kloros.storage import artifacts

SETTINGS = convert(
    {
        "modes": dict.fromkeys(("tune_threshold", "increase_budget", "reduce_load", "hot_swap_module"), "auto"),
        "limits": {"max_enactments": 3, "max_hot_swaps": 1, "cool_down_s": 30.0, "window_s": 300.0},
        "verification": {"settle_s": 30.0, "min_samples": 5, "lease_s": 300.0},
        "hot_swap": {"require_verdict": False, "probation_cycles": 3, "lease_s": 600.0},
    },
    OptimiserSettings,
    Path("optimiser_config.toml"),
)
FAST = Path("/dev/shm")
MODULES = ("introspection", "affect", "shadow", SWAPPED_STEM)
numbers = st.one_of(
    st.sampled_from(
        ["nan", "inf", "-inf", "1e99", "-1", "0", "1.5", "2", "0.5", "0.1", "-0.4", "9" * 300, "½", "; rm"]
    ),
    st.sampled_from([math.nan, math.inf, 1e308, -3.0, 0.25, 1.2, True, None, [1], {"a": 1}]),
)
parameters = st.dictionaries(
    st.sampled_from(["delta", "suggested_delta", "budget_factor", "pace", "metric", "aim", "code", "x y", ""]),
    st.one_of(numbers, st.sampled_from([*THRESHOLDS, "latency", "../..", "__import__('os')"])), max_size=3,
)  # fmt: skip
swaps = st.fixed_dictionaries(
    {
        "artifact": st.sampled_from(["semantic_dedup/a", "semantic_dedup/b", "../../etc", "semantic_dedup/../a"]),
        "sha256": st.sampled_from(["good", "0" * 64, "x"]), "source": st.sampled_from(["shadow", "mallory"]),
    }
)  # fmt: skip
acted = st.sampled_from([kind.value for kind in ActionKind if kind is not ActionKind.FLAG_FOR_REVIEW])
kinds = st.one_of(acted, acted, st.sampled_from(["FLAG_FOR_REVIEW", "SET_FIRE", "", "tune_threshold"]))
words = st.sampled_from(["disks are odd", "a fan stands", "\x1b[2Jred", "x" * 5000, ""])


@st.composite
def actions(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(kinds)
    is_swap = kind == "HOT_SWAP_MODULE"
    return {
        "action_id": f"i-{draw(st.integers(0, 25))}", "action_kind": kind,
        "module_name": SWAPPED if is_swap else draw(st.sampled_from([*MODULES, *MODULES, "nobody", "../../etc", ""])),
        "priority": draw(st.one_of(st.none(), st.floats(), st.sampled_from([0.5, 1e308]))), "rationale": draw(words),
        "parameters": draw(swaps if is_swap else parameters), "expires_in_s": draw(st.sampled_from([None, -1.0, 60.0])),
    }  # fmt: skip


sound = st.fixed_dictionaries(
    {
        "action_id": st.integers(0, 25).map("i-{}".format), "module_name": st.sampled_from(MODULES),
        "action_kind": st.sampled_from(["TUNE_THRESHOLD", "INCREASE_BUDGET", "REDUCE_LOAD"]), "priority": st.just(0.5),
        "rationale": words, "expires_in_s": st.none(),
        "parameters": st.fixed_dictionaries({"delta": st.sampled_from(["0.5", "-0.4"]), "pace": st.just("0.5")}),
    }
)  # fmt: skip
swapped = st.fixed_dictionaries(
    {
        "action_id": st.integers(0, 25).map("i-{}".format), "module_name": st.just(SWAPPED),
        "action_kind": st.just("HOT_SWAP_MODULE"), "priority": st.just(0.5), "rationale": words,
        "expires_in_s": st.none(),
        "parameters": st.sampled_from(["a", "b"]).map(
            lambda version: {"artifact": f"{SWAPPED}/{version}", "sha256": "good", "source": "shadow"}
        ),
    }
)  # fmt: skip
streams = st.lists(
    st.tuples(st.lists(st.one_of(actions(), sound, sound, swapped), min_size=1, max_size=6), st.integers(0, 3)),
    min_size=1, max_size=6,
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(streams, st.randoms(use_true_random=False))
def test_bounds_quotas_flags_and_ends_hold_for_whatever_comes(stream: Any, chance: Any) -> None:
    with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as folder:
        week = Week(Path(folder), SETTINGS, [], seed=1)
        staged = {
            name: artifacts.stage(week.root, SWAPPED, name, {artifacts.PARAMETERS: name.encode()}).sha256
            for name in ("a", "b")
        }
        for _ in range(8):
            week.minute()
        sent: dict[str, dict[str, Any]] = {}
        heard_before: list[dict[str, Any]] = []
        for batch, minutes in stream:
            given_now = [*batch, *(chance.sample(heard_before, min(2, len(heard_before)))), *batch[:1]]
            chance.shuffle(given_now)
            for raw in given_now:
                sent.setdefault(raw["action_id"], raw)
            heard_before += batch
            week.hear("Q_IMPROVEMENT_ACTION", *(_facts(week, raw, staged) for raw in given_now))
            week.beat(is_errand=True)
            must_be_within_bounds(week)
            for _ in range(minutes):
                week.minute()
                must_be_within_bounds(week)
        for _ in range(35):
            week.minute()
        must_be_within_bounds(week)
        must_have_ended(week, sent)
        week.store.close()


def _facts(week: Week, raw: dict[str, Any], staged: dict[str, str]) -> ImprovementFacts:
    told = dict(raw)
    in_s = told.pop("expires_in_s")
    told["expires_at"] = None if in_s is None else week.clock.wall_us() / 1e6 + in_s
    if told["parameters"].get("sha256") == "good":
        version = told["parameters"]["artifact"].rpartition("/")[2]
        told["parameters"] = {**told["parameters"], "sha256": staged.get(version, "0" * 64)}
    return ImprovementFacts(**told)


def must_be_within_bounds(week: Week) -> None:
    for straw in week.daemons.values():
        assert straw.own_s <= straw.budget_s <= min(4 * straw.own_s, max(600.0, straw.own_s)) + 1e-9
        assert 0.25 <= straw.pace <= 1.0
    for knob in week.knobs():
        if knob.kind == ActionKind.TUNE_THRESHOLD:
            own = getattr(detector_of(SETTINGS, knob.module), knob.name)
            assert own / 2 - 1e-9 <= float(knob.value or 0) <= own * 2 + 1e-9
    acts = [each for each in week.said if each.signal == "Q_ENACTMENT" and each.facts.change_id]
    for most, kind in ((3, None), (1, "HOT_SWAP_MODULE")):
        times_s = [each.at_s for each in acts if kind in (None, each.facts.action_kind)]
        for time_s in times_s:
            # An act is told once it is made: up to as long after it was counted as its answer may take.
            assert sum(time_s <= other < time_s + 280 for other in times_s) <= most
    open_now = [each.module_name for each in store.open_changes(week.store.database)]
    assert len(open_now) == len(set(open_now)), "one unverified change for each module"


def must_have_ended(week: Week, sent: dict[str, dict[str, Any]]) -> None:
    database = week.store.database
    told = Counter(each.facts.action_id for each in week.said if each.signal == "Q_ENACTMENT")
    assert sent.keys() <= told.keys()
    assert set(told.values()) <= {1}
    changes = [*store.open_changes(database), *store.ended_changes(database, 1000)]
    ends = Counter(each.facts.change_id for each in week.said if each.signal == "Q_REFLECTION_REPORT")
    assert not [each for each in changes if each.is_open]
    assert ends == dict.fromkeys((each.change_id for each in changes), 1)
    assert all(each.is_restored or each.verdict is Verdict.CONFIRMED for each in changes)
    # The first of an id stands; that another called itself the same is a flag, too.
    flagged = {(flag.module, without_figures(flag.rationale)) for flag in register.flags(database)}
    for action_id, raw in sent.items():
        if raw["action_kind"] == "FLAG_FOR_REVIEW":
            (status,) = [each.facts.status for each in week.said
                         if each.signal == "Q_ENACTMENT" and each.facts.action_id == action_id]  # fmt: skip
            assert status == "SUCCESS"
            assert any(module == (raw["module_name"] or "unknown") for module, _ in flagged)
    msgspec.json.encode([each.facts for each in week.said])
    event(f"{min(len(changes), 5)} changes, {len({each.verdict for each in changes})} verdicts")
