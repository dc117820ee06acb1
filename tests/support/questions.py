"""A machine's questions as the chain asks them, generated: incidents of units, asked about in several words, and what
investigations found. What is right is known, because it was planted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import Any, NamedTuple

from kloros.chembus.envelope import Message
from kloros.consumers.candidates.history import HISTORY_TABLES, History
from kloros.consumers.candidates.subject import Asked
from kloros.consumers.curiosity.wording import question
from kloros.consumers.dedup.hashed_words import HashedWords
from kloros.consumers.dedup.names import differ, names_of
from kloros.consumers.dedup.question import text_of
from kloros.consumers.dedup.vectors import packed, similarity
from kloros.storage.database import Database
from support.bench import Bench
from support.ledgers import message

UNITS = (
    "nginx", "postgresql", "redis", "backup-home", "backup-root", "grafana", "prometheus", "smbd", "cups", "docker",
    "mosquitto", "mariadb", "haproxy", "unbound", "chrony", "rsyslog", "fail2ban", "postfix", "dovecot", "jellyfin",
)  # fmt: skip
# (gap_type, gap_name, evidence) in which one cause shows; {u} is the unit.
Sign = tuple[str, str, dict[str, str]]
CAUSES: dict[str, tuple[Sign, ...]] = {
    "address_in_use": (
        ("unit_unhealthy", "{u}.service", {"problem": "failed", "exit": "exit-code, status 98/BIND"}),
        ("unit_unhealthy", "{u}.service", {"problem": "start_limited", "exit": "exit-code, status 98/BIND"}),
        ("journal_errors", "{u}: bind() to <addr> failed (98: Address already in use)", {}),
        ("journal_errors", "{u}: still could not bind()", {}),
    ),
    "exec_missing": (
        ("unit_unhealthy", "{u}.service", {"problem": "failed", "exit": "exit-code, status 203/EXEC"}),
        ("unit_unhealthy", "{u}.service", {"problem": "waiting_to_restart", "exit": "exit-code, status 203/EXEC"}),
        ("journal_errors", "{u}: Failed to execute /usr/sbin/{u}: No such file or directory", {}),
    ),
    "out_of_memory": (
        ("unit_unhealthy", "{u}.service", {"problem": "failed", "result": "oom-kill"}),
        ("unit_unhealthy", "{u}.service", {"problem": "flapping", "result": "oom-kill"}),
        ("journal_errors", "{u}: Out of memory: Killed process <n>", {}),
    ),
    "certificate_expired": (
        ("journal_errors", "{u}: certificate has expired", {}),
        ("journal_errors", "{u}: TLS handshake failed: certificate expired", {}),
    ),
}  # fmt: skip

Given = tuple[str, dict[str, Any]]
"""A signal and its facts."""


class Habits(NamedTuple):
    """How this machine is. threshold: at what likeness its dedup folds. worth_above: from what ratio on investigations
    find something. noise: the share of answers that have nothing to do with the question."""

    threshold: float = 0.85
    worth_above: float = 1.4
    noise: float = 0.0


class _Open(NamedTuple):
    question_id: str
    vector: bytes
    names: frozenset[str]


def incidents(chance: Random, count: int, habits: Habits = Habits()) -> Iterator[Given]:  # noqa: B008
    """The signals of so many incidents, a few of them at a time."""
    number, life = 0, f"{chance.getrandbits(20):05x}"
    for incident in range(count):
        unit = chance.choice(UNITS)
        causes = chance.sample(sorted(CAUSES), 2 if chance.random() < 0.3 else 1)
        signs = [(cause, sign) for cause in causes for sign in CAUSES[cause] if chance.random() < 0.8]
        chance.shuffle(signs)
        open_ones: list[_Open] = []
        answers: list[Given] = []
        for cause, (gap_type, gap_name, evidence) in signs:
            number += 1
            told = _question(number, f"{life}{incident:04x}", gap_type, gap_name.format(u=unit), evidence, chance)
            yield f"Q_CURIOSITY_{chance.choice(('HIGH', 'MEDIUM', 'LOW'))}", told
            like = _likeness(told)
            into, how = _most_alike(like, open_ones)
            if into is not None and how >= habits.threshold:
                yield "Q_QUESTION_FOLDED", {
                    "question_id": told["question_id"], "folded_into": into.question_id, "similarity": how,
                }  # fmt: skip
                continue
            open_ones.append(like)
            yield "Q_CURIOSITY_INVESTIGATE", told
            answers.append(_answer(told, cause, unit, habits, chance))
        chance.shuffle(answers)
        yield from answers


def feed(table: Bench[Any], seed: int, count: int, habits: Habits = Habits()) -> None:  # noqa: B008
    """The signals of so many incidents, as they come on the bus, in no time."""
    for signal, facts in incidents(Random(seed), count, habits):
        table.outsider.emit(signal, facts)
    table.settle()


def history_of(given: Iterable[Given], database: Database) -> list[Asked]:
    """The signals as a daemon records them."""
    record(given, database)
    history = History(database)
    return history.read(history.number, 100_000)


def record(given: Iterable[Given], database: Database, first_offset: int = 1) -> None:
    """Take them in, one by one."""
    with database.transaction():
        history = History(database)
        for offset, (signal, facts) in enumerate(given, first_offset):
            history.record(heard(offset, signal, facts), offset)


def heard(offset: int, signal: str, facts: dict[str, Any]) -> Message:
    """The signal as the journal gives it."""
    return message(offset, signal, **facts)[0]


def history_database(path: Any) -> Database:
    """An empty one with the tables of the recorded history."""
    return Database(path, HISTORY_TABLES)


def _question(
    number: int, incident: str, gap_type: str, gap_name: str, evidence: dict[str, str], chance: Random
) -> dict[str, Any]:
    return {
        "question_id": f"q-{incident}{number:06x}", "question": question(gap_type, gap_name, evidence),
        "gap_id": f"g-{incident}-{gap_type}-{gap_name}", "gap_type": gap_type, "gap_name": gap_name,
        "capability_key": f"{gap_type}:{gap_name.partition(':')[0]}", "severity": chance.choice(("medium", "high")),
        "category": chance.choice(("gap", "gap", "integration")), "value_estimate": round(chance.uniform(0.5, 2.0), 3),
        "cost_estimate": 1.0, "evidence": [f"{name}={value}" for name, value in sorted(evidence.items())],
    }  # fmt: skip


def _answer(told: dict[str, Any], cause: str, unit: str, habits: Habits, chance: Random) -> Given:
    ratio = told["value_estimate"] / told["cost_estimate"]
    is_noise = chance.random() < habits.noise
    is_found = chance.random() < 0.5 if is_noise else ratio > habits.worth_above or chance.random() < 0.1
    rule = chance.choice(sorted(CAUSES)) if is_noise else cause
    return "Q_INVESTIGATION_COMPLETE", {
        "question_id": told["question_id"], "status": "concluded", "rule": rule,
        "confidence": 0.9 if is_found else 0.3, "duration_ms": round(chance.uniform(500, 9_000), 1),
        "gap_id": told["gap_id"], "gap_type": told["gap_type"], "gap_name": told["gap_name"],
        "recommended_action": {"action_type": "restart_unit", "target": f"{unit}.service"},
    }  # fmt: skip


def _likeness(told: dict[str, Any]) -> _Open:
    text = text_of(told["question"], told["gap_name"])
    (vector,) = HashedWords().embed([text])
    return _Open(told["question_id"], packed(vector), frozenset(names_of(text).certain))


def _most_alike(like: _Open, open_ones: Iterable[_Open]) -> tuple[_Open | None, float]:
    comparable = [each for each in open_ones if not differ(like.names, each.names)]
    alikes = [(similarity(like.vector, each.vector), each) for each in comparable]
    how, into = max(alikes, key=lambda each: each[0], default=(0.0, None))
    return into, min(1.0, how)
