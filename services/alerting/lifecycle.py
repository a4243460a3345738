"""The ISA-18.2 state table of alerts.md 4, one row per arc. Pure: facts and a stimulus in, facts and a reason out.

Five facts are kept (active, acked, disposed, and the covers shelf, suppression, out of service); the
state is derived from them, so that nothing is lost while an alert is covered. Versions, priorities
and who is told stand elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from msgspec.structs import replace

from services.contracts.alarm import LATCHING, AlarmClass
from services.contracts.alert import Isa, IsaState, OutOfService, Shelf

NUISANCE_PRESS_US: Final = 60_000_000
"""A press this soon after the last one on an acknowledged bell only counts."""
AVS_NEVER_HIDDEN: Final = 3
SHELF_MAX_US: Final[dict[str, int]] = {"operator": 2 * 3_600_000_000, "supervisor": 8 * 3_600_000_000}


class Column(StrEnum):
    """What can happen to an alert: the columns of the table."""

    RAISE = "raise"
    SEVERITY_UP = "severity_up"
    CLEAR = "clear"
    ACK = "ack"
    UNACK = "unack"
    SHELVE = "shelve"
    UNSHELVE = "unshelve"
    SUPPRESS = "suppress"
    RULE_ENDS = "rule_ends"
    OUT_OF_SERVICE = "out_of_service"
    RETURN = "return"
    ACK_TIMEOUT = "ack_timeout"
    DISPOSE = "dispose"


class Kind(StrEnum):
    """What became of a stimulus."""

    APPLIED = "applied"
    COUNTED = "counted"
    IGNORED = "ignored"
    REFUSED = "refused"


class Reason(StrEnum):
    """Why: the same word stands in the event, the log and the metric."""

    NEW_OCCURRENCE = "new_occurrence"
    STILL_ACTIVE = "still_active"
    PRESSED_AGAIN_SOON = "pressed_again_soon"
    COVERED = "covered"
    SEVERITY_UP = "severity_up"
    SOUND_AGAIN = "sound_again"
    SHELF_BROKEN = "shelf_broken"
    CLEARED = "cleared"
    ALREADY_CLEAR = "already_clear"
    ONE_SHOT_SHELF_ENDED = "one_shot_shelf_ended"
    ACKED = "acked"
    ACKED_LATCHED = "acked_latched"
    UNACKED = "unacked"
    SHELVED = "shelved"
    SHELF_ENDED = "shelf_ended"
    SUPPRESSED = "suppressed"
    CAUSE_ADDED = "cause_added"
    CAUSE_KEPT = "cause_kept"
    CAUSE_ENDED = "cause_ended"
    OTHER_CAUSE_REMAINS = "other_cause_remains"
    NO_SUCH_CAUSE = "no_such_cause"
    TAKEN_OUT_OF_SERVICE = "taken_out_of_service"
    NEW_EXPIRY = "new_expiry"
    RETURNED = "returned"
    ACK_TIMED_OUT = "ack_timed_out"
    DISPOSED = "disposed"
    DISPOSED_WHILE_ACTIVE = "disposed_while_active"
    DISPOSITION_NOTED = "disposition_noted"
    NOT_APPLICABLE = "not_applicable"
    NOTHING_TO_ACK = "nothing_to_ack"
    ALREADY_ACKED = "already_acked"
    NOT_ACKED = "not_acked"
    ALREADY_SHELVED = "already_shelved"
    NOT_SHELVED = "not_shelved"
    NOT_OUT_OF_SERVICE = "not_out_of_service"
    BELL_IS_NEVER_HIDDEN = "bell_is_never_hidden"
    THREAT_IS_NEVER_HIDDEN = "threat_is_never_hidden"
    SUPERVISOR_ONLY = "supervisor_only"
    INCOMPLETE = "incomplete"
    SHELF_TOO_LONG = "shelf_too_long"
    ACK_FIRST = "ack_first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What the table must know of an alert beside its facts."""

    alarm_class: AlarmClass
    avs: int | None
    last_raise_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stimulus:
    """One thing that happened; the fields a column does not need stay empty."""

    column: Column
    at_us: int
    role: str = "operator"
    shelf: Shelf | None = None
    cause: str = ""
    oos: OutOfService | None = None


class Answer(NamedTuple):
    """The facts after it, what became of the stimulus, and why."""

    isa: Isa
    kind: Kind
    reason: Reason

    @property
    def new_occurrence(self) -> bool:
        return self.reason is Reason.NEW_OCCURRENCE


