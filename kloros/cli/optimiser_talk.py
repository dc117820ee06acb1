"""Speaking with the optimiser's daemon: whether it is there, what it says, and what came of an action."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kloros.chembus.facts import HeartbeatFacts, OptimiserStateFacts
    from kloros.chembus.facts_work import EnactmentFacts, ReviewFacts
    from kloros.cli.client import Client

STEM = "optimiser"
ZOOID = "optimiser_daemon"
# A daemon that lives answers within milliseconds.
ANSWER_TIMEOUT_S = 1.0
_SOON_S = 1.0


def ask(client: Client) -> tuple[HeartbeatFacts | None, OptimiserStateFacts | None]:
    """The daemon's heartbeat, and what it said of its state until then; None when it does not answer.

    The daemon handles one message after the other: its heart beats after what was emitted before was heard. `client`
    hears HEARTBEAT and, for the state, OPTIMISER_STATE.
    """
    from kloros.chembus.facts import HeartbeatFacts, OptimiserStateFacts, StatusRequestFacts
    from kloros.cli.client import requester

    client.emit("STATUS_REQUEST", StatusRequestFacts(zooid=ZOOID, requester=requester()))
    state: OptimiserStateFacts | None = None
    for message in client.messages(ANSWER_TIMEOUT_S):
        facts = message.facts
        if isinstance(facts, OptimiserStateFacts):
            state = facts
        elif isinstance(facts, HeartbeatFacts) and facts.zooid == ZOOID and facts.mode != "stopped":
            return facts, state
    return None, state


def end_of(client: Client, action_id: str, timeout_s: float) -> EnactmentFacts | ReviewFacts | None:
    """What became of an action, or the flag by which it asks for approval; None when nothing did in time. `client`
    hears Q_ENACTMENT and FLAG_FOR_REVIEW."""
    from kloros.chembus.facts_work import EnactmentFacts, ReviewFacts

    asked: ReviewFacts | None = None
    for message in client.messages(timeout_s):
        facts = message.facts
        if isinstance(facts, EnactmentFacts) and facts.action_id == action_id:
            return facts
        if isinstance(facts, ReviewFacts) and facts.action_id == action_id:
            # Some flags only tell what ended: then the end follows at once.
            asked, timeout_s = facts, _SOON_S
            break
    if asked is not None:
        for message in client.messages(timeout_s):
            facts = message.facts
            if isinstance(facts, EnactmentFacts) and facts.action_id == action_id:
                return facts
    return asked
