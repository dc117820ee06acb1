"""What the privileged helper may be asked, and its answer: one JSON object each, one exchange per connection.

What does not fit exactly is refused. Names of units are those that systemd itself accepts; whether the helper does what
is asked is for its policy to say.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

SOCKET = "helper.sock"
MOST_BYTES = 4096

UnitName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9:_.\\@-]+\.(service|socket|timer|mount|path)\Z", max_length=255)]
Factor = Annotated[float, Meta(gt=1, le=100)]
Property = Literal["MemoryMax", "TasksMax", "LimitNOFILE"]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb"):
    """`by` says for whom it is; it is only logged."""

    by: Annotated[str, Meta(max_length=200)] = ""


class Restart(Request, frozen=True, kw_only=True, tag="restart"):
    """Restart a unit, or start it."""

    unit: UnitName


class Start(Request, frozen=True, kw_only=True, tag="start"):
    """Start a unit."""

    unit: UnitName


class ResetFailed(Request, frozen=True, kw_only=True, tag="reset-failed"):
    """Forget that a unit failed, and how often it was started."""

    unit: UnitName


class SetLimit(Request, frozen=True, kw_only=True, tag="set-limit"):
    """Raise a limit of a unit to `factor` times what it is; until the next boot, unless it is to be `persistent`."""

    unit: UnitName
    property: Property
    factor: Factor
    persistent: bool = False


class RevertLimit(Request, frozen=True, kw_only=True, tag="revert-limit"):
    """Take back a limit that the helper raised."""

    unit: UnitName
    property: Property


class VacuumJournal(Request, frozen=True, kw_only=True, tag="vacuum-journal"):
    """Let journald drop its oldest files until so much is left."""

    keep_mb: Annotated[int, Meta(ge=1, le=1 << 24)]


AnyRequest = Restart | Start | ResetFailed | SetLimit | RevertLimit | VacuumJournal


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of it. `refused`: it was not tried, by policy; `failed`: it was tried, or systemd said no.

    `before` and `after`: the limit's value, or the bytes that the journal takes up.
    """

    outcome: Literal["done", "refused", "failed"]
    reason: str = ""
    before: int | None = None
    after: int | None = None


def decode_request(line: bytes) -> AnyRequest:
    """Raises msgspec.DecodeError for anything that is not exactly a request."""
    request: AnyRequest = msgspec.json.decode(line, type=AnyRequest)
    return request
