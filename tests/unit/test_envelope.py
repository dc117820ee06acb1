from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros.chembus.envelope import MAX_MESSAGE_BYTES, Codec, Message, Refused, codec_for, decode, loose_seq
from kloros.chembus.facts import AffectFacts, Facts, HeartbeatFacts, TriggerFacts
from kloros.chembus.vocabulary import suite_vocabulary
from kloros.errors import BadFacts, Oversize

TOPIC = b"Q_TRIGGER_X"


def message(**changes: Any) -> Message:
    values: dict[str, Any] = {
        "signal": "Q_TRIGGER_X",
        "ecosystem": "x",
        "facts": TriggerFacts(beat=1, due_ts=1.5e9),
        "ts": 1.5e9,
        "id": "a.1",
        "pub": "p",
        "seq": 1,
    }
    return codec_for(TriggerFacts).message_type(**{**values, **changes})


BODY = codec_for(TriggerFacts).encode(message())


def test_the_wire_is_schema_1_as_old_clients_speak_it() -> None:
    assert json.loads(BODY) == {
        "signal": "Q_TRIGGER_X",
        "ecosystem": "x",
        "intensity": 1.0,
        "facts": {"beat": 1, "due_ts": 1.5e9},
        "incident_id": None,
        "trace": None,
        "ts": 1.5e9,
        "schema_version": 1,
        "channel": "legacy",
        "id": "a.1",
        "pub": "p",
        "seq": 1,
    }
    assert b" " not in BODY


def test_an_old_clients_message_is_read() -> None:
    old = {"signal": "Q_TRIGGER_X", "ecosystem": "x", "intensity": 2, "facts": {}, "incident_id": None, "trace": None}
    read = decode(TOPIC, json.dumps(old | {"ts": 1.5e9, "schema_version": 1}).encode(), TriggerFacts)
    assert (read.id, read.pub, read.seq, read.intensity, read.facts) == (None, None, None, 2.0, TriggerFacts())


def test_fields_nobody_knows_are_ignored() -> None:
    newer = BODY.replace(b'"facts":{', b'"mood":"calm","facts":{"colour":[1,2],')
    assert decode(TOPIC, newer, TriggerFacts) == message()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"\xff\xfe\x00", "not_json"),
        (b"[" * 10_000, "wrong_type"),
        (b'{"facts":' * 10_000, "not_json"),
        (BODY[:-1], "not_json"),
        (BODY + b"x", "not_json"),
        (BODY.replace(b'"p"', b'"\\ud800"'), "not_json"),
        (BODY.replace(b'"p"', b'"\xff"'), "not_json"),
        (b"null", "wrong_type"),
        (b"{}", "wrong_type"),
        (BODY.replace(b'"x"', b"7"), "wrong_type"),
        (BODY.replace(b'"seq":1', b'"seq":' + b"9" * 400), "wrong_type"),
        (BODY.replace(b'"seq":1', b'"seq":0'), "wrong_type"),
        (BODY.replace(b'"ts":1500000000.0', b'"ts":1e300'), "wrong_type"),
        (BODY.replace(b'"ts":1500000000.0', b'"ts":-1'), "wrong_type"),
        (BODY.replace(b'"intensity":1.0', b'"intensity":NaN'), "not_finite"),
        (BODY.replace(b'"intensity":1.0', b'"intensity":-Infinity'), "not_finite"),
        (BODY.replace(b'"intensity":1.0', b'"intensity":1e999'), "not_finite"),
        (BODY.replace(b'"intensity":1.0', b'"intensity":' + b"9" * 400), "not_finite"),
        (BODY.replace(b'"facts":{', b'"facts":[],"x":{'), "bad_facts"),
        (BODY.replace(b'"beat":1', b'"beat":"1"'), "bad_facts"),
        (BODY.replace(b'"beat":1', b'"beat":1' + b"0" * 30), "bad_facts"),
        (BODY.replace(b'"schema_version":1', b'"schema_version":99'), "schema_version"),
        (b'{"schema_version":99,"all":"new"}', "schema_version"),
        (BODY.replace(b"Q_TRIGGER_X", b"Q_TRIGGER_Y"), "wrong_topic"),
        (b" " * (MAX_MESSAGE_BYTES + 1), "oversize"),
    ],
)
def test_what_is_not_a_message_is_refused_by_reason(body: bytes, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        decode(TOPIC, body, TriggerFacts)
    assert caught.value.reason == reason
    assert len(caught.value.detail) < 300


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_and_nothing_else_happens(body: bytes) -> None:
    with pytest.raises(Refused):
        decode(TOPIC, body, TriggerFacts)


@given(st.integers(0, len(BODY) - 1), st.binary(min_size=1, max_size=4))
def test_a_damaged_message_is_read_or_refused(at: int, damage: bytes) -> None:
    with contextlib.suppress(Refused):
        decode(TOPIC, BODY[:at] + damage + BODY[at + len(damage) :], TriggerFacts)


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
_numbers = st.floats(allow_nan=False, allow_infinity=False)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _numbers | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=20,
)


