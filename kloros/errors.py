"""Every exception of the suite, one short tree.

An error's docstring is its message: a template filled with the values the error carries, so that the sentence a
person reads and the fields a program reads cannot drift apart.
"""

from __future__ import annotations

from typing import Any, ClassVar


class KlorosError(Exception):
    """Something went wrong in KLoROS: {detail}"""

    exit_code: ClassVar[int] = 1

    def __init__(self, **values: object) -> None:
        self.values = values
        super().__init__(" ".join((type(self).__doc__ or "").split()).format_map(values))

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["values"][name]
        except KeyError:
            raise AttributeError(name) from None


class ConfigError(KlorosError):
    """{file}: {key}: found {found}, expected {expected}"""

    exit_code = 2


class AlreadyRunning(KlorosError):
    """A {name} is already running here (process {pid}, since {since}, lock {lock}).
    Stop it first, or give this one its own directories (KLOROS_RUNTIME_DIR, KLOROS_STATE_DIR)."""

    exit_code = 2


class CannotObserve(KlorosError):
    """{reason}"""

    def __init__(self, reason: str) -> None:
        super().__init__(reason=reason)


class PictureImpossible(KlorosError):
    """{path} cannot be drawn: {reason}"""


class BusError(KlorosError):
    """The bus refused: {detail}"""


class BusUnreachable(BusError):
    """The bus at {endpoint} did not answer within {timeout_s} s.
    Is the suite running? (systemctl status kloros-chem-proxy, or kloros run without systemd)"""

    exit_code = 3


class NoBus(BusUnreachable):
    """There is no bus at {endpoint}. {hint}"""


class SchedulerSilent(KlorosError):
    """No scheduler answered within {timeout_s:g} s.
    Is it running? (kloros status; systemctl status kloros-scheduler)"""

    exit_code = 3


class AffectSilent(KlorosError):
    """Nobody told within {timeout_s:g} s how the machine feels.
    Is affect running, and 10 s old? (kloros status; systemctl status kloros-affect)"""

    exit_code = 3


class NotAConsumer(KlorosError):
    """{target}: {reason}"""

    exit_code = 2


class SuiteFailed(KlorosError):
    """{daemon} ended: {reason}. Everything was stopped; the log: {log}"""


class EndpointRefused(BusError):
    """The bus cannot use {endpoint}: {reason}"""

    exit_code = 2


class UnknownSignal(BusError):
    """{signal!r} is not in the vocabulary{hint}.
    The signals are listed in docs/wire.md; declare your own with kloros.chembus.vocabulary.declare."""

    exit_code = 2


class BadFacts(BusError):
    """{signal} was given facts it does not carry: {detail}"""

    exit_code = 2


class Oversize(BusError):
    """{signal} would be {size_bytes} bytes; a message may be at most {limit_bytes}"""


class RateLimited(BusError):
    """{signal} is emitted faster than its limit of {rate_per_s}/s"""


class NotJournaled(BusError):
    """The journal did not confirm {signal} (message {message_id}) within {timeout_s:g} s: {reason}.
    It was not acknowledged; whether it is kept is not known."""

    exit_code = 3


class OutboxFull(KlorosError):
    """{signal} cannot be kept: {limit} signals wait in memory already, because the disk cannot be written ({reason})"""

    exit_code = 4


class StoreUnusable(KlorosError):
    """The store {path} cannot be used: {reason}"""

    exit_code = 4


class ScheduleRefused(KlorosError):
    """The schedule stays as it is: {schedule}: {reason}"""

    exit_code = 2


class HelperAway(KlorosError):
    """There is no privileged helper at {path} ({reason}). It comes with the installed suite: kloros-helper.socket."""


class HelperSilent(KlorosError):
    """The privileged helper did not answer within {timeout_s:g} s"""


class HelperRefused(KlorosError):
    """The privileged helper refused: {reason}"""


class HelperFailed(KlorosError):
    """The privileged helper could not do it: {reason}"""


class ArtifactRefused(KlorosError):
    """The artifact {artifact} is refused: {reason}"""


class SubjectFailed(KlorosError):
    """The subject {module} failed: {reason}"""


class KeyUnusable(KlorosError):
    """The key {path} cannot be used: {reason}"""

    exit_code = 2


class LedgerBroken(StoreUnusable):
    """The ledger in {path} is not as it was left: {reason}. `kloros ledger verify` tells what is wrong; nothing is
    written until it is whole, or moved away so that a new one can begin."""
