"""The vocabulary as an AsyncAPI 3 document."""

from __future__ import annotations

from typing import Any

import msgspec

from kloros.chembus.declaration import Signal, Vocabulary
from kloros.chembus.envelope import SCHEMA_VERSION, Message

_REF = "#/components/schemas/{name}"


def asyncapi(vocabulary: Vocabulary) -> dict[str, Any]:
    """The document as plain data."""
    shapes = sorted({signal.facts for signal in vocabulary}, key=lambda shape: shape.__name__)
    _, schemas = msgspec.json.schema_components([Message, *shapes], ref_template=_REF)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ChemBus",
            "version": f"{SCHEMA_VERSION}.0.0",
            "description": "Each channel is a ZeroMQ topic; each message two frames, the topic and compact JSON.",
        },
        "defaultContentType": "application/json",
        "channels": {signal.name: _channel(signal) for signal in vocabulary},
        "operations": {f"emit.{signal.name}": _operation(signal) for signal in vocabulary},
        "components": {
            "messages": {signal.name: _message(signal) for signal in vocabulary},
            "schemas": schemas,
        },
    }


def _channel(signal: Signal) -> dict[str, Any]:
    return {
        "address": signal.name,
        "description": signal.summary,
        "messages": {signal.name: {"$ref": f"#/components/messages/{signal.name}"}},
        "x-delivery": signal.delivery.value,
        "x-emitted-by": signal.emitted_by,
        "x-heard-by": signal.heard_by,
        "x-rate-per-s": signal.rate_per_s,
        "x-burst": signal.burst,
        "x-over-rate": signal.over_rate,
        "x-lifespan-s": signal.lifespan_s,
        "x-deadline-s": signal.deadline_s,
    }


def _operation(signal: Signal) -> dict[str, Any]:
    return {"action": "send", "channel": {"$ref": f"#/channels/{signal.name}"}, "summary": signal.summary}


def _message(signal: Signal) -> dict[str, Any]:
    facts = {"$ref": _REF.format(name=signal.facts.__name__)}
    return {
        "name": signal.name,
        "payload": {
            "allOf": [
                {"$ref": _REF.format(name="Message")},
                {"type": "object", "properties": {"signal": {"const": signal.name}, "facts": facts}},
            ]
        },
    }
