"""One beat: profile, detect, plan, pass the gates, enact, verify earlier changes, reflect."""

from __future__ import annotations

import msgspec

from kloros.chembus.facts_work import ImprovementFacts
from kloros.clock import seconds_to_us, us_to_seconds
from kloros.daemon.cycle import Cycle
from kloros.errors import StoreUnusable
from kloros.optimisation import store
from kloros.optimisation.changes import ChangeState
from kloros.optimisation.detector import Baseline, Detector
from kloros.optimisation.driver import Driver
from kloros.optimisation.enactor import Enactor
from kloros.optimisation.levers import module_of
from kloros.optimisation.live import Live
from kloros.optimisation.model import (
    THRESHOLDS,
    ActionKind,
    DetectorConfig,
    Figures,
    ImprovementAction,
    Severity,
    Weakness,
)
from kloros.optimisation.planner import PlannerConfig, plan
from kloros.optimisation.profiler import Profiler
from kloros.optimisation.renewing import renew
from kloros.optimisation.settings import OptimiserSettings, detector_of
from kloros.optimisation.step_journal import Desk, Journal
from kloros.optimisation.store import Stage, Taken

BASELINES = "baselines"
REPORT = "report"
_SILENT_INTERVALS = 3.0
_LOOKS_AT = (ChangeState.WRITTEN, ChangeState.UNDOING)


class Report(msgspec.Struct):
    """How everybody did at the last beat, kept for a look."""

    at_us: int
    modules: list[Figures]
    weaknesses: list[Weakness]
    unhealthy: list[str]
    known: int


class Profile:
    """How everybody does, from what is kept of their cycles and what is heard of them."""

    def __init__(self, cycle: Cycle, settings: OptimiserSettings, live: Live, own: str) -> None:
        self._cycle, self._settings, self._live, self._own = cycle, settings, live, module_of(own)
        self.now_us = cycle.clock.wall_us()

    def figures(self) -> list[Figures]:
        """Of all that were heard of in the window, or should have been."""
        profile = self._settings.profile
        profiler = Profiler(profile.window_s, profile.samples)
        since_us = self.now_us - seconds_to_us(profile.window_s)
        for module in store.modules_sampled(self._cycle):
            if self._is_ignored(module):
                continue
            profiler.know(module)
            for at_us, duration_s, is_error, _outcome in store.samples(
                self._cycle, module, since_us, self.now_us, profile.samples
            ):
                profiler.record(module, duration_s * 1000, at_us, is_error=is_error)
        for zooid, heart in self._live.hearts.items():
            if heart.schedule is not None and not self._is_ignored(module_of(zooid)):
                profiler.know(module_of(zooid))
        return [each for each in profiler.report(self.now_us) if not each.is_silent or self._should_speak(each)]

    def known(self) -> int:
        """How many modules there are."""
        heard = {module_of(zooid) for zooid, heart in self._live.hearts.items() if heart.schedule is not None}
        return len({*heard, *store.modules_sampled(self._cycle)} - {self._own})

    def detector(self) -> Detector:
        """With the thresholds in force, and what it has learnt."""
        base = DetectorConfig(**msgspec.structs.asdict(self._settings.detector))
        tuned: dict[str, dict[str, float]] = {}
        for module in self._settings.modules:
            own = detector_of(self._settings, module)
            tuned[module] = {metric: float(getattr(own, metric)) for metric in THRESHOLDS}
        for knob in store.knobs(self._cycle, ActionKind.TUNE_THRESHOLD):
            if isinstance(knob.value, float | int):
                tuned.setdefault(knob.module, {})[knob.name] = float(knob.value)
        return Detector(base, tuned, self._cycle.load(BASELINES, dict[str, Baseline]) or {})

    def _is_ignored(self, module: str) -> bool:
        own = self._settings.modules.get(module)
        return module == self._own or (own is not None and own.ignored)

    def _should_speak(self, figures: Figures) -> bool:
        """Whether a module of which nothing was heard should have been: its entry runs, and often enough."""
        now_s, window_s = self._cycle.clock.monotonic_s(), self._settings.profile.window_s
        heart = self._live.hearts.get(self._live.zooid_of(figures.module_name))
        entry = self._live.entries.get(heart.schedule or "") if heart else None
        if entry is None or entry.paused or now_s - self._live.began_s < window_s:
            return False
        return entry.interval_s / entry.pace * _SILENT_INTERVALS <= window_s