class Effect(NamedTuple):
    """What an arc does to the facts; `isa.state` is not yet derived."""

    isa: Isa
    kind: Kind
    reason: Reason


Do = Callable[[Isa, Subject, Stimulus], Effect]


class Arc(NamedTuple):
    """One row. `to` lists the letters it may lead to, most usual first."""

    state: IsaState
    column: Column
    to: str
    do: Do


LETTERS: Final[dict[IsaState, str]] = {
    "NORMAL": "A", "UNACK": "B", "ACKED": "C", "RTN_UNACK": "D", "SHELVED": "E", "SUPPRESSED": "F",
    "OUT_OF_SERVICE": "G",
}  # fmt: skip


def start(*, alarm_class: AlarmClass, at_us: int) -> Isa:
    """Return the facts of an alert before its first raise: inactive, acked, disposed."""
    latched = alarm_class in LATCHING
    return Isa(state="NORMAL", since_us=at_us, active=False, acked=True, disposed=True, latched=latched)


def derive(isa: Isa) -> IsaState:
    """Return the state that the facts say."""
    if isa.oos is not None:
        return "OUT_OF_SERVICE"
    if isa.suppressed_by:
        return "SUPPRESSED"
    if isa.shelf is not None:
        return "SHELVED"
    if not isa.acked:
        return "UNACK" if isa.active else "RTN_UNACK"
    return "ACKED" if isa.active or (isa.latched and not isa.disposed) else "NORMAL"


def apply(isa: Isa, subject: Subject, stimulus: Stimulus) -> Answer:
    """Take one arc of the table.

    A refusal leaves the facts as they were. `since_us` moves only when the state does.
    """
    effect = ARCS[isa.state, stimulus.column].do(isa, subject, stimulus)
    state = derive(effect.isa)
    since_us = isa.since_us if state == isa.state else stimulus.at_us
    return Answer(replace(effect.isa, state=state, since_us=since_us), effect.kind, effect.reason)


def _open(isa: Isa, _subject: Subject, _stimulus: Stimulus) -> Effect:
    after = replace(isa, active=True, acked=False, disposed=False)
    return Effect(after, Kind.APPLIED, Reason.NEW_OCCURRENCE)


def _count(isa: Isa, _subject: Subject, _stimulus: Stimulus) -> Effect:
    return Effect(isa, Kind.COUNTED, Reason.STILL_ACTIVE)


def _raise_acked(isa: Isa, subject: Subject, stimulus: Stimulus) -> Effect:
    if subject.alarm_class == "bell":
        if stimulus.at_us - subject.last_raise_us <= NUISANCE_PRESS_US:
            return Effect(replace(isa, active=True), Kind.COUNTED, Reason.PRESSED_AGAIN_SOON)
        # A bell whose clear was lost may still read active: the press of another person must sound.
        return _open(isa, subject, stimulus)
    return _count(isa, subject, stimulus) if isa.active else _open(isa, subject, stimulus)


def _raise_covered(isa: Isa, subject: Subject, stimulus: Stimulus) -> Effect:
    beneath = derive(replace(isa, shelf=None, suppressed_by=(), oos=None))
    if beneath == "ACKED":
        return _raise_acked(isa, subject, stimulus)
    return _count(isa, subject, stimulus) if isa.active else _open(isa, subject, stimulus)


def _more_severe(isa: Isa, _subject: Subject, _stimulus: Stimulus) -> Effect:
    reason = Reason.SEVERITY_UP if isa.acked else Reason.SOUND_AGAIN
    return Effect(replace(isa, acked=False, disposed=False), Kind.APPLIED, reason)


def _more_severe_than_its_shelf(isa: Isa, _subject: Subject, _stimulus: Stimulus) -> Effect:
    after = replace(isa, acked=False, disposed=False, shelf=None)
    return Effect(after, Kind.APPLIED, Reason.SHELF_BROKEN)


def _more_severe_covered(isa: Isa, _subject: Subject, _stimulus: Stimulus) -> Effect:
    return Effect(replace(isa, acked=False, disposed=False), Kind.APPLIED, Reason.COVERED)


