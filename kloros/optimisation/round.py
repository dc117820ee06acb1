"""One beat: profile, detect, plan, pass the gates, enact, verify earlier changes, reflect."""

from __future__ import annotations

import msgspec

from kloros.chembus.facts_work import ImprovementFacts
from kloros.daemon.cycle import Cycle
from kloros.errors import StoreUnusable
from kloros.optimisation import store
from kloros.optimisation.changes import ChangeState
from kloros.optimisation.detector import Detector
from kloros.optimisation.driver import Driver
from kloros.optimisation.effects import BUDGET
from kloros.optimisation.enactor import Enactor
from kloros.optimisation.fitting import LASTS_WINDOWS, SUITE, Fitting, everywhere, standing, what_of
from kloros.optimisation.flags import LIVE, OURS, WEAK, State
from kloros.optimisation.live import Live
from kloros.optimisation.looking import BASELINES, Profile
from kloros.optimisation.model import ActionKind, Figures, ImprovementAction, Severity, Weakness, WeaknessKind
from kloros.optimisation.planner import PlannerConfig, plan
from kloros.optimisation.register import flags
from kloros.optimisation.renewing import renew
from kloros.optimisation.step_journal import Desk, Journal
from kloros.optimisation.store import Stage, Taken
from kloros.units import seconds_to_us, us_to_seconds

REPORT = "report"
STANDING = "standing"
_ALL = 10_000
_LOOKS_AT = (ChangeState.WRITTEN, ChangeState.UNDOING)


class Report(msgspec.Struct):
    """How everybody did at the last beat, kept for a look."""

    at_us: int
    modules: list[Figures]
    weaknesses: list[Weakness]
    unhealthy: list[str]
    known: int

    @property
    def health(self) -> tuple[int, int]:
        """How many modules are unhealthy, and how many there are."""
        return len(self.unhealthy), max(self.known, 1)


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
        unhealthy = sorted({each.module_name for each in weaknesses if each.severity >= Severity.MEDIUM})
        self.report = Report(self._profile.now_us, figures, weaknesses, unhealthy, self._profile.known())
        self._cycle.save(REPORT, self.report)
        self._cycle.save(BASELINES, detector.baselines)
        stands = standing(self._cycle.load(STANDING, dict[str, int]) or {}, weaknesses, self._profile.now_us)
        self._cycle.save(STANDING, stands)
        for each in self._plan(self.report, detector, stands):
            self._propose(each)
        self._let_go(self.report)
        self.journal.commit()

    def _plan(self, report: Report, detector: Detector, stands: dict[str, int]) -> list[ImprovementAction]:
        """What is proposed about what lasts, still holds, and is not being changed already."""
        now_us, told, window_s = self._profile.now_us, self._settings.planner, self._settings.profile.window_s
        busy = {self._desk.versions.daemon_of(each.module_name) for each in store.open_changes(self._cycle)}
        lasting_us = now_us - seconds_to_us(LASTS_WINDOWS * window_s)
        lasting = [
            each
            for each in report.weaknesses
            if each.module_name not in busy
            and (each.metric == "calls" or stands[what_of(each)] <= lasting_us)
            and self._profile.is_still(each, detector)
        ]
        if not lasting:
            return []
        fitting = Fitting(
            [each for each in report.weaknesses if each.module_name not in busy],
            {each.module_name: each for each in report.modules}, window_s,
            lambda module: us_to_seconds(now_us - stands.get(f"{module}|{WeaknessKind.LATENCY_SPIKE}", now_us)),
            store.tried_in_vain(self._cycle, now_us - seconds_to_us(told.try_again_s)), self._budget_s,
        )  # fmt: skip
        rules = PlannerConfig(told.threshold, _ALL, told.min_samples, self._settings.limits.wait_at_most_s)
        planned = plan(lasting, us_to_seconds(now_us), rules, is_allowed=fitting.is_allowed)
        if self._is_everywhere(report):
            planned = [everywhere(len(report.unhealthy), report.known, us_to_seconds(now_us))]
        if self._desk.paused():
            planned = [each for each in planned if each.action_kind is ActionKind.FLAG_FOR_REVIEW]
        since_us = now_us - seconds_to_us(told.propose_again_s)
        return fitting.choose(
            planned, lambda each: store.was_proposed(self._cycle, self._what(each), since_us), told.at_most
        )

    def _let_go(self, report: Report) -> None:
        """A flag about a weakness ends once a whole window shows its module well, or as many as it takes to act."""
        before_us = self._profile.now_us - seconds_to_us(self._settings.profile.window_s)
        seen, weak = {each.module_name for each in report.modules}, {each.module_name for each in report.weaknesses}
        for flag in flags(self._cycle, *LIVE):
            is_ours = flag.source == OURS and flag.reason == WEAK and flag.last_us < before_us
            is_well = flag.module in seen - weak or (flag.module == SUITE and not self._is_everywhere(report))
            if is_ours and is_well:
                self.journal.register.close(flag.flag_id, State.CLOSED, f"{flag.module} is well again")

    def _is_everywhere(self, report: Report) -> bool:
        return len(report.unhealthy) > self._settings.limits.unhealthy_share * report.known

    def _budget_s(self, module: str) -> float | None:
        found = self._desk.levers[ActionKind.INCREASE_BUDGET].read(module, BUDGET).value
        return found if isinstance(found, float) else None

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
        store.put_proposal(self._cycle, self._what(action), self._profile.now_us)
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
            now_us - seconds_to_us(settings.planner.propose_again_s), self._cycle.clock.wall_us(),
            settings.queue.keep_ended,
        )  # fmt: skip
        before_us = now_us - seconds_to_us(settings.flags.expire_after_s)
        self.journal.register.expire(before_us, settings.queue.keep_ended)
        self._cycle.commit()
        self.journal.register.committed()

    def _what(self, action: ImprovementAction) -> str:
        """What is not proposed again too soon. What was only observed is another matter once it may be done."""
        config = self.journal.config
        mode = "dry_run" if config.dry_run else config.mode_of(action.action_kind)
        return f"{action.module_name}|{action.action_kind}|{mode}"