@given(
    intensity=_numbers,
    ts=st.floats(0, 4e9),
    incident_id=st.none() | _texts,
    seq=st.integers(1, 2**53),
    facts=st.builds(
        AffectFacts,
        state=st.none() | _texts | st.dictionaries(_texts, _json, max_size=4),
        cause=st.none() | _texts,
        evidence=st.none() | st.lists(_json, max_size=4),
        ttl_s=st.none() | st.floats(0.001, 1e9),
    ),
)
def test_what_is_encoded_is_decoded_unchanged(**values: Any) -> None:
    codec = codec_for(AffectFacts)
    original = codec.message_type(signal="AFFECT_STATE", ecosystem="affect", id="i", pub="p", **values)
    assert decode(b"AFFECT_STATE", codec.encode(original), AffectFacts) == original


@given(number=st.sampled_from([math.nan, math.inf, -math.inf]), depth=st.integers(0, 5))
def test_a_number_that_is_not_one_never_leaves(number: float, depth: int) -> None:
    nested: Any = number
    for level in range(depth):
        nested = [nested] if level % 2 else {"in": nested}
    facts = AffectFacts(state={"value": nested})
    with pytest.raises(BadFacts, match="JSON cannot carry"):
        codec_for(AffectFacts).encode(
            codec_for(AffectFacts).message_type(signal="A", ecosystem="a", ts=1.0, facts=facts)
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"intensity": math.nan},
        {"intensity": "loud"},
        {"facts": TriggerFacts(late_s=math.inf)},
        {"facts": TriggerFacts(beat="one")},  # type: ignore[arg-type]
        {"facts": TriggerFacts(schedule="\ud800")},
        {"facts": TriggerFacts(schedule=object())},  # type: ignore[arg-type]
        {"ts": 1e300},
        {"ecosystem": "x" * 2000},
    ],
)
def test_what_a_receiver_would_refuse_is_not_sent(changes: dict[str, Any]) -> None:
    with pytest.raises(BadFacts, match="Q_TRIGGER_X"):
        codec_for(TriggerFacts).encode(message(**changes))


def test_the_word_null_is_no_reason_to_refuse() -> None:
    facts = AffectFacts(cause="null", evidence=[None, "null"])
    codec = codec_for(AffectFacts)
    assert codec.encode(codec.message_type(signal="A", ecosystem="null", ts=1.0, facts=facts))


def test_too_long_is_not_sent() -> None:
    with pytest.raises(Oversize) as caught:
        codec_for(TriggerFacts).encode(message(facts=TriggerFacts(why="x" * MAX_MESSAGE_BYTES)))
    assert caught.value.limit_bytes == MAX_MESSAGE_BYTES


class TestFacts:
    codec: Codec = codec_for(TriggerFacts)

    def test_none_are_the_defaults(self) -> None:
        assert self.codec.facts("S", None) == TriggerFacts()

    def test_a_mapping_becomes_the_struct(self) -> None:
        assert self.codec.facts("S", {"beat": 3}) == TriggerFacts(beat=3)

    def test_a_misspelt_field_is_named(self) -> None:
        with pytest.raises(BadFacts, match=r"unknown baet \(known: schedule, beat"):
            self.codec.facts("S", {"baet": 3})

    def test_more_fields_pass_where_they_are_allowed(self) -> None:
        assert self.codec.facts("S", {"baet": 3}, more=True) == {"baet": 3}

    @pytest.mark.parametrize(
        "given_facts", [{"beat": "x"}, HeartbeatFacts(zooid="z", niche="n", uptime_s=1, processed_count=0), 7]
    )
    def test_another_shape_is_refused(self, given_facts: Any) -> None:
        with pytest.raises(BadFacts):
            self.codec.facts("S", given_facts)

    def test_what_must_be_there_must_be_there(self) -> None:
        with pytest.raises(BadFacts, match="zooid"):
            codec_for(HeartbeatFacts).facts("HEARTBEAT", None)


def test_a_refused_message_may_still_tell_its_number() -> None:
    assert loose_seq(BODY.replace(b'"beat":1', b'"beat":"1"'), "Q_TRIGGER_X") == ("p", 1)
    assert loose_seq(BODY, "OTHER") is None
    assert loose_seq(b"junk", "Q_TRIGGER_X") is None
    assert loose_seq(BODY.replace(b'"seq":1', b'"seq":"1"'), "Q_TRIGGER_X") is None


@pytest.mark.parametrize("facts_type", sorted({s.facts for s in suite_vocabulary()}, key=lambda t: t.__name__))
def test_every_shape_of_facts_has_a_schema_and_a_sentence(facts_type: type[Facts]) -> None:
    assert facts_type.__doc__
    assert msgspec.json.schema(facts_type)
