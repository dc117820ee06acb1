"""The ledger's canonical spelling, signatures, rows, and what zooids sign."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest

from kloros.consumers.ledger.rows import (
    GENESIS,
    Entry,
    Head,
    NotCanonical,
    Segment,
    append,
    canonical,
    is_signed_by,
    observation_signature,
    row_hash,
    seal,
    signature,
)

KEY = b"k" * 32


def entry(source: str = "m1", **facts: object) -> Entry:
    return Entry(
        seq=0, prev="", source=source, offset=7, signal="OBSERVATION", zooid="z", ts=1.5, heard_ts=2.0,
        incident_id=None, facts=facts,
    )  # fmt: skip


def test_the_canonical_spelling_has_sorted_keys_no_spaces_and_plain_utf_8() -> None:
    assert canonical({"z": [1, 2.5, None], "ä": "Grüße 🌍", "a": {"y": 1, "x": True}}) == (
        '{"a":{"x":true,"y":1},"z":[1,2.5,null],"ä":"Grüße 🌍"}'.encode()
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"a": object()}, {1, 2}])
def test_what_has_no_canonical_spelling_is_refused(value: object) -> None:
    with pytest.raises(NotCanonical):
        canonical({"facts": value})


def test_nesting_without_end_is_refused() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(NotCanonical):
        canonical(deep)


def test_a_signature_is_what_anyone_with_the_key_computes() -> None:
    body = canonical({"name": "Zoë", "ok": True})
    assert signature(KEY, body) == hmac.new(KEY, body, hashlib.sha256).hexdigest()


def test_rows_are_numbered_from_one_and_each_names_the_one_before() -> None:
    first, head = append(KEY, Head(), entry("m1"))
    second, head = append(KEY, head, entry("m2"))
    bodies = [json.loads(row.body) for row in (first, second)]
    assert [body["seq"] for body in bodies] == [row.seq for row in (first, second)] == [1, 2]
    assert bodies[0]["prev"] == GENESIS
    assert bodies[1]["prev"] == row_hash(first.body, first.sig)
    assert head == Head(seq=2, hash=row_hash(second.body, second.sig), segment=1)


def test_a_sealed_segments_last_hash_is_the_first_of_the_next() -> None:
    _, head = append(KEY, Head(), entry())
    sealed, following, head = seal(Segment(), head, 9.0)
    assert (sealed.last_seq, sealed.last_hash, sealed.sealed_ts) == (1, head.hash, 9.0)
    assert (following.number, following.first_seq, following.prev) == (2, 2, sealed.last_hash)
    assert head.segment == 2


class TestObservationSignature:
    FACTS = {"ts": 1_700_000_000.25, "zooid": "zähler", "ok": True, "ttr_ms": 100, "extras": {"wo": "Köln"}}

    def test_it_fits_what_was_signed(self) -> None:
        assert is_signed_by(KEY, {**self.FACTS, "sig": observation_signature(KEY, self.FACTS)})

    def test_it_does_not_depend_on_what_the_bus_does_not_keep(self) -> None:
        as_sent = {**self.FACTS, "ttr_ms": 100.0, "niche": None, "incident_id": None}
        assert observation_signature(KEY, as_sent) == observation_signature(KEY, self.FACTS)
        bare = {"ts": 5, "zooid": "z", "ok": False}
        assert observation_signature(KEY, bare) == observation_signature(KEY, {**bare, "ts": 5.0, "extras": {}})

    @pytest.mark.parametrize(
        "change", [{"ok": False}, {"zooid": "zahler"}, {"ttr_ms": 100.5}, {"extras": {"wo": "Koln"}}, {"niche": "x"}]
    )
    def test_any_other_fact_breaks_it(self, change: dict[str, object]) -> None:
        sig = observation_signature(KEY, self.FACTS)
        assert not is_signed_by(KEY, {**self.FACTS, **change, "sig": sig})

    @pytest.mark.parametrize("sig", [None, "", "0" * 64, "ünsigned", 5])
    def test_what_is_no_signature_never_fits(self, sig: object) -> None:
        assert not is_signed_by(KEY, {**self.FACTS, "sig": sig})
        assert not is_signed_by(b"another key of ours", {**self.FACTS, "sig": observation_signature(KEY, self.FACTS)})

    def test_existing_zooids_sign_the_facts_as_they_stand(self) -> None:
        facts = {"ts": 1_700_000_000.0, "zooid": "zähler", "ok": True, "ttr_ms": 100.0}
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        sig = hmac.new(KEY, text.encode("utf-8"), hashlib.sha256).hexdigest()
        assert is_signed_by(KEY, {**facts, "sig": sig})
