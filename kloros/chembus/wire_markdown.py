"""The wire as a page to read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from kloros.chembus.declaration import Signal, Vocabulary
from kloros.chembus.envelope import MAX_FRAME_BYTES, MAX_MESSAGE_BYTES, MAX_TOPIC_BYTES, Message, RefusalReason
from kloros.chembus.journal.contract import JOURNAL_SOCKET, MAX_ENTRIES, MAX_ROWS, MAX_SIGNALS
from kloros.chembus.journal.wire import JOURNAL_VERSION, VERBS

_REF = "#/{name}"
_INTRODUCTION = f"""# The ChemBus on the wire

Generated from the vocabulary by `python -m kloros.chembus.wire_doc --write`; do not edit.

Schema version 1. ZeroMQ, PUB -> XSUB | XPUB -> SUB: both sides connect, the proxy binds. A message is two frames: the
topic, which is the signal's name in UTF-8, and compact UTF-8 JSON. Readers ignore fields they do not know.
Numbers are finite. A topic is at most {MAX_TOPIC_BYTES} bytes and a message at most {MAX_MESSAGE_BYTES >> 20} MiB,
refused at emit and at receive; the proxy hangs up on a peer that sends a frame of more than
{MAX_FRAME_BYTES >> 20} MiB.

- `id` is unique per message. `pub` names one run of one publisher: `<name>@<boot>.<monotonic microseconds at its
  start>.<random>`. `seq` counts from 1 per publisher and signal. The three are absent in messages of old clients.
- A jump in `seq` is a gap: messages lost on the way. A publisher's HEARTBEAT carries its last `seq` per signal
  (`sent`), so that a lost tail is noticed too; a publisher that closes emits such a HEARTBEAT last.
- A `seq` that was seen already is a duplicate and is dropped. `incident_id` is never used for that.
- The proxy subscribes to everything: a publisher's XPUB socket that reads `01` (hex) knows that its link is up, and
  `00` that it went. A subscriber knows that its subscriptions work once a probe it publishes on a topic of its own
  (`~join.<random>`) comes back. Ignore topics that begin with `~join.`.
- **volatile** signals are fire and forget; gaps are counted and announced. **durable** ones are work: they go to the
  journal first, and are then published with their `offset` in it.
"""
_JOURNAL = f"""## Journal, version {JOURNAL_VERSION}

A ROUTER socket beside the proxy's (`ipc://<runtime directory>/{JOURNAL_SOCKET}`), spoken to by DEALER sockets. A
message is two frames: a verb of one byte, and a MessagePack array. Fields may be added at the end of the arrays.
`request` is a number that the client chooses and the answer repeats; everything may be asked again without harm.

- An entry is what would go over the bus: the signal's name, the JSON body (without `offset`), and its `id`. The same
  `id` again is the same entry and gets the same offset. An append is kept whole or not at all, and acknowledged when it
  is on disk. At most {MAX_ENTRIES} entries.
- After a commit each new entry is published under its signal's name, the body with `offset` added, and then
  `Q_JOURNAL_ADVANCED` is: the doorbell. Consumers take their work from the journal, not from what they hear.
- `journal` names the journal. It changes when the file was lost; offsets then begin anew, and so do consumers.
- A page has at most {MAX_ROWS} rows; ask on from `next_after` until it is `end`. `missing` counts offsets after the
  place asked for that are no longer kept.
- A consumer names at most {MAX_SIGNALS} signals; the names of signals and consumers are at most {MAX_TOPIC_BYTES}
  characters, offsets from 0 to 2^53. A request that is malformed, or beyond that, is counted and not answered.
- A durable signal that the journal did not publish, but a client that knows no journal, is journaled when it is heard,
  once, and is not published again. An `offset` in it, of whoever passes on what was heard elsewhere, is taken out;
  where its `id` is in the journal, it is the same entry.
"""


def wire_markdown(vocabulary: Vocabulary) -> str:
    """The page."""
    shapes = sorted({signal.facts for signal in vocabulary}, key=lambda shape: shape.__name__)
    _, schemas = msgspec.json.schema_components([Message, *shapes], ref_template=_REF)
    envelope = schemas.pop("Message")
    parts = [
        _INTRODUCTION,
        "## Envelope\n",
        _fields(envelope),
        "## Refused messages\n",
        "A receiver counts what it does not take, by reason, and goes on: "
        + ", ".join(f"`{reason}`" for reason in RefusalReason)
        + ".\n",
        _JOURNAL,
        _verbs(),
        "## Signals\n",
        _signals(vocabulary),
        "Beyond these, `Q_TRIGGER_<NAME>` is open to everyone, with TriggerFacts.\n",
        "## Facts\n",
        *(_shape(name, schemas[name]) for name in sorted(schemas)),
    ]
    return "\n".join(parts)


def _verbs() -> str:
    rows = [
        "| verb | what is said |",
        "|---|---|",
        *(f"| `{verb.decode()}` | {said} |" for verb, said in VERBS.items()),
    ]
    return "\n".join(rows) + "\n"


def _signals(signals: Iterable[Signal]) -> str:
    rows = [
        "| signal | class | ecosystem | emitted by | heard by | facts | limit | what it says |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for signal in signals:
        cells = (
            f"`{signal.name}`",
            signal.delivery.value,
            signal.ecosystem,
            signal.emitted_by,
            signal.heard_by,
            f"[{signal.facts.__name__}](#{signal.facts.__name__.lower()})",
            _limits(signal),
            signal.summary,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _limits(signal: Signal) -> str:
    said = []
    if signal.rate_per_s:
        said.append(f"{signal.rate_per_s:g}/s, burst {signal.burst}, then {signal.over_rate}")
    if signal.lifespan_s:
        said.append(f"stale after {signal.lifespan_s:g} s")
    if signal.deadline_s:
        said.append(f"silence is announced after {signal.deadline_s:g} s")
    return "; ".join(said)


def _shape(name: str, schema: dict[str, Any]) -> str:
    return f"### {name}\n\n{schema.get('description', '')}\n\n{_fields(schema)}"


def _fields(schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = ["| field | type | default |", "|---|---|---|"]
    for name, field in schema["properties"].items():
        default = "required" if name in required else f"`{msgspec.json.encode(field.get('default')).decode()}`"
        rows.append(f"| `{name}` | {_spell(field)} | {default} |")
    return "\n".join(rows) + "\n"


def _spell(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_spell(option) for option in schema["anyOf"])
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/")
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return f"list of {_spell(schema.get('items', {}))}"
    if kind == "object":
        keys = f", by keys{bounds}" if (bounds := _bounds(schema.get("propertyNames", {}))) else ""
        return f"object of {_spell(schema.get('additionalProperties', {}))}{keys}"
    return kind + _bounds(schema)


def _bounds(schema: dict[str, Any]) -> str:
    words = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "above", "maxLength": "length at most"}
    said = [f"{word} {_number(schema[key])}" for key, word in words.items() if key in schema]
    return f" ({', '.join(said)})" if said else ""


def _number(value: float) -> str:
    return f"{int(value)}" if value == int(value) else f"{value:g}"