def _clear(isa: Isa, _subject: Subject, _stimulus: Stimulus) -> Effect:
    ends_shelf = isa.shelf is not None and isa.shelf.mode == "one_shot"
    if not isa.active and not ends_shelf:
        return Effect(isa, Kind.IGNORED, Reason.ALREADY_CLEAR)
    if ends_shelf:
        return Effect(replace(isa, active=False, shelf=None), Kind.APPLIED, Reason.ONE_SHOT_SHELF_ENDED)
    return Effect(replace(isa, active=False), Kind.APPLIED, Reason.CLEARED)


def _ack(isa: Isa, _subject: Subject, _stimulus: Stimulus) -> Effect:
    reason = Reason.ACKED_LATCHED if isa.latched and not isa.active else Reason.ACKED
    return Effect(replace(isa, acked=True), Kind.APPLIED, reason)


def _unack(isa: Isa, _subject: Subject, _stimulus: Stimulus) -> Effect:
    return Effect(replace(isa, acked=False, disposed=False), Kind.APPLIED, Reason.UNACKED)


def _ack_timeout(isa: Isa, _subject: Subject, _stimulus: Stimulus) -> Effect:
    return Effect(replace(isa, acked=False, disposed=False), Kind.APPLIED, Reason.ACK_TIMED_OUT)


def _shelve(isa: Isa, subject: Subject, stimulus: Stimulus) -> Effect:
    if refusal := _hiding_refused(subject):
        return Effect(isa, Kind.REFUSED, refusal)
    shelf = stimulus.shelf
    if shelf is None or not (shelf.author and shelf.reason):
        return Effect(isa, Kind.REFUSED, Reason.INCOMPLETE)
    if shelf.until_us - stimulus.at_us > SHELF_MAX_US.get(stimulus.role, 0):
        return Effect(isa, Kind.REFUSED, Reason.SHELF_TOO_LONG)
    return Effect(replace(isa, shelf=shelf), Kind.APPLIED, Reason.SHELVED)


def _unshelve(isa: Isa, _subject: Subject, _stimulus: Stimulus) -> Effect:
    if isa.shelf is None:
        return Effect(isa, Kind.IGNORED, Reason.NOT_SHELVED)
    return Effect(replace(isa, shelf=None), Kind.APPLIED, Reason.SHELF_ENDED)


def _suppress(isa: Isa, subject: Subject, stimulus: Stimulus) -> Effect:
    if refusal := _hiding_refused(subject):
        return Effect(isa, Kind.REFUSED, refusal)
    if not stimulus.cause:
        return Effect(isa, Kind.REFUSED, Reason.INCOMPLETE)
    if stimulus.cause in isa.suppressed_by:
        return Effect(isa, Kind.IGNORED, Reason.CAUSE_KEPT)
    reason = Reason.CAUSE_KEPT if isa.oos else Reason.CAUSE_ADDED if isa.suppressed_by else Reason.SUPPRESSED
    after = replace(isa, suppressed_by=(*isa.suppressed_by, stimulus.cause))
    return Effect(after, Kind.APPLIED, reason)


def _rule_ends(isa: Isa, _subject: Subject, stimulus: Stimulus) -> Effect:
    if stimulus.cause not in isa.suppressed_by:
        return Effect(isa, Kind.IGNORED, Reason.NO_SUCH_CAUSE)
    left = tuple(cause for cause in isa.suppressed_by if cause != stimulus.cause)
    reason = Reason.OTHER_CAUSE_REMAINS if left else Reason.CAUSE_ENDED
    return Effect(replace(isa, suppressed_by=left), Kind.APPLIED, reason)


def _out_of_service(isa: Isa, _subject: Subject, stimulus: Stimulus) -> Effect:
    if stimulus.role != "supervisor":
        return Effect(isa, Kind.REFUSED, Reason.SUPERVISOR_ONLY)
    oos = stimulus.oos
    if oos is None or not (oos.work_order and oos.author) or oos.until_us <= stimulus.at_us:
        return Effect(isa, Kind.REFUSED, Reason.INCOMPLETE)
    reason = Reason.NEW_EXPIRY if isa.oos else Reason.TAKEN_OUT_OF_SERVICE
    return Effect(replace(isa, oos=oos), Kind.APPLIED, reason)


def _return(isa: Isa, _subject: Subject, _stimulus: Stimulus) -> Effect:
    return Effect(replace(isa, oos=None), Kind.APPLIED, Reason.RETURNED)


def _note(isa: Isa, _subject: Subject, _stimulus: Stimulus) -> Effect:
    return Effect(isa, Kind.APPLIED, Reason.DISPOSITION_NOTED)


