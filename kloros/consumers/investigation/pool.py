"""Looks into several questions at once, each in a thread of its own, none for longer than it may."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue

from kloros.chembus.facts_work import QuestionFacts
from kloros.clock import Clock
from kloros.consumers.investigation.base import BringsRules, Investigator
from kloros.consumers.investigation.evidence import Evidence
from kloros.consumers.investigation.outcome import check, concluded
from kloros.consumers.investigation.rule import Conclusion, Rule, conclude
from kloros.consumers.investigation.rules import RULES
from kloros.machine.deadline import Deadline
from kloros.machine.whole import Machine

# How often it is looked whether time is over; and how long those that are called off may take to say what they have.
_LOOK_S = 0.2
_GRACE_S = 0.3

Found = tuple[Evidence, Conclusion]


class Job:
    """One question, and what came of it. `answer` is None while there is none."""

    def __init__(self, question: QuestionFacts, investigator: Investigator, left_s: float, spent_s: float) -> None:
        self.question, self.investigator, self.left_s, self.spent_s = question, investigator, left_s, spent_s
        self.answer: Found | Exception | None = None
        self.took_s = 0.0
        self.deadline: Deadline | None = None
        self.thread: threading.Thread | None = None
        self.started_s = 0.0

    @property
    def is_timed_out(self) -> bool:
        """Whether it had all the time that it may have, and gave no answer."""
        return self.answer is None and self.took_s >= self.left_s


class Pool:
    """Bounded in threads: one that hangs keeps its place until it ends, and nobody else gets that place."""

    def __init__(self, clock: Clock, make_machine: Callable[[], Machine], others: Sequence[Rule] = RULES) -> None:
        self._clock, self._make_machine, self._rules = clock, make_machine, others
        self._hanging: list[Job] = []

    @property
    def hanging(self) -> int:
        """Threads whose question has ended and who have not."""
        self._hanging = [job for job in self._hanging if job.thread is not None and job.thread.is_alive()]
        return len(self._hanging)

    def run(
        self, jobs: Iterator[Job], concurrency: int, remaining_s: Callable[[], float], is_cancelled: Callable[[], bool],
        reserve_s: float,
    ) -> Iterator[Job]:  # fmt: skip
        """Each job that was begun, once it has its answer, has timed out, or the time for all of them is over.

        remaining_s: what is left for all; the last `reserve_s` of it are not used. No job is begun that has not at
        least as much again.
        """
        done: SimpleQueue[Job] = SimpleQueue()
        running: list[Job] = []
        upcoming = next(jobs, None)
        while running or upcoming is not None:
            left_s = remaining_s() - reserve_s
            if left_s <= 0 or is_cancelled():
                yield from self._call_off(running, done)
                return
            while upcoming is not None and left_s > reserve_s and len(running) + self.hanging < concurrency:
                self._start(upcoming, left_s, done)
                running.append(upcoming)
                upcoming = next(jobs, None)
            if not running:
                return  # all places are taken by those that hang, or there is too little time
            ended = self._next_ended(running, done, left_s)
            for job in ended:
                running.remove(job)
                yield job

    def close(self) -> None:
        """Let those that hang know that nobody waits for them."""
        for job in self._hanging:
            if job.deadline is not None:
                job.deadline.call_off()

    def _start(self, job: Job, left_s: float, done: SimpleQueue[Job]) -> None:
        job.started_s = self._clock.monotonic_s()
        job.deadline = Deadline(self._clock, min(job.left_s, left_s))
        name = f"investigate-{job.question.question_id}"
        job.thread = threading.Thread(target=self._look, args=(job, job.deadline, done), name=name, daemon=True)
        job.thread.start()

    def _look(self, job: Job, deadline: Deadline, done: SimpleQueue[Job]) -> None:
        answer: Found | Exception
        try:
            machine = self._make_machine()
            try:
                evidence = job.investigator.gather(job.question, machine, deadline)
            finally:
                machine.close()
            own = job.investigator.rules if isinstance(job.investigator, BringsRules) else ()
            found = (evidence, conclude(evidence, (*own, *self._rules)))
            # What cannot be told fails here, for itself: later it would take the whole beat along.
            check(concluded(job.question, *found, duration_s=0.0))
            answer = found
        except Exception as error:  # noqa: BLE001 - whatever an investigator does, the others go on; it is told
            answer = error
        job.answer = answer
        done.put(job)

    def _next_ended(self, running: list[Job], done: SimpleQueue[Job], left_s: float) -> list[Job]:
        """Those with an answer, and those whose time is over, after a short wait for the first of them."""
        try:
            first = done.get(timeout=max(0.01, min(_LOOK_S, left_s)))
        except Empty:
            return [job for job in running if self._is_over(job)]
        if first not in running:
            return []  # it had been given up
        first.took_s = self._clock.monotonic_s() - first.started_s
        return [first]

    def _is_over(self, job: Job) -> bool:
        job.took_s = self._clock.monotonic_s() - job.started_s
        if job.answer is not None or job.took_s < job.left_s:
            return False
        self._give_up(job)
        return True

    def _give_up(self, job: Job) -> None:
        if job.deadline is not None:
            job.deadline.call_off()
        self._hanging.append(job)

    def _call_off(self, running: list[Job], done: SimpleQueue[Job]) -> Iterator[Job]:
        for job in running:
            if job.deadline is not None:
                job.deadline.call_off()
        given_up_s = self._clock.monotonic_s() + _GRACE_S
        for job in running:
            if job.thread is not None:
                job.thread.join(max(0.01, min(_GRACE_S, given_up_s - self._clock.monotonic_s())))
            job.took_s = self._clock.monotonic_s() - job.started_s
            if job.answer is None:
                self._give_up(job)
            yield job
