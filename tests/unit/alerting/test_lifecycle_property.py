"""Long random lives of an alert against Alerta's table, written out here by hand, with the wanted differences.

The model below knows nothing of lifecycle.py: it keeps the letter that Alerta would show and the facts
which the differences of alerts.md 4 need.
"""

from typing import Any, Final

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from services.alerting import lifecycle
from services.alerting.lifecycle import LETTERS, Answer, Column, Kind, Stimulus, Subject
from services.contracts.alarm import AlarmClass
from services.contracts.alert import Isa, OutOfService, Shelf

NOW: Final = 1_777_640_000_000_000
S: Final = 1_000_000
CLASSES: Final[tuple[AlarmClass, ...]] = ("bell", "manual", "analytics", "health", "audio")
LATCHES: Final = frozenset({"bell", "manual"})
AFTER_S: Final = st.sampled_from((1, 59, 60, 61, 3600))
CAUSES: Final = ("ring-1", "switch-2", "feeder-3")

# Alerta, `alerta/models/alarms/isa_18_2.py` as executed (alerts.md 4). Columns: an alarm of severity
# High, an alarm of severity OK, and the actions ack, unack, shelve, unshelve.
ALERTA: Final = {
    line.split()[0]: dict(zip(("high", "ok", "ack", "unack", "shelve", "unshelve"), line.split()[1:], strict=True))
    for line in """
NORM   UNACK  NORM   UNACK  UNACK  SHLVD  UNACK
UNACK  UNACK  RTNUN  ACKED  UNACK  SHLVD  UNACK
ACKED  ACKED  NORM   ACKED  UNACK  SHLVD  UNACK
RTNUN  UNACK  RTNUN  NORM   UNACK  SHLVD  UNACK
SHLVD  SHLVD  SHLVD  SHLVD  SHLVD  SHLVD  UNACK
DSUPR  UNACK  NORM   UNACK  UNACK  SHLVD  UNACK
OOSRV  UNACK  NORM   UNACK  UNACK  SHLVD  UNACK
""".strip().splitlines()
}
OURS: Final = {"NORM": "A", "UNACK": "B", "ACKED": "C", "RTNUN": "D", "SHLVD": "E", "DSUPR": "F", "OOSRV": "G"}
THEIRS: Final = {letter: name for name, letter in OURS.items()}