class Round:
    """Everything that is done at one beat."""

    def __init__(self, cycle: Cycle, desk: Desk, live: Live, own: str) -> None:
        self._cycle, self._desk, self._settings, self._live = cycle, desk, desk.settings, live
        self._profile = Profile(cycle, desk.settings, live, own)
        self.journal = Journal(cycle, desk)
        self.driver = Driver(self.journal)
        self.enactor = Enactor(self.journal, self.driver)
        self.report: Report | None = None

    def finish_what_is_under_way(self) -> None:
        """What an earlier life, or an earlier beat, left half done."""
        for change in store.open_changes(self._cycle):
            if change.state in _LOOKS_AT:
                self.driver.take_up_again(change)

    def look(self) -> None:
        """Profile, detect, plan: what is proposed is told, and waits with the rest."""
        figures, detector = self._profile.figures(), self._profile.detector()
        weaknesses = detector.detect(figures)
        unhealthy = sorted({each.module_name for each in weaknesses if each.severity >= Severity.HIGH})
        self.report = Report(self._profile.now_us, figures, weaknesses, unhealthy, self._profile.known())
        self._cycle.save(REPORT, self.report)
        self._cycle.save(BASELINES, detector.baselines)
        told = self._settings.planner
        rules = PlannerConfig(
            told.threshold,
            most=told.at_most,
            min_samples=told.min_samples,
            lives_s=self._settings.limits.wait_at_most_s,
        )
        busy = {each.module_name for each in store.open_changes(self._cycle)}
        free = [each for each in weaknesses if each.module_name not in busy]
        since_us = self._profile.now_us - seconds_to_us(told.propose_again_s)
        fresh = [each for each in free if not store.was_proposed(self._cycle, _what(each), since_us)]
        for each in plan(fresh, us_to_seconds(self._profile.now_us), rules, is_allowed=lambda _action: True):
            self._propose(each)
        for weakness in fresh:
            store.put_proposal(self._cycle, _what(weakness), self._profile.now_us)
        self._cycle.commit()

    def _propose(self, action: ImprovementAction) -> None:
        facts = ImprovementFacts(
            action_id=action.action_id, module_name=action.module_name, action_kind=action.action_kind.value,
            priority=action.priority, rationale=action.rationale, parameters={**dict(action.parameters)},
            expires_at=action.expires_at,
        )  # fmt: skip
        raw = msgspec.to_builtins(facts)
        raw.setdefault("parameters", {})
        seq = store.next_seq(self._cycle)
        taken = Taken(
            action_id=action.action_id, seq=seq, stage=Stage.QUEUED, module=action.module_name,
            kind=action.action_kind.value, raw=raw, source=action.source, taken_us=self._profile.now_us,
        )  # fmt: skip
        store.put_action(self._cycle, taken)
        self._cycle.emit("Q_IMPROVEMENT_ACTION", facts, incident_id=action.action_id)
        self._cycle.log.info("proposed", action_id=taken.action_id, kind=taken.kind, module=taken.module,
                             why=action.rationale)  # fmt: skip
        self._cycle.commit()

    def enact(self) -> None:
        """What waits, one at a time, the earliest first; and what people said of what waited for them."""
        self._answer()
        for taken in store.actions(self._cycle, Stage.QUEUED):
            if self._cycle.cancelled.is_set() or (self.enactor.acted and self._is_late()):
                break
            try:
                self.enactor.enact(taken)
            except StoreUnusable:
                raise
            except Exception as error:
                self._cycle.log.exception("action_raised", action_id=taken.action_id)
                self._cycle.outgoing, self._cycle.statements = [], []
                self.enactor.give_up(taken, f"{type(error).__name__}: {error}")
        waiting = store.actions(self._cycle, Stage.QUEUED, Stage.WAITING)
        self._cycle.backlog = len(waiting)

    def _is_late(self) -> bool:
        """Whether another action might not find its time: the rest goes on at the next beat."""
        hot_swap, limits = self._settings.hot_swap, self._settings.limits
        return self._cycle.remaining_s < 2 * hot_swap.start_s + 2 * limits.answer_s

    def _answer(self) -> None:
        """Fails closed: what nobody approved in time is not done."""
        now_us = self._cycle.clock.wall_us()
        for taken in store.actions(self._cycle, Stage.WAITING):
            if taken.waits_for == "rejected":
                self.enactor.end_waiting(taken, "rejected", f"rejected by {taken.decided_by or 'somebody'}")
            elif taken.waits_for == "approved":
                self.enactor.let_pass(taken)
            elif taken.expires_us is None or taken.expires_us <= now_us:
                self.enactor.end_waiting(taken, "not_approved", "nobody approved it in time")

    def verify(self) -> None:
        """Earlier changes are judged by what came of them."""
        for change in store.open_changes(self._cycle):
            if change.state is ChangeState.SETTLING:
                self.driver.verify(change)

    def keep_up(self) -> None:
        """What is in force for a while only is said again."""
        renew(self._desk, self._cycle)

    def tidy(self) -> None:
        """Forget what is of no more use."""
        now_us, settings = self._profile.now_us, self._settings
        store.tidy(
            self._cycle, now_us - seconds_to_us(settings.profile.keep_s),
            now_us - seconds_to_us(settings.planner.propose_again_s), settings.queue.keep_ended,
        )  # fmt: skip
        before_us = now_us - seconds_to_us(settings.flags.expire_after_s)
        self.journal.register.expire(before_us, settings.queue.keep_ended)
        self._cycle.commit()
        self.journal.register.committed()


def _what(weakness: Weakness) -> str:
    return f"{weakness.module_name}|{weakness.kind}|{weakness.metric}"
