"""Every consumer of the suite, found from the code, and messages to give them: good ones and hostile ones."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

import kloros
from kloros.chembus.declaration import Delivery
from kloros.chembus.envelope import Refused, decode
from kloros.chembus.facts import Facts
from kloros.chembus.vocabulary import VOCABULARY
from kloros.consumers.introspection.findings import gap_id
from kloros.daemon.consumer import Consumer

CONSUMERS_ROOM = Path(kloros.__file__).parent / "consumers"
MEGABYTE = 1 << 20

# Good facts of a signal, beside what any shape is given: `{n}` makes each one of a row its own. A consumer that needs
# more than that to have something to do adds a line here.
EXAMPLES: dict[str, dict[str, Any]] = {
    "OBSERVATION": {"zooid": "tester_daemon", "ok": True, "ttr_ms": 12.0},
    "CAPABILITY_GAP": {
        "gap_type": "unit_unhealthy", "gap_name": "example{n}.service", "severity": "high", "change": "opened",
        "evidence": ["unit=example{n}.service", "problem=failed", "exit=exit-code, status 203/EXEC"],
        "detail": "example{n}.service failed: exit-code, status 203/EXEC",
    },
    "CAPABILITY_RESTORED": {
        "gap_type": "unit_unhealthy", "gap_name": "mended{n}.service", "severity": "high", "change": "restored",
    },
    "Q_CURIOSITY_INVESTIGATE": {
        "question": "Why does example{n}.service fail with exit status 203/EXEC?", "gap_type": "unit_unhealthy",
        "gap_name": "example{n}.service", "severity": "high", "capability_key": "unit_unhealthy:example{n}.service",
        "evidence": ["problem=failed"], "evidence_hash": "{n:016x}", "value_estimate": 1.0, "cost_estimate": 0.4,
    },
    "Q_INVESTIGATION_COMPLETE": {
        "status": "concluded", "conclusion": "the program of example{n}.service is missing", "confidence": 0.9,
        "gap_type": "unit_unhealthy", "gap_name": "example{n}.service", "severity": "high",
        "recommended_action": {"action_type": "restart_unit", "target": "example{n}.service"},
    },
    "Q_ACTION_COMPLETE": {"action_type": "restart_unit", "target": "example{n}.service", "outcome": "observed"},
    "Q_ACTION_DECISION": {"decision": "reject"},
}  # fmt: skip
for _level in ("CRITICAL", "HIGH", "MEDIUM", "LOW"):
    EXAMPLES[f"Q_CURIOSITY_{_level}"] = EXAMPLES["Q_CURIOSITY_INVESTIGATE"]
# What stands for "everything" where a consumer consumes that.
SOME_DURABLE = ("OBSERVATION", "CAPABILITY_GAP", "Q_INVESTIGATION_COMPLETE", "FLAG_FOR_REVIEW")


def consumers() -> list[type[Consumer]]:
    """Every Consumer that a daemon file of the room defines; not a variant of another under the same zooid."""
    found: list[type[Consumer]] = []
    for path in sorted(CONSUMERS_ROOM.rglob("*_daemon.py")):
        name = ".".join(("kloros", "consumers", *path.relative_to(CONSUMERS_ROOM).with_suffix("").parts))
        module = importlib.import_module(name)
        found += [
            each
            for each in vars(module).values()
            if isinstance(each, type) and issubclass(each, Consumer) and each.__module__ == name
        ]
    variants = {each for each in found if any(base.zooid == each.zooid for base in each.__mro__[1:] if base in found)}
    return [each for each in found if each not in variants]


def signals_of(consumer: type[Consumer]) -> tuple[str, ...]:
    """The durable signals it consumes, by name."""
    known = [signal.name for signal in VOCABULARY if signal.delivery is Delivery.DURABLE]
    named: list[str] = []
    for topic in consumer.consumes:
        if topic == "*":
            named += SOME_DURABLE
        elif topic.endswith("*"):
            named += [name for name in known if name.startswith(topic[:-1])]
        else:
            named.append(topic)
    return tuple(dict.fromkeys(named))


def example(signal: str, number: int = 1) -> dict[str, Any]:
    """Good facts of that signal."""
    shape = VOCABULARY.lookup(signal).facts
    plain = {name: _plain(name, kind, number) for name, kind, is_required in _fields(shape) if is_required}
    told = plain | _numbered(EXAMPLES.get(signal, {}), number)
    if "gap_name" in told:
        told["gap_id"] = gap_id(told["gap_type"], told["gap_name"])
    if "ts" in told:
        told["ts"] = time.time()
    return told


def hostile(signal: str) -> Iterator[dict[str, Any]]:
    """Facts that the vocabulary may let through, and nobody would send in good faith."""
    shape, number = VOCABULARY.lookup(signal).facts, 1_000
    for name, kind, is_required in _fields(shape):
        for value in _nasty(kind):
            number += 1
            yield example(signal, number) | {name: value}
        if not is_required:
            number += 1
            yield {each: value for each, value in example(signal, number).items() if each != name}
    texts = [name for name, kind, _ in _fields(shape) if _is(kind, msgspec.inspect.StrType)]
    for text in ("", "\0\x1b[31m\u202e\U0001f300", "x" * (900_000 // max(1, len(texts)))):
        yield example(signal, number) | dict.fromkeys(texts, text)


def malformed(signal: str) -> Iterator[bytes]:
    """Bodies that are no message of that signal."""
    return (body for body in _doubtful(signal) if _is_refused(signal, body))


def _is_refused(signal: str, body: bytes) -> bool:
    try:
        decode(signal.encode(), body, VOCABULARY.lookup(signal).facts)
    except Refused:
        return True
    return False


def _doubtful(signal: str) -> Iterator[bytes]:
    envelope = {"signal": signal, "ecosystem": "tests", "ts": 1.0, "schema_version": 1}
    facts = example(signal)
    yield msgspec.json.encode(envelope | {"facts": [1, 2]})
    yield msgspec.json.encode(envelope | {"facts": facts, "ts": "yesterday"})
    yield msgspec.json.encode(envelope | {"facts": facts, "signal": "Q_SOMETHING_ELSE"})
    yield msgspec.json.encode(envelope | {"facts": facts, "schema_version": 99})
    yield b'{"signal":"%b","facts":{,}' % signal.encode() + b"}"
    yield b'{"signal":"%b","ecosystem":"x","ts":NaN,"facts":{}}' % signal.encode()
    yield b'{"signal":"%b","ecosystem":"x","ts":1,"facts":%b1%b}' % (signal.encode(), b"[" * 5_000, b"]" * 5_000)
    for name, _, is_required in _fields(VOCABULARY.lookup(signal).facts):
        for value in ("x" * 900_000, [{"no": ["such", "thing"]}], 1e308, -1, True, None):
            yield msgspec.json.encode(envelope | {"facts": facts | {name: value}})
        if is_required:
            yield msgspec.json.encode(envelope | {"facts": {key: each for key, each in facts.items() if key != name}})


def _numbered(value: Any, number: int) -> Any:
    if isinstance(value, str):
        return value.format(n=number) if "{" in value else value
    if isinstance(value, dict):
        return {key: _numbered(each, number) for key, each in value.items()}
    return [_numbered(each, number) for each in value] if isinstance(value, list) else value


def _fields(shape: type[Facts]) -> list[tuple[str, Any, bool]]:
    return [(each.name, each.type, each.required) for each in msgspec.inspect.type_info(shape).fields]  # type: ignore[attr-defined]


def _is(kind: Any, wanted: type) -> bool:
    return isinstance(kind, wanted) or any(_is(each, wanted) for each in getattr(kind, "types", ()))


def _plain(name: str, kind: Any, number: int) -> Any:
    if isinstance(kind, msgspec.inspect.LiteralType):
        return kind.values[0]
    if _is(kind, msgspec.inspect.StrType):
        return f"{name}-{number}"
    if _is(kind, msgspec.inspect.BoolType):
        return True
    if _is(kind, msgspec.inspect.IntType):
        return 1
    if _is(kind, msgspec.inspect.FloatType):
        return 0.5
    return {} if _is(kind, msgspec.inspect.DictType) else []


def _nasty(kind: Any) -> list[Any]:
    values: list[Any] = []
    if _is(kind, msgspec.inspect.StrType):
        values += ["", "x" * 900_000, "{0} {name} %s %(x)s", "'; DROP TABLE documents; --", "../../../etc/passwd\0",
                   "-rf\n\r\u2028\u202e\x1b[2J", "9" * 5_000, "NaN"]  # fmt: skip
    if _is(kind, msgspec.inspect.FloatType):
        values += [0.0, -0.0, 5e-324, 1e308, -1e308, 253_402_300_799.0, 1.0]
    if _is(kind, msgspec.inspect.IntType):
        values += [0, 2**53]
    if _is(kind, msgspec.inspect.ListType):
        values += [[], ["="] * 100_000, ["x" * 900_000], ["a=b", "=", "===", "\0=\0", "nan=nan"]]
    if _is(kind, msgspec.inspect.DictType) or _is(kind, msgspec.inspect.AnyType):
        deep: Any = "deep"
        for _ in range(400):
            deep = {"in": [deep]}
        values += [{}, {"": ""}, {"deep": deep}, {str(n): n for n in range(20_000)}, {"x" * 400_000: "y" * 400_000}]
    return values