class Life(RuleBasedStateMachine):
    """One alert and what the table of alerts.md 4 says of it."""

    @initialize(
        alarm_class=st.sampled_from(CLASSES), avs=st.sampled_from((None, None, 0, 2, 3, 4)), latches=st.booleans()
    )
    def begin(self, alarm_class: AlarmClass, avs: int | None, latches: bool) -> None:
        self.start(alarm_class, avs, latches=latches)

    def start(self, alarm_class: AlarmClass, avs: int | None, *, latches: bool) -> None:
        self.alarm_class, self.avs = alarm_class, avs
        self.latched = alarm_class in LATCHES and latches
        self.now_us = NOW
        self.last_raise_us = 0
        self.isa: Isa = replace(lifecycle.start(alarm_class=alarm_class, at_us=NOW), latched=self.latched)
        # The oracle: what is beneath the covers, and the covers.
        self.active, self.acked, self.disposed = False, True, True
        self.shelf: str | None = None
        self.causes: set[str] = set()
        self.oos = False

    # The oracle

    def beneath(self) -> str:
        if not self.acked:
            return "B" if self.active else "D"
        return "C" if self.active or (self.latched and not self.disposed) else "A"

    def letter(self) -> str:
        return "G" if self.oos else "F" if self.causes else "E" if self.shelf else self.beneath()

    @property
    def hideable(self) -> bool:
        return self.alarm_class != "bell" and (self.avs is None or self.avs < 3)

    def take(self, column: Column, **fields: Any) -> Answer:
        """Let the table answer, and believe it."""
        about = Subject(alarm_class=self.alarm_class, avs=self.avs, last_raise_us=self.last_raise_us)
        before = self.isa
        answer = lifecycle.apply(before, about, Stimulus(column=column, at_us=self.now_us, **fields))
        if answer.kind is Kind.REFUSED:
            assert answer.isa == before
        self.isa = answer.isa
        return answer

    def check(self, answer: Answer, *, refused: bool = False, alerta: str | None = None) -> None:
        """Compare with the oracle; `alerta` is what Alerta shows where no difference is wanted."""
        assert (answer.kind is Kind.REFUSED) == refused
        assert LETTERS[answer.isa.state] == self.letter()
        if alerta is not None:
            assert LETTERS[answer.isa.state] == OURS[alerta]

    # What happens

    @rule(after_s=AFTER_S)
    def raised(self, after_s: int) -> None:
        self.now_us += after_s * S
        was = self.letter()
        bare = self.beneath()
        soon = self.now_us - self.last_raise_us <= 60 * S
        joins = bare == "C" and (soon if self.alarm_class == "bell" else self.active)
        new = not joins and (not self.active or (bare == "C" and self.alarm_class == "bell"))
        alerta: str | None = ALERTA[THEIRS[was]]["high"]
        if was in "FG":
            alerta = None  # wanted: sticky F and G
        elif was == "C" and new:
            alerta = None  # wanted: a press after 60 s, or a latched condition that comes back, asks again
        self.active = True
        if new:
            self.acked = self.disposed = False
        answer = self.take(Column.RAISE)
        self.last_raise_us = self.now_us
        assert answer.new_occurrence == new
        if was in "EFG":
            assert self.letter() == was, "a cover does not go with an alarm"
        self.check(answer, alerta=alerta)

    @rule(after_s=AFTER_S)
    def raised_again(self, after_s: int) -> None:
        self.raised(after_s)

    @rule()
    def more_severe(self) -> None:
        was = self.letter()
        self.acked = self.disposed = False
        if was == "E":
            self.shelf = None  # wanted: severity up breaks a shelf
        answer = self.take(Column.SEVERITY_UP)
        if was in "FG":
            assert self.letter() == was
        # Alerta: a higher severity of an active alarm is UNACK, also of an acknowledged one.
        self.check(answer, alerta="UNACK" if was in "BCE" and self.active else None)

    @rule()
    def cleared(self) -> None:
        was = self.letter()
        latched_c = was == "C" and self.latched and not self.disposed
        alerta: str | None = ALERTA[THEIRS[was]]["ok"]
        if was in "FG" or latched_c or self.shelf == "one_shot":
            alerta = None  # wanted: sticky covers, latching, one-shot shelves
        self.active = False
        if self.shelf == "one_shot":
            self.shelf = None
        self.check(self.take(Column.CLEAR), alerta=alerta)

    @rule()
    def acknowledged(self) -> None:
        was = self.letter()
        allowed = was in "BD"
        alerta = ALERTA[THEIRS[was]]["ack"] if allowed and not (was == "D" and self.latched) else None
        self.acked = self.acked or allowed
        self.check(self.take(Column.ACK), refused=not allowed, alerta=alerta)

    @rule()
    def unacknowledged(self) -> None:
        allowed = self.letter() == "C"
        if allowed:
            self.acked = self.disposed = False
        alerta = "UNACK" if allowed and self.active else None
        self.check(self.take(Column.UNACK), refused=not allowed, alerta=alerta)

    @rule()
    def acknowledgement_times_out(self) -> None:
        if self.letter() == "C":
            self.acked = self.disposed = False
        self.check(self.take(Column.ACK_TIMEOUT))

    @rule()
    def disposed_of(self) -> None:
        was = self.letter()
        if was == "C":
            self.disposed = True
        self.check(self.take(Column.DISPOSE), refused=was not in "AC")

    @rule(mode=st.sampled_from(("timed", "one_shot")), hours=st.sampled_from((1, 2, 2, 2, 3, 8, 9)),
          role=st.sampled_from(("operator", "operator", "supervisor", "auditor")))  # fmt: skip
    def shelved(self, mode: Any, hours: int, role: str) -> None:
        was = self.letter()
        longest = {"operator": 2, "supervisor": 8}.get(role, 0)
        allowed = was in "ABCD" and self.hideable and hours <= longest
        if allowed:
            self.shelf = mode
        shelf = Shelf(mode=mode, until_us=self.now_us + hours * 3600 * S, author="op-kim", reason="roadworks")
        answer = self.take(Column.SHELVE, shelf=shelf, role=role)
        self.check(answer, refused=not allowed, alerta=ALERTA[THEIRS[was]]["shelve"] if allowed else None)

    @rule()
    def unshelved(self) -> None:
        was = self.letter()
        allowed = was in "EFG"
        unacked = not self.acked and self.active
        self.shelf = None
        answer = self.take(Column.UNSHELVE)
        # Wanted: an acknowledged alert comes back as C; Alerta asks again.
        alerta = ALERTA["SHLVD"]["unshelve"] if was == "E" and unacked else None
        self.check(answer, refused=not allowed, alerta=alerta)

    @rule(cause=st.sampled_from(CAUSES))
    def suppressed(self, cause: str) -> None:
        if self.hideable:
            self.causes.add(cause)
        self.check(self.take(Column.SUPPRESS, cause=cause), refused=not self.hideable)

    @rule(cause=st.sampled_from(CAUSES))
    def rule_ends(self, cause: str) -> None:
        self.causes.discard(cause)
        self.check(self.take(Column.RULE_ENDS, cause=cause))

    @rule(role=st.sampled_from(("operator", "supervisor")))
    def taken_out_of_service(self, role: str) -> None:
        allowed = role == "supervisor"
        self.oos = self.oos or allowed
        oos = OutOfService(work_order="wo-7", until_us=self.now_us + 3600 * S, author="sup-lee")
        self.check(self.take(Column.OUT_OF_SERVICE, oos=oos, role=role), refused=not allowed)

    @precondition(lambda self: self.oos)
    @rule()
    def returned(self) -> None:
        self.oos = False
        self.check(self.take(Column.RETURN))

    @precondition(lambda self: not self.oos)
    @rule()
    def returned_without_having_been_out(self) -> None:
        self.check(self.take(Column.RETURN), refused=True)

    # What holds always

    @invariant()
    def the_facts_are_those_of_the_oracle(self) -> None:
        isa = self.isa
        assert (isa.active, isa.acked, isa.disposed) == (self.active, self.acked, self.disposed)
        assert (isa.shelf.mode if isa.shelf else None, set(isa.suppressed_by), isa.oos is not None) == (
            self.shelf, self.causes, self.oos)  # fmt: skip
        assert LETTERS[isa.state] == self.letter()
        assert isa.state == lifecycle.derive(isa)

    @invariant()
    def no_path_hides_a_bell(self) -> None:
        if not self.hideable:
            assert (self.isa.shelf, self.isa.suppressed_by) == (None, ())
            assert LETTERS[self.isa.state] in "ABCDG"

    @invariant()
    def what_nobody_has_acknowledged_is_never_normal(self) -> None:
        if not self.isa.acked:
            assert self.isa.state != "NORMAL"
        if self.isa.latched and not self.isa.disposed:
            assert self.isa.state != "NORMAL"


class BellLife(Life):
    """A bell between a press and out of service: the paths that random lives of all classes take too seldom."""

    shelved = unshelved = suppressed = rule_ends = more_severe = unacknowledged = None  # type: ignore[assignment]
    acknowledgement_times_out = returned_without_having_been_out = None  # type: ignore[assignment]

    @initialize()
    def begin(self) -> None:
        self.start("bell", None, latches=True)


def lives(count: int) -> settings:
    """Return the settings of so many lives, the same on every run."""
    return settings(derandomize=True, max_examples=count, stateful_step_count=60, deadline=None, database=None)


# Together more than 10,000 events: lives have 50 steps on average.
TestLife = Life.TestCase
TestLife.settings = lives(200)
TestBellLife = BellLife.TestCase
TestBellLife.settings = lives(60)