def _dispose(isa: Isa, _subject: Subject, _stimulus: Stimulus) -> Effect:
    reason = Reason.DISPOSED_WHILE_ACTIVE if isa.active else Reason.DISPOSED
    return Effect(replace(isa, disposed=True), Kind.APPLIED, reason)


def _refuse(reason: Reason) -> Do:
    return lambda isa, _subject, _stimulus: Effect(isa, Kind.REFUSED, reason)


def _ignore(isa: Isa, _subject: Subject, _stimulus: Stimulus) -> Effect:
    return Effect(isa, Kind.IGNORED, Reason.NOT_APPLICABLE)


def _hiding_refused(subject: Subject) -> Reason | None:
    if subject.alarm_class == "bell":
        return Reason.BELL_IS_NEVER_HIDDEN
    if subject.avs is not None and subject.avs >= AVS_NEVER_HIDDEN:
        return Reason.THREAT_IS_NEVER_HIDDEN
    return None


_A: Final = "NORMAL"
_B: Final = "UNACK"
_C: Final = "ACKED"
_D: Final = "RTN_UNACK"
_E: Final = "SHELVED"
_F: Final = "SUPPRESSED"
_G: Final = "OUT_OF_SERVICE"
_TO_ACK: Final = _refuse(Reason.NOTHING_TO_ACK)
_NOT_ACKED: Final = _refuse(Reason.NOT_ACKED)
_NOT_SHELVED: Final = _refuse(Reason.NOT_SHELVED)
_SHELVED: Final = _refuse(Reason.ALREADY_SHELVED)
_COVERED: Final = _refuse(Reason.COVERED)
_NOT_OUT: Final = _refuse(Reason.NOT_OUT_OF_SERVICE)
_ACK_FIRST: Final = _refuse(Reason.ACK_FIRST)

