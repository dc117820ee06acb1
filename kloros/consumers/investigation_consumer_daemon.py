"""investigation_consumer: gathers evidence on open questions and concludes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

from kloros.chembus.envelope import Message
from kloros.chembus.facts_work import GapFoundFacts, InvestigationFacts, QuestionFacts
from kloros.consumers.investigation.backlog import Bottleneck, Waiting, in_order
from kloros.consumers.investigation.base import Investigator
from kloros.consumers.investigation.cycle_book import HEARD, CycleBook
from kloros.consumers.investigation.intake import BOTTLENECK, Desk
from kloros.consumers.investigation.outcome import TIMED_OUT, concluded, ended
from kloros.consumers.investigation.pool import Job, Pool
from kloros.consumers.investigation.registry import best_for, built_in, from_other_packages
from kloros.consumers.investigation.samples import Sample, Samples
from kloros.consumers.investigation.settings import InvestigationSettings
from kloros.consumers.investigation.store import TABLES, InvestigationStore, capability_of
from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Kit
from kloros.daemon.own_settings import OwnSettings
from kloros.daemon.runner import main, settings_file, stem_of
from kloros.machine.names import readable
from kloros.machine.whole import Machine
from kloros.units import seconds_to_us

_SAMPLES = "disk_samples"
# Kept back of a cycle's budget, to conclude and to write down what was found.
_RESERVE_SHARE, _MOST_RESERVED_S = 0.05, 5.0
_KEEP_EVERY_S = 1.0
_MONTH_S = 30 * 86_400.0


class InvestigationConsumerDaemon(Consumer):
    """Gathers evidence on open questions and concludes."""

    zooid = "investigation_consumer_daemon"
    niche = "investigation"
    ecosystem = "introspection"
    schedule = "investigation_processing"
    signal = "Q_TRIGGER_INVESTIGATION"
    interval_s = 300.0
    consumes = (
        "Q_CURIOSITY_INVESTIGATE",
        "CAPABILITY_RESTORED",
    )
    hears = HEARD
    tables = {"investigation": (TABLES,)}

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._own = OwnSettings(settings_file(self.place, stem_of(type(self))), InvestigationSettings, self.log)
        self._book = CycleBook()
        self._samples = Samples(self.store.get(_SAMPLES, dict[str, Sample]))
        self._investigators = self.make_investigators(self._own.current)
        self._pool = Pool(self.clock, self.make_machine)
        self._desk = Desk(self.clock, self.log, self.count, self.store.get(BOTTLENECK, Bottleneck))
        self._depth = InvestigationStore(self.store.database).depth()
        self._is_reloaded = False
        self._kept_s = 0.0
        metrics = self.metrics
        self._ended = metrics.counter("kloros_investigations_total", "Questions that ended.", ("status",))
        self._rules = metrics.counter("kloros_investigation_rules_total", "Conclusions, by rule.", ("rule",))
        self._took_s = metrics.histogram("kloros_investigation_duration_seconds", "How long investigations take.")
        metrics.gauge("kloros_investigation_queue_items", "Questions that wait.").set_function(lambda: self._depth)
        hanging = metrics.gauge("kloros_investigations_hanging", "Threads that do not come back.")
        hanging.set_function(lambda: float(self._pool.hanging))
        bottleneck = metrics.gauge("kloros_investigation_bottleneck", "1 while too many questions wait.")
        bottleneck.set_function(lambda: float(self._desk.is_bottleneck))

    # For tests, and for whoever looks at another machine than this one

    def make_machine(self) -> Machine:
        """What an investigator looks at; one for each."""
        return Machine(clock=self.clock)

    def make_investigators(self, settings: InvestigationSettings) -> list[Investigator]:
        """Those to ask from now on."""
        history = self.place.state / "chembus_historian"
        investigators = built_in(settings, self._book, self._samples, history)
        return investigators + self._those_of_others(investigators) if settings.investigate.others else investigators

    def _those_of_others(self, known: list[Investigator]) -> list[Investigator]:
        taken, added = {each.name for each in known}, []
        for name, investigator in from_other_packages():
            if isinstance(investigator, Exception):
                self.log.error("investigator_refused", investigator=name, reason=f"{investigator}")
            elif investigator.name in taken:
                self.log.error(
                    "investigator_refused", investigator=name, reason=f"{investigator.name} is there already"
                )
            else:
                taken.add(investigator.name)
                added.append(investigator)
        return added

    # What comes

    def work(self, batch: Batch) -> None:
        queue = self._own.current.queue
        store = InvestigationStore(batch.database)
        over: list[InvestigationFacts] = []
        for message in batch.messages:
            if isinstance(message.facts, QuestionFacts):
                over += self._desk.take(store, message.facts, queue, self._own.current.failures)
            elif isinstance(message.facts, GapFoundFacts):
                over += self._desk.withdraw(store, message.facts.gap_id)
        for facts in over:
            batch.emit("Q_INVESTIGATION_COMPLETE", facts, incident_id=facts.gap_id)
            self._announce(facts)
        self._depth = store.depth()
        self._desk.look(batch, self._depth, queue)

    # The beat

    def cycle(self, cycle: Cycle) -> None:
        if self._pool.hanging >= self._own.current.investigate.concurrency:
            cycle.log.error("investigators_hung", hanging=self._pool.hanging)
            self.loop.call_soon(partial(self.stop, 1))  # threads cannot be ended; a new process has none of them
        self._take_settings(cycle)
        settings, store = self._own.current, InvestigationStore(cycle)
        now_us = self.clock.wall_us()
        waiting = in_order(store.waiting(), now_us, settings.queue.age_weight_s)
        reserve_s = min(_MOST_RESERVED_S, _RESERVE_SHARE * cycle.budget_s)
        jobs = self._jobs(cycle, store, waiting)
        concurrency = settings.investigate.concurrency
        for job in self._pool.run(jobs, concurrency, lambda: cycle.remaining_s, cycle.cancelled.is_set, reserve_s):
            self._close(cycle, store, job)
            self._keep(cycle)
        cycle.commit()
        self._depth = store.depth()
        store.trim(settings.keep.investigations)
        store.forget_failures(now_us - seconds_to_us(_MONTH_S))
        cycle.save(_SAMPLES, self._samples.snapshot())
        self._desk.look(cycle, self._depth, settings.queue)
        cycle.backlog = self._depth

    def _jobs(self, cycle: Cycle, store: InvestigationStore, waiting: list[Waiting]) -> Iterator[Job]:
        """The questions in their order, each as it is needed; those that are suppressed by now end on the way."""
        settings = self._own.current
        limits = settings.investigate
        for each in waiting:
            known = store.question(each.question_id)
            if known is None:
                continue
            question, arrived_us = known
            suppressed = self._desk.suppressed(store, question, settings.failures)
            if suppressed is not None:
                self._end(cycle, store, suppressed, arrived_us)
                continue
            timeout_s = limits.urgent_timeout_s if each.is_urgent else limits.timeout_s
            yield Job(question, best_for(question, self._investigators), timeout_s - each.spent_s, each.spent_s)

    def _close(self, cycle: Cycle, store: InvestigationStore, job: Job) -> None:
        """Write down what came of a question."""
        question, spent_s, playbook = job.question, job.spent_s + job.took_s, job.investigator.name
        now_us = self.clock.wall_us()
        self._took_s.observe(job.took_s)
        if job.answer is None and not job.is_timed_out:
            store.spend(question.question_id, spent_s)
            cycle.log.info("investigation_interrupted", question_id=question.question_id, spent_s=round(spent_s, 1))
            return
        if job.answer is None:
            reason = TIMED_OUT.format(timeout_s=spent_s)
            facts = ended(question, "timed_out", reason, duration_s=spent_s, playbook=playbook)
        elif isinstance(job.answer, Exception):
            reason = readable(f"The investigation failed: {type(job.answer).__name__}: {job.answer}")[:500]
            facts = ended(question, "failed", reason, duration_s=spent_s, playbook=playbook)
        else:
            evidence, conclusion = job.answer
            facts = concluded(question, evidence, conclusion, spent_s)
        if facts.status in ("timed_out", "failed"):
            store.failed(capability_of(question), question.gap_id, now_us, facts.conclusion or "")
        else:
            store.forgive(capability_of(question))
        known = store.question(question.question_id)
        self._end(cycle, store, facts, known[1] if known else now_us)

    def _end(self, cycle: Cycle, store: InvestigationStore, facts: InvestigationFacts, arrived_us: int) -> None:
        store.end(facts, arrived_us, self.clock.wall_us())
        cycle.emit("Q_INVESTIGATION_COMPLETE", facts, incident_id=facts.gap_id)
        cycle.processed += 1
        self._announce(facts)

    def _keep(self, cycle: Cycle) -> None:
        """Have what came of the questions on disk, and told, before the beat is over: others wait for it."""
        now_s = self.clock.monotonic_s()
        if now_s - self._kept_s >= _KEEP_EVERY_S:
            self._kept_s = now_s
            cycle.commit()

    def _announce(self, facts: InvestigationFacts) -> None:
        self._ended.labels(facts.status).inc()
        if facts.rule:
            self._rules.labels(facts.rule).inc()
        action = facts.recommended_action
        self.log.info(
            "investigation_ended", question_id=facts.question_id, status=facts.status, gap=facts.gap_type,
            name=facts.gap_name, rule=facts.rule, confidence=facts.confidence, conclusion=facts.conclusion,
            action=None if action is None else f"{action.action_type} {action.target}", duration_ms=facts.duration_ms,
        )  # fmt: skip

    def _take_settings(self, cycle: Cycle) -> None:
        is_reloaded, self._is_reloaded = self._is_reloaded, False
        if self._own.take():
            self._investigators = self.make_investigators(self._own.current)
        if is_reloaded:
            InvestigationStore(cycle).forgive_all()
            cycle.commit()

    # Hearing and telling

    def on_signal(self, message: Message) -> None:
        self._book.hear(message, self.clock.wall_us())

    def on_reload(self) -> None:
        self._own.reload()
        self._is_reloaded = True

    def on_stop(self) -> None:
        super().on_stop()
        self._pool.close()

    def status(self) -> str:
        return f"{super().status()}, {self._depth} questions wait"


if __name__ == "__main__":
    sys.exit(main(InvestigationConsumerDaemon))
