"""The journal for those who wait: an append returns once it is on disk."""

from __future__ import annotations

from typing import Any

import zmq

from kloros.chembus.journal.client import JournalClient
from kloros.chembus.journal.contract import Appended, Entry, NotKept, Told
from kloros.clock import Clock
from kloros.errors import NotJournaled

APPEND_WITHIN_S = 5.0


class BlockingJournal:
    """Belongs to one thread at a time."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        clock: Clock,
        within_s: float = APPEND_WITHIN_S,
    ) -> None:
        """`within_s` bounds each wait."""
        self._endpoint = endpoint
        self._within_s = within_s
        self._client = JournalClient(context, endpoint, clock)

    def append(self, *entries: Entry) -> list[int]:
        """Keep them; returns their offsets.

        Raises:
            NotJournaled: The journal would not, or did not answer in time.
        """
        answers: list[Appended | NotKept] = []
        self._client.append(entries, answers.append)
        is_answered = self._client.wait(lambda: bool(answers), self._within_s)
        self._client.forget()
        answer = answers[0] if is_answered else None
        if isinstance(answer, Appended):
            return answer.offsets
        reason = answer.detail if answer else "no answer; is kloros-chem-proxy running?"
        first = entries[0]
        raise NotJournaled(signal=first.signal, message_id=first.id, timeout_s=self._within_s, reason=reason)

    def status(self) -> Told | None:
        """How the journal is; None when it does not answer."""
        answers: list[Told] = []
        self._client.status(answers.append)
        self._client.wait(lambda: bool(answers), self._within_s)
        self._client.forget()
        return answers[0] if answers else None

    def close(self) -> None:
        """Let go of the socket."""
        self._client.close()


def journal_status(endpoint: str, clock: Clock, within_s: float) -> dict[str, Any] | None:
    """The figures of the journal there; None when it does not answer in time."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    journal = BlockingJournal(context, endpoint, clock, within_s)
    try:
        told = journal.status()
    finally:
        journal.close()
        context.term()
    return told.status if told else None