TABLE: Final = (
    Arc(_A, Column.RAISE, "B", _open),
    Arc(_B, Column.RAISE, "B", _count),
    Arc(_C, Column.RAISE, "CB", _raise_acked),
    Arc(_D, Column.RAISE, "B", _open),
    Arc(_E, Column.RAISE, "E", _raise_covered),
    Arc(_F, Column.RAISE, "F", _raise_covered),
    Arc(_G, Column.RAISE, "G", _raise_covered),

    Arc(_A, Column.SEVERITY_UP, "BD", _more_severe),
    Arc(_B, Column.SEVERITY_UP, "B", _more_severe),
    Arc(_C, Column.SEVERITY_UP, "BD", _more_severe),
    Arc(_D, Column.SEVERITY_UP, "BD", _more_severe),
    Arc(_E, Column.SEVERITY_UP, "BD", _more_severe_than_its_shelf),
    Arc(_F, Column.SEVERITY_UP, "F", _more_severe_covered),
    Arc(_G, Column.SEVERITY_UP, "G", _more_severe_covered),

    Arc(_A, Column.CLEAR, "A", _clear),
    Arc(_B, Column.CLEAR, "D", _clear),
    Arc(_C, Column.CLEAR, "AC", _clear),
    Arc(_D, Column.CLEAR, "D", _clear),
    Arc(_E, Column.CLEAR, "EABCD", _clear),
    Arc(_F, Column.CLEAR, "F", _clear),
    Arc(_G, Column.CLEAR, "G", _clear),

    Arc(_A, Column.ACK, "A", _TO_ACK),
    Arc(_B, Column.ACK, "C", _ack),
    Arc(_C, Column.ACK, "C", _refuse(Reason.ALREADY_ACKED)),
    Arc(_D, Column.ACK, "AC", _ack),
    Arc(_E, Column.ACK, "E", _COVERED),
    Arc(_F, Column.ACK, "F", _COVERED),
    Arc(_G, Column.ACK, "G", _COVERED),

    Arc(_A, Column.UNACK, "A", _NOT_ACKED),
    Arc(_B, Column.UNACK, "B", _NOT_ACKED),
    Arc(_C, Column.UNACK, "BD", _unack),
    Arc(_D, Column.UNACK, "D", _NOT_ACKED),
    Arc(_E, Column.UNACK, "E", _COVERED),
    Arc(_F, Column.UNACK, "F", _COVERED),
    Arc(_G, Column.UNACK, "G", _COVERED),

    Arc(_A, Column.SHELVE, "EA", _shelve),
    Arc(_B, Column.SHELVE, "EB", _shelve),
    Arc(_C, Column.SHELVE, "EC", _shelve),
    Arc(_D, Column.SHELVE, "ED", _shelve),
    Arc(_E, Column.SHELVE, "E", _SHELVED),
    Arc(_F, Column.SHELVE, "F", _COVERED),
    Arc(_G, Column.SHELVE, "G", _COVERED),

    Arc(_A, Column.UNSHELVE, "A", _NOT_SHELVED),
    Arc(_B, Column.UNSHELVE, "B", _NOT_SHELVED),
    Arc(_C, Column.UNSHELVE, "C", _NOT_SHELVED),
    Arc(_D, Column.UNSHELVE, "D", _NOT_SHELVED),
    Arc(_E, Column.UNSHELVE, "ABCD", _unshelve),
    Arc(_F, Column.UNSHELVE, "F", _unshelve),
    Arc(_G, Column.UNSHELVE, "G", _unshelve),

    Arc(_A, Column.SUPPRESS, "FA", _suppress),
    Arc(_B, Column.SUPPRESS, "FB", _suppress),
    Arc(_C, Column.SUPPRESS, "FC", _suppress),
    Arc(_D, Column.SUPPRESS, "FD", _suppress),
    Arc(_E, Column.SUPPRESS, "FE", _suppress),
    Arc(_F, Column.SUPPRESS, "F", _suppress),
    Arc(_G, Column.SUPPRESS, "G", _suppress),

    Arc(_A, Column.RULE_ENDS, "A", _ignore),
    Arc(_B, Column.RULE_ENDS, "B", _ignore),
    Arc(_C, Column.RULE_ENDS, "C", _ignore),
    Arc(_D, Column.RULE_ENDS, "D", _ignore),
    Arc(_E, Column.RULE_ENDS, "E", _ignore),
    Arc(_F, Column.RULE_ENDS, "FABCDE", _rule_ends),
    Arc(_G, Column.RULE_ENDS, "G", _rule_ends),

    Arc(_A, Column.OUT_OF_SERVICE, "GA", _out_of_service),
    Arc(_B, Column.OUT_OF_SERVICE, "GB", _out_of_service),
    Arc(_C, Column.OUT_OF_SERVICE, "GC", _out_of_service),
    Arc(_D, Column.OUT_OF_SERVICE, "GD", _out_of_service),
    Arc(_E, Column.OUT_OF_SERVICE, "GE", _out_of_service),
    Arc(_F, Column.OUT_OF_SERVICE, "GF", _out_of_service),
    Arc(_G, Column.OUT_OF_SERVICE, "G", _out_of_service),

    Arc(_A, Column.RETURN, "A", _NOT_OUT),
    Arc(_B, Column.RETURN, "B", _NOT_OUT),
    Arc(_C, Column.RETURN, "C", _NOT_OUT),
    Arc(_D, Column.RETURN, "D", _NOT_OUT),
    Arc(_E, Column.RETURN, "E", _NOT_OUT),
    Arc(_F, Column.RETURN, "F", _NOT_OUT),
    Arc(_G, Column.RETURN, "ABCDEF", _return),

    Arc(_A, Column.ACK_TIMEOUT, "A", _ignore),
    Arc(_B, Column.ACK_TIMEOUT, "B", _ignore),
    Arc(_C, Column.ACK_TIMEOUT, "BD", _ack_timeout),
    Arc(_D, Column.ACK_TIMEOUT, "D", _ignore),
    Arc(_E, Column.ACK_TIMEOUT, "E", _ignore),
    Arc(_F, Column.ACK_TIMEOUT, "F", _ignore),
    Arc(_G, Column.ACK_TIMEOUT, "G", _ignore),

    Arc(_A, Column.DISPOSE, "A", _note),
    Arc(_B, Column.DISPOSE, "B", _ACK_FIRST),
    Arc(_C, Column.DISPOSE, "CA", _dispose),
    Arc(_D, Column.DISPOSE, "D", _ACK_FIRST),
    Arc(_E, Column.DISPOSE, "E", _COVERED),
    Arc(_F, Column.DISPOSE, "F", _COVERED),
    Arc(_G, Column.DISPOSE, "G", _COVERED),
)  # fmt: skip
ARCS: Final[dict[tuple[IsaState, Column], Arc]] = {(arc.state, arc.column): arc for arc in TABLE}
